"""A run, watched from the thread that began it: answers are graded as they come, and Ctrl-C first stops, then leaves."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import dollars
from ttc_sim.base.progress import Counting, Progress, Step
from ttc_sim.collecting.budget import Budget
from ttc_sim.collecting.running import Run
from ttc_sim.collecting.wanted import Attempt

_LOOK_S = 0.2


def oversee(
    run: Run,
    wanted: int,
    earlier: int,
    budget: Budget,
    take: Callable[[Attempt, dict[str, Any]], None],
    say: Progress,
) -> None:
    """Carry a run out.

    Args:
        wanted: answers in all, ``earlier`` of them there already.
        take: what to do with each answer; may raise InputError, which ends the run once what is on its way is there.
        say: told how far it is.

    Raises:
        InputError: the first that ended the run.
        KeyboardInterrupt: once what was on its way is there; interrupted again, at once.
    """
    error: InputError | None = None
    interrupted = False
    done = earlier
    tell = Counting(say, "collecting", wanted, "answers", earlier)
    ended: list[BaseException | None] = []
    thread = threading.Thread(target=_carry_out, args=(run, ended), name="collect", daemon=True)
    thread.start()
    try:
        while True:
            try:
                over = bool(ended)
                try:
                    attempt, line = run.answered.get(timeout=0 if over else _LOOK_S)
                except queue.Empty:
                    if over:
                        break
                else:
                    done += 1
                    if error is None and not interrupted and line["counted"] is not None:
                        take(attempt, line)
                if not run.stopping:
                    tell(done, _meanwhile(run, budget))
            except InputError as found:
                error = found
                run.stop()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
                run.stop()
                say(
                    Step(
                        "stopping",
                        detail=f"{run.in_flight} requests on their way are waited for; Ctrl-C again leaves them",
                    )
                )
    except BaseException:  # interrupted again, wherever that was; or what nobody foresaw
        run.leave()
        thread.join()
        raise
    failed = ended[0]
    while isinstance(failed, BaseExceptionGroup):
        failed = failed.exceptions[0]
    if error := error or run.error:
        raise error
    if interrupted:
        raise KeyboardInterrupt
    if failed is not None:
        raise failed


def _carry_out(run: Run, ended: list[BaseException | None]) -> None:
    """Says how it ended in a list, not in a future: Ctrl-C can strike while the thread that looks holds the future's lock.

    The lock would be held for good then, and the run wait for it.
    """
    try:
        run()
    except BaseException as error:
        ended.append(error)
    else:
        ended.append(None)


def _meanwhile(run: Run, budget: Budget) -> str:
    line = f"{run.in_flight} on their way"
    if sum(run.failures.values()):
        line += f", {sum(run.failures.values()):,} failed"
    if budget.prices is not None:
        line += f", ${dollars(budget.spent_usd)} spent"
        if budget.maybe_usd:
            line += f", up to ${dollars(budget.maybe_usd)} more by failed requests"
        if budget.limit_usd is not None:
            line += f" of ${dollars(budget.limit_usd)}"
    return line
