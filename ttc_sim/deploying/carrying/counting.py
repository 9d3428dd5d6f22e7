"""Tokens of a request's calls: as the endpoint counts them or, where it does not, as what came of them and other calls tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Literal

from ttc_sim.collecting.answers import Tokens
from ttc_sim.deploying.carrying.messages import Messages, text_of
from ttc_sim.deploying.carrying.streamed import USAGE, Streamed

Phase = Literal["thinking", "answer"] | None
"""Of an answer, that all of a call's output belongs to, if it is one alone."""
NOTHING = Tokens(0, 0, 0, 0, "nothing came")


class Counting:
    """What the calls of one request tell of each other.

    Args:
        note: told of what is an estimate.
    """

    def __init__(self, note: Callable[[str], object]) -> None:
        self._note = note
        self._prompts: dict[tuple[str, bytes], int] = {}
        self._hidden: dict[str, float] = {}  # tokens a second, where thinking is counted and not sent

    def tokens(
        self,
        streamed: Streamed,
        status: str,
        deployment: str,
        messages: Messages,
        prompt_tokens: int | None,
        took_s: float,
        phase: Phase,
    ) -> Tokens:
        """Of one call, as far as it came.

        Args:
            status: of the call; prompt_tokens: that its prompt is taken to have, four characters each if left out.
            took_s: seconds that it was on its way.
        """
        if not streamed.began and status not in ("stopped", "timed_out"):
            return NOTHING
        key = deployment, hashlib.blake2b(json.dumps(list(messages), default=repr).encode()).digest()
        if prompt_tokens is None:
            prompt_tokens = sum(len(text_of(one.get("content"))) for one in messages) // 4 + 1
        found = streamed.tokens(self._prompts.get(key, prompt_tokens), all_of_it=status == "answered")
        made = found.reasoning + found.visible
        if found.counted.startswith(USAGE):
            self._prompts[key] = found.prompt
            if found.reasoning and streamed.n == 1 and took_s > 0 and not streamed.answers[0].parts()[0]:
                self._hidden[deployment] = made / took_s
        else:
            self._note("tokens of calls that sent no usage are estimated: what thinking was not sent may be missing")
            if streamed.n == 1 and status in ("stopped", "timed_out") and deployment in self._hidden:
                # As fast as another call of the same request.
                made = max(made, round(self._hidden[deployment] * took_s))
                found = Tokens(found.prompt, found.cached, made - found.visible, found.visible, found.counted)
        if phase is None:
            return found
        thought = made if phase == "thinking" else 0
        return Tokens(found.prompt, found.cached, thought, made - thought, found.counted)


__all__ = ["Counting", "Phase"]
