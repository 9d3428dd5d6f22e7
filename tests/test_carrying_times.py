"""Timeouts, deadlines, retries, errors and fallbacks, live: requests end when, how and with what tokens the reference engine says.

Time is the event loop's own: it passes when there is nothing to do, so that seconds cost nothing and are exact.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pytest

from tests.replaying import Decided, api, scenario
from ttc_sim.deploying.carrying import Carrying
from ttc_sim.deploying.carrying.live import Live
from ttc_sim.deploying.carrying.manner import verifying_prompt
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.engine import reference
from ttc_sim.engine.work import COMPLETED, FAILED, TIMED_OUT, Work
from ttc_sim.scenario import Api

T = TypeVar("T")
PROMPT, U = 7, 0.37
STATUS = {COMPLETED: "answered", FAILED: "failed", TIMED_OUT: "timed_out"}
AT = Endpoint(url="http://127.0.0.1:9/v1", model="m", body={})


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        look = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None) -> Any:
            self.now += timeout or 0.0
            return look(0)

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now

    def waited(self, for_: Coroutine[Any, Any, T]) -> T:
        try:
            return self.run_until_complete(for_)
        finally:
            self.close()


@dataclass
class Endpoints:
    """A client whose calls take their times, and break, as a simulation's would."""

    works: dict[str, Work]
    after: dict[str, str]
    stages: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.made: Counter[str] = Counter()

    def client(self, name: str) -> Any:
        return _Client(self, name)

    async def events(self, name: str) -> AsyncIterator[dict[str, Any]]:
        work, number = self.works[name], self.made[name]
        self.made[name] += 1
        assert work.breaks is not None
        assert work.again_s is not None
        stage = self.stages.get(name, 0)
        first_s, each_s = float(work.first_token_s[stage]), float(work.per_token_s[stage])
        if number:
            first_s, each_s = (float(one) for one in work.again_s[:, number - 1, stage])
        tokens = int(work.visible_tokens[stage])
        breaks, after = bool(work.breaks[stage, number]), self.after[name]
        ends = 0.5 * (first_s + (tokens - 1) * each_s) if after == "midway" else first_s
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if breaks and after == "at_once":
            raise ConnectionError("broken")
        yield {"choices": [{"index": 0, "delta": {"role": "assistant"}}]}
        for k in range(tokens):
            at = first_s + k * each_s
            if breaks and at > ends:
                break
            await asyncio.sleep(begun + at - loop.time())
            said = {"content": "w"}
            yield {"choices": [{"index": 0, "delta": said, "finish_reason": "stop" if k == tokens - 1 else None}]}
        if breaks:
            await asyncio.sleep(max(begun + ends - loop.time(), 0.0))
            raise ConnectionError("broken")
        prompt = int(work.prompt_tokens[stage])
        yield {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}}


class _Client:
    def __init__(self, at: Endpoints, name: str) -> None:
        self.chat = self.completions = self
        self._at, self._name = at, name

    async def create(self, **_: Any) -> AsyncIterator[dict[str, Any]]:
        return self._at.events(self._name)


def drawn(rng: np.random.Generator) -> tuple[Work, dict[str, Any], str]:
    """Work of one request for an endpoint, and what is done there if it is not answered."""
    retries = int(rng.integers(0, 4))
    on = [one for one in ("error", "timeout") if rng.uniform() < 0.6]
    timeout_s = float(rng.uniform(0.5, 6.0)) if "timeout" in on or rng.uniform() < 0.5 else None
    deadline_s = (timeout_s or 2.0) * float(rng.uniform(1.0, 4.0)) if rng.uniform() < 0.4 else None
    after = str(rng.choice(["at_once", "first_token", "midway"]))
    item: dict[str, Any] = {"retry": {"retries": retries, "base_s": 0.3, "max_s": 1.0, "on": on}}
    item |= {"errors": {"rate": 0.5, "after": after}}
    item |= {name: value for name, value in (("timeout_s", timeout_s), ("deadline_s", deadline_s)) if value is not None}
    index = np.array([0, 1], dtype=np.int64)
    work = Work(
        arrival_s=np.zeros(1),
        stage_start=index,
        deployment=np.zeros(1, dtype=np.int64),
        prompt_tokens=np.array([PROMPT], dtype=np.int64),
        prefix_id=np.array([-1], dtype=np.int64),
        sample_start=index,
        reasoning_tokens=np.zeros(1, dtype=np.int64),
        visible_tokens=rng.integers(2, 12, 1),
        first_token_s=rng.uniform(0.1, 1.0, 1),
        per_token_s=rng.uniform(0.05, 0.6, 1),
        backoff=np.full((1, 4), U),
        breaks=(rng.uniform(size=(1, 5)) < 0.5).astype(np.int8),
        again_s=np.stack([rng.uniform(0.1, 1.0, (4, 1)), rng.uniform(0.05, 0.6, (4, 1))]),
    )
    return work, item, after


