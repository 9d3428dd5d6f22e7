"""A short run of the fuzz suite (`make fuzz` is the long one), and the suite itself: it finds what is planted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fuzzing import case, workers
from fuzzing.checking import NonsenseError, check_json
from fuzzing.corpus import write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("corpus")
    write_corpus(at)
    return at


def test_broken_inputs_are_refused_or_give_figures_that_can_be(corpus: Path, tmp_path: Path) -> None:
    found = [one for one in workers.outcomes(iter(range(140)), workers.Job(corpus, tmp_path), 1) if one.found]
    assert not found, "\n".join(f"{one.kind}-{one.seed}: {one.found} {one.place}\n{one.trace}" for one in found)


def test_what_gives_way_is_found_and_can_be_replayed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gives_way(*_: object, **__: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr("ttc_sim.simulation.summary.summarize", gives_way)
    monkeypatch.setattr("ttc_sim.simulation.result.summarize", gives_way)
    for seed in range(100):
        folder = tmp_path / f"{seed}"
        outcome = case.carried_out("scenarios", seed, corpus, folder)
        if outcome.found:
            break
    assert outcome.found == "traceback"
    assert outcome.place.endswith("KeyError")
    file = case.kept(outcome, corpus, folder, tmp_path / "findings")
    assert case.replay(file, corpus) == outcome
    monkeypatch.undo()
    assert not case.replay(file, corpus).found


def planted(kind: str, seed: int, corpus: Path, folder: Path) -> case.Outcome:
    """Hangs at 7, dies at 9."""
    while seed == 7:
        seed = 7
    if seed == 9:
        os.abort()
    return case.Outcome(kind, seed)


def test_processes_that_hang_or_die_are_counted_and_cases_go_on(tmp_path: Path) -> None:
    job = workers.Job(tmp_path, tmp_path / "findings", timeout_s=2.0, carry_out=planted)
    got = {one.seed: one.found for one in workers.outcomes(iter(range(5, 12)), job, 1)}
    assert got == {5: "", 6: "", 7: "hang", 8: "", 9: "crash", 10: "", 11: ""}


@pytest.mark.parametrize(
    "content",
    [
        '{"accuracy": {"value": 0.5, "low": 0.6, "high": 0.7}}',
        '{"timeout_rate": {"value": 1.5, "low": 1.0, "high": 2.0}}',
        '{"latency_s": {"p50": {"value": 2.0}, "p95": {"value": 1.0}}}',
        '{"cost_usd_per_request": {"value": -1.0, "low": -2.0, "high": 1.0}}',
        '{"accuracy": NaN}',
        '{"tokens": 5',
    ],
)
def test_nonsense_is_seen(tmp_path: Path, content: str) -> None:
    (tmp_path / "made.json").write_text(content)
    with pytest.raises((NonsenseError, json.JSONDecodeError)):
        check_json(tmp_path / "made.json")
