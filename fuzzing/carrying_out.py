"""Commands, carried out in this process."""

from __future__ import annotations

import contextlib
import io
import logging

from fuzzing.kinds import COMMANDS
from ttc_sim.base.errors import InputError


def carry_out(words: list[str]) -> tuple[int, str]:
    """Exit status of a command line, and what it says to the user.

    Raises:
        BaseException: whatever the command raises that is no mistake of the user's.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    logging.getLogger().handlers.clear()  # they hold on to the streams of the case before
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            COMMANDS[()].main(words, prog_name="ttc-sim")
            status = 0
        except InputError as error:
            print(f"error: {error}", file=err)
            status = 1
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    return status, err.buffer.getvalue().decode()
