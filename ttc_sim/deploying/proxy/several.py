"""A request to an arm of several calls: votes, verifiers, forced answers, cascades. It is answered in one piece."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from ttc_sim.deploying.carrying import Carrying
from ttc_sim.deploying.carrying import Reply as Carried
from ttc_sim.deploying.decisions import Decision, Outcome, nothing_sent
from ttc_sim.deploying.proxy.asked import Asked
from ttc_sim.deploying.proxy.calling import Receiver
from ttc_sim.deploying.proxy.refusals import RefusedError
from ttc_sim.deploying.proxy.replying import Where
from ttc_sim.deploying.runtime import Runtime
from ttc_sim.strategies import Single, Strategy

UNFIT = (
    *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format", "stop", "seed"),
    *("logprobs", "top_logprobs", "prediction", "audio", "modalities"),
)
"""Keys of a request that texts which are voted on, judged or continued do not go with, or that would make attempts alike."""
_STATUS = {"timed_out": 504, "rejected": 429}


def is_one_call(strategy: Strategy) -> bool:
    """Whether it is a call with a limit and nothing else, whose answer can be passed on as it comes."""
    return type(strategy) is Single and (strategy.cap is None or strategy.on_cap == "truncate")


@dataclass
class Several:
    """One request on its way.

    Attributes:
        outcome: what became of it, once it has ended.
    """

    runtime: Runtime
    carrying: Carrying
    asked: Asked
    decision: Decision
    to: Receiver
    outcome: Outcome | None = None
    began: float = field(default_factory=time.time)
    _notes: tuple[str, ...] = ()

    @property
    def where(self) -> Where:
        """Where it is answered."""
        arm = self.decision.arm if self.outcome is None else self.outcome.arm
        deployment = self.runtime.scenario.arms[arm].deployment
        return Where(arm, deployment, self.decision.request, "; ".join((self.decision.why, *self._notes)))

    async def answer(self) -> None:
        """Answer it, and log what became of it.

        Raises:
            RefusedError: nothing does.
        """
        body = {name: value for name, value in self.asked.passed_on().items() if name not in _OWN}
        try:
            self._check(body)
        except RefusedError:
            self._ended(nothing_sent(self.decision.request, self.decision.arm))
            raise
        outcome, reply = await self.carrying.carry_out(
            self.decision, self.asked.body["messages"], body=body, limit=self.asked.limit, left=self._ended
        )
        self._notes = reply.notes
        self._ended(outcome)
        if outcome.status != "answered":
            said = "; ".join(reply.notes) or f"{outcome.arm} did not answer"
            raise RefusedError(_STATUS.get(outcome.status, 502), said)
        await self._pass(reply, outcome)

    def _ended(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.runtime.log(outcome.as_line())
        self.runtime.answered(self.decision, outcome.output_tokens)

    def _check(self, body: dict[str, Any]) -> None:
        found = [name for name in UNFIT if body.get(name) is not None]
        found += ["n"] if self.asked.answers > 1 else []
        if found:
            strategy = self.runtime.strategies[self.decision.arm]
            said = f"the plan sends this to {self.decision.arm}, {strategy!r}, which may take several calls: no {found[0]} there"
            raise RefusedError(400, said, param=found[0], code="unfit_for_arm")

    async def _pass(self, reply: Carried, outcome: Outcome) -> None:
        reason = "length" if reply.cut_off else "stop"
        message = {"role": "assistant", "content": reply.text or ""}
        made = {
            "id": f"chatcmpl-{self.decision.request}",
            "created": int(self.began),
            "model": self.runtime.scenario.name,
        }
        if not self.asked.stream:
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
            whole = {**made, "object": "chat.completion", "choices": [choice], "usage": _usage(outcome)}
            await self.to.whole(json.dumps(whole).encode())
            return
        made["object"] = "chat.completion.chunk"
        pieces: list[dict[str, Any]] = [
            {**made, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {**made, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        ]
        if self.asked.wants_usage:
            pieces.append({**made, "choices": [], "usage": _usage(outcome)})
        await self.to.begin()
        for piece in pieces:
            await self.to.part(b"data: " + json.dumps(piece).encode() + b"\n\n")
        await self.to.part(b"data: [DONE]\n\n")
        await self.to.end()


_OWN = ("model", "messages", "stream", "stream_options", "n")


def _usage(outcome: Outcome) -> dict[str, Any]:
    """Of all its calls."""
    made = outcome.reasoning_tokens + outcome.visible_tokens
    return {
        "prompt_tokens": outcome.prompt_tokens,
        "completion_tokens": made,
        "total_tokens": outcome.prompt_tokens + made,
        "prompt_tokens_details": {"cached_tokens": outcome.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": outcome.reasoning_tokens},
    }


__all__ = ["UNFIT", "Several", "is_one_call"]
