"""A plan's runtime carries requests out, and logs what became of them, as it is asked: by threads, in event loops, by clients."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ttc_sim as ttc
from tests.replaying import MANNER, PROBLEMS, PROMPT, Replaying, endpoint, question, scenario, server, write_profile
from tests.routing import runtime_of, saved_plan
from ttc_sim.base.errors import InputError
from ttc_sim.deploying import Runtime
from ttc_sim.deploying.logs import read_logs

__all__ = ["server"]
ARMS = {
    "vote": {"strategy": "MajorityVote(n=4)", "fallback": "alone"},
    "alone": {"strategy": "Single(cap=100)", "deployment": "v"},
}
POLICY = "Threshold(at=20, below='alone', above='vote', score='prompt_tokens')"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_profile(tmp_path_factory.mktemp("home"), PROBLEMS).parent
    return saved_plan(folder / "plan.yaml", scenario(ARMS, path=str(folder / "scenario.yaml"), policy=POLICY))


def at_work(plan: Path, server: Replaying, log: Path) -> Runtime:
    return runtime_of(plan, endpoints={name: endpoint(server) for name in "dv"}, log=log, manner=MANNER)


def test_what_is_run_is_routed_carried_out_and_logged(plan: Path, server: Replaying, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    runtime = at_work(plan, server, log)
    asked = question("run b", PROBLEMS["b"])
    vote, reply = runtime.run(asked, prompt_tokens=PROMPT)
    alone, other = runtime.run(
        "run c", prompt_tokens=4, messages=[{"role": "user", "content": question("run c", PROBLEMS["c"][:1])}]
    )
    assert (vote.arm, vote.status, vote.calls, alone.arm, alone.calls) == ("vote", "answered", 1, "alone", 1)
    assert reply.text is not None
    assert reply.text.endswith("wrong")  # three of four
    assert other.text == PROBLEMS["c"][0][1]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = ["decision" if "ttc_sim_decision" in line else "outcome" for line in lines]
    assert kinds == ["decision", "outcome"] * 2
    assert [line["request"] for line in lines] == [vote.request] * 2 + [alone.request] * 2
    assert "think" not in log.read_text()
    found = read_logs([log], ttc.load_plan(plan))
    assert found.usd.tolist() == pytest.approx([vote.usd, alone.usd])


def test_requests_side_by_side_are_told_apart(plan: Path, server: Replaying, tmp_path: Path) -> None:
    runtime = at_work(plan, server, tmp_path / "log.jsonl")
    keys = [list(PROBLEMS)[k % 3] for k in range(24)]
    asked = [question(f"side {k}", PROBLEMS[key][k % 4 : k % 4 + 1]) for k, key in enumerate(keys)]
    says = [PROBLEMS[key][k % 4][1] for k, key in enumerate(keys)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda one: runtime.run(one, prompt_tokens=4), asked))
    assert [reply.text for _, reply in found] == says

    async def together() -> list[str | None]:
        made = await asyncio.gather(*(runtime.run_async(one, prompt_tokens=4) for one in asked))
        return [reply.text for _, reply in made]

    assert asyncio.run(together()) == says
    counts = read_logs([tmp_path / "log.jsonl"], ttc.load_plan(plan))
    assert len(counts.usd) == 48


def test_who_stops_waiting_is_logged_and_a_missing_endpoint_is_refused_before_anything(
    plan: Path, server: Replaying, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    runtime = at_work(plan, server, log)

    async def impatient() -> None:
        waiting = runtime.run_async(question("slow", PROBLEMS["a"][:1], pause=1.5), prompt_tokens=4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 1.0)

    asyncio.run(impatient())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line.get("status") for line in lines] == [None, "timed_out"]
    bare = runtime_of(plan, endpoints={"d": endpoint(server)}, log=tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="v"):
        bare.run("What is 2 + 2?")
    assert not (tmp_path / "none.jsonl").exists() or not (tmp_path / "none.jsonl").read_text()