@pytest.mark.parametrize("seed", range(6))
def test_requests_end_when_and_as_the_reference_engine_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Live, "draw", lambda _self, _stream: U)
    rng = np.random.default_rng(seed)
    ended: Counter[str] = Counter()
    for case in range(25):
        (one, d, after_d), (two, v, after_v) = drawn(rng), drawn(rng)
        two.deployment[:] = 1
        arms = {"arm": {"strategy": "Single()"}, "other": {"deployment": "v"}}
        planned = scenario(arms, {"d": api(**d), "v": api(**v)})
        items = [planned.deployments[name] for name in "dv"]
        assert all(isinstance(item, Api) for item in items)
        expected = reference.run([one, two], ["d", "v"], items, following=np.array([[1, -1]]))
        assert expected.attempts is not None

        at = Endpoints({"d": one, "v": two}, {"d": after_d, "v": after_v})
        carrying = Carrying(planned, {"d": AT, "v": AT})
        decision = Decided(f"{seed}-{case}", "arm", ("other",), prompt_tokens=PROMPT)
        clients = {name: at.client(name) for name in "dv"}
        outcome, reply = Clock().waited(carrying.carry_out(decision, "hello", clients))

        if any("no time to ask again" in said for said in reply.notes):
            # A simulated client waits until its time is up; this one does not, and has more time for what is next.
            assert outcome.latency_s < expected.finished_s[0] or outcome.status == "answered"
            ended["sooner"] += 1
            continue
        assert outcome.status == STATUS[int(expected.status[0])], (seed, case, reply)
        assert outcome.arm == ("arm", "other")[int(expected.arm[0])]
        assert outcome.latency_s == pytest.approx(float(expected.finished_s[0]), abs=1e-6), (seed, case, reply)
        generated = sum(int(each.sum()) for each in (*expected.generated_tokens, *expected.attempts.lost_generated))
        prompts = sum(int(each.sum()) for each in (*expected.prefilled_tokens, *expected.attempts.lost_prefilled))
        assert (outcome.visible_tokens, outcome.prompt_tokens) == (generated, prompts), (seed, case, reply)
        if outcome.status == "answered":
            assert outcome.first_token_s == pytest.approx(float(expected.first_token_s[0]), abs=1e-6)
        ended[f"{outcome.status} by {outcome.arm}"] += 1
    assert len(ended) >= 3, ended


def together(one: Work, two: Work) -> Work:
    """A verifier's reading after an attempt."""
    assert one.breaks is not None
    assert two.breaks is not None
    assert one.again_s is not None
    assert two.again_s is not None
    read = len(verifying_prompt("hello", "w" * int(one.visible_tokens[0]))) // 4 + 1
    each = ("reasoning_tokens", "visible_tokens", "first_token_s", "per_token_s", "breaks", "prefix_id")
    joined: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(two, name)]) for name in each}
    return replace(
        one,
        stage_start=np.array([0, 2], dtype=np.int64),
        deployment=np.array([0, 1], dtype=np.int64),
        prompt_tokens=np.array([PROMPT, read], dtype=np.int64),
        sample_start=np.array([0, 1, 2], dtype=np.int64),
        again_s=np.concatenate([one.again_s, two.again_s], axis=2),
        **joined,
    )


@pytest.mark.parametrize("seed", range(6))
def test_stages_end_when_and_as_the_reference_engine_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt, and the verifier's reading of it on another deployment, whose own times count from the same moment."""
    monkeypatch.setattr(Live, "draw", lambda _self, _stream: U)
    rng = np.random.default_rng(seed)
    ended: Counter[str] = Counter()
    for case in range(25):
        (one, d, after_d), (two, v, after_v) = drawn(rng), drawn(rng)
        work = together(one, two)
        strategy = "BestOfN(n=1, auroc=0.9, verifier='v', verifier_tokens=20)"
        planned = scenario({"arm": {"strategy": strategy}}, {"d": api(**d), "v": api(**v)})
        items = [planned.deployments[name] for name in "dv"]
        expected = reference.run([work], ["d", "v"], items)

        at = Endpoints({"d": work, "v": work}, {"d": after_d, "v": after_v}, {"v": 1})
        decision = Decided(f"{seed}-{case}", "arm", prompt_tokens=PROMPT)
        clients = {name: at.client(name) for name in "dv"}
        carrying = Carrying(planned, {"d": AT, "v": AT})
        outcome, reply = Clock().waited(carrying.carry_out(decision, "hello", clients))

        assert outcome.status == STATUS[int(expected.status[0])], (seed, case, reply)
        sooner = any("no time to ask again" in said for said in reply.notes)
        ends_s = float(expected.finished_s[0])
        assert outcome.latency_s < ends_s if sooner else outcome.latency_s == pytest.approx(ends_s, abs=1e-6), (
            seed,
            case,
        )
        found = Counter(tokens=outcome.visible_tokens, prompts=outcome.prompt_tokens)
        lost = expected.attempts
        said = Counter(tokens=int(expected.generated_tokens[0].sum()), prompts=int(expected.prefilled_tokens[0].sum()))
        if lost is not None:
            said.update(tokens=int(lost.lost_generated[0].sum()), prompts=int(lost.lost_prefilled[0].sum()))
        assert found == said, (seed, case, reply)
        ended[f"{outcome.status} after {len({one.deployment for one in reply.calls})}"] += 1
    assert len(ended) >= 3, ended
