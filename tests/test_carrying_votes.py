"""Votes that are stopped early, live: after as many answers, with as many tokens, as strategies say of the same attempts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from tests.replaying import Decided, api, scenario
from tests.test_outcomes import attempts_of
from ttc_sim.deploying.carrying import Carrying
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.strategies import carry_out, parse_strategy
from ttc_sim.strategies.outcomes import seeded_trial

AT = Endpoint(url="http://127.0.0.1:9/v1", model="m", body={})
Attempt = tuple[int, int, str]
"""Tokens of thinking and of text, and the answer; without one the limit has ended it."""


class Lockstep:
    """A client whose answers come side by side, a token of each at a time."""

    def __init__(self, attempts: list[Attempt], limit: int | None) -> None:
        self.chat = self.completions = self
        self.attempts, self.limit = attempts, limit

    async def create(self, **asked: Any) -> AsyncIterator[dict[str, Any]]:
        assert asked.get("n", 1) == len(self.attempts)
        assert asked.get("max_tokens") == self.limit
        return self._events()

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        for at in range(max(think + show for think, show, _ in self.attempts)):
            choices = []
            for k, (think, show, answer) in enumerate(self.attempts):
                if at < think + show:
                    last = at == think + show - 1
                    said = {"reasoning": "t"} if at < think else {"content": answer if last else " "}
                    reason = ("length" if self.limit == think + show else "stop") if last else None
                    choices.append({"index": k, "delta": said, "finish_reason": reason})
            yield {"choices": choices}
            # So that who decides may act on it before the next token.
            for _ in range(50 if any(choice["finish_reason"] for choice in choices) else 0):
                await asyncio.sleep(0)
        usage = {"prompt_tokens": 7, "completion_tokens": sum(think + show for think, show, _ in self.attempts)}
        usage |= {"completion_tokens_details": {"reasoning_tokens": sum(one[0] for one in self.attempts)}}  # type: ignore[dict-item]
        yield {"choices": [], "usage": usage}


@pytest.mark.parametrize("certainty", ["True", "0.6", "0.9", "0.97"])
def test_stopped_votes_take_what_strategies_say(certainty: str) -> None:
    rng = np.random.default_rng(11)
    stopped = 0
    for case in range(25):
        n = int(rng.integers(1, 10))
        lengths = rng.choice(np.arange(2, 40), n, replace=False)
        limit = int(lengths.max()) if case % 3 == 0 and n > 1 else None
        attempts = [
            (k := int(rng.integers(0, one - 1)), int(one) - k, "abc"[int(rng.integers(0, 3))]) for one in lengths
        ]
        text = f"MajorityVote(n={n}, stop_early={certainty}, cap={limit})"
        planned = scenario({"arm": {"strategy": text}}, {"d": api()})
        carrying = Carrying(planned, {"d": AT})
        # At its limit an attempt is cut off: the longest of them gives no answer.
        codes = [-1 if limit == think + show else "abc".index(said) for think, show, said in attempts]
        of = attempts_of(
            [[(think, show, code == 0, code) for (think, show, _), code in zip(attempts, codes, strict=True)]]
        )
        expected = carry_out(
            parse_strategy(text.replace(f", cap={limit}", ""), where="test", field="strategy"),
            seeded_trial(of, np.zeros(1, dtype=np.int64)),
        )
        outcome, reply = asyncio.run(
            carrying.carry_out(
                Decided(f"{certainty}-{case}", "arm", prompt_tokens=7), "hello", Lockstep(attempts, limit)
            )
        )
        found = outcome.prompt_tokens, outcome.reasoning_tokens, outcome.visible_tokens
        assert found == tuple(
            int(one[0]) for one in (expected.prompt_tokens, expected.reasoning_tokens, expected.visible_tokens)
        ), (case, attempts)
        assert len(reply.samples) == int(expected.stages[0].needed[0])
        stopped += reply.calls[0].status == "stopped"
        votes = Counter(one.answer for one in reply.samples if one.answer is not None)
        if not votes:
            continue
        (first, most), *others = votes.most_common()
        if not others or others[0][1] < most:
            assert (reply.text or "").strip() == first
            assert bool(expected.correct[0]) == (first == "a")
        assert reply.share == votes[(reply.text or "").strip()] / votes.total()
    assert stopped > 3
