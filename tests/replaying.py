"""Measured attempts, a scenario that simulates them and a server process that replays them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.conftest import ROOT
from ttc_sim.deploying.carrying import Carrying, Manner
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.scenario import Scenario, scenario_from_dict

CARD = {"origin": "test", "licence": "CC0", "date": "2026-11-26", "tokenizer": "words", "limits": "made up"}
PROMPT = 40
"""Tokens of each prompt."""
Attempt = tuple[int, str]
"""Words of thinking, and what is said: right where it ends with the word right, which is the answer."""
PROBLEMS: dict[str, list[Attempt]] = {
    "a": [(5, "it is right"), (9, "it must be right"), (2, "no"), (14, "so it is wrong after all")],
    "b": [(3, "wrong"), (6, "that is wrong"), (11, "it is right"), (7, "wrong it would be wrong")],
    "c": [(1, "it is right"), (4, "so right"), (16, "wrong"), (21, "it is certainly right")],
}


class Replaying:
    """A server process, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = str(ROOT / "tests" / "replaying_server.py")
        self.process = subprocess.Popen([sys.executable, script, str(folder)], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"

    def asked(self, containing: str = "") -> list[dict[str, Any]]:
        """Calls that are over, of prompts that hold a text."""
        file = self.folder / "asked.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line for line in lines if containing in line["prompt"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replaying]:
    """The process; tests tell their calls apart by what they name in their prompts."""
    made = Replaying(tmp_path_factory.mktemp("replaying"))
    yield made
    made.process.kill()
    made.process.wait()


@dataclass(frozen=True)
class Decided:
    """As much of a decision as is looked at."""

    request: str
    arm: str
    fallbacks: tuple[str, ...] = ()
    prompt_tokens: int = PROMPT


def question(name: str, attempts: list[Attempt] | None = None, **more: Any) -> str:
    """A prompt that makes the server replay these attempts."""
    answers = [{"think": think, "say": say} for think, say in attempts or []]
    return json.dumps({"name": name, "prompt_tokens": PROMPT, "answers": answers, **more})


def verifying(asked: str, answer: str) -> str:
    """What a verifier that is never wrong is asked: as long as the question and the answer together."""
    prompt = json.loads(asked)
    says = "Yes" if answer.split()[-1] == "right" else "No"
    tokens = PROMPT + len(answer.split())
    return json.dumps(
        {"name": f"{prompt['name']} verified", "prompt_tokens": tokens, "answers": [{"say": says}], "n": answer}
    )


MANNER = Manner(extract=lambda text: text.split()[-1], verifying=verifying)


def api(**more: Any) -> dict[str, Any]:
    """An endpoint with a price that no rounding hides."""
    price = {"input_usd_per_mtok": 3.0, "output_usd_per_mtok": 15.0, "reasoning_usd_per_mtok": 11.0}
    times = {"first_token": {"median_s": 1.0}, "per_token": {"median_s": 0.5}}
    return {"kind": "api", "price": price, **times, **more}


def scenario(
    arms: dict[str, Any], deployments: dict[str, Any] | None = None, path: str = "scenario", **more: Any
) -> Scenario:
    """Arms on deployments ``d`` and ``v``, over a profile ``p`` below the folder of ``path``."""
    raw = {
        "name": "carried",
        "replications": 1,
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 1.0},
            "requests": 30,
            "sources": {"all": {"problem_set": "set"}},
        },
        "deployments": {"d": api(), "v": api(), **(deployments or {})},
        "arms": {name: {"deployment": "d", "profile": "p", **arm} for name, arm in arms.items()},
        "policy": f"Always('{next(iter(arms))}')",
        **more,
    }
    return scenario_from_dict(raw, path)


def write_profile(folder: Path, problems: dict[str, list[Attempt]]) -> Path:
    """The problems, and the attempts as a profile; where a scenario would stand beside them."""
    for name, kind, more in (
        ("set", "problem_set", {"cluster": "problem"}),
        ("p", "profile", {"model": "m", "reasoning": "recorded"}),
    ):
        (folder / name).mkdir()
        (folder / name / f"{kind}.yaml").write_text(yaml.safe_dump({**CARD, **more}))
    keys = list(problems)
    table = {"problem": keys, "subset": ["all"] * len(keys), "group": keys, "prompt_tokens": [PROMPT] * len(keys)}
    pl.DataFrame(table).write_parquet(folder / "set" / "problems.parquet")
    rows = [(key, k, *attempt) for key, attempts in problems.items() for k, attempt in enumerate(attempts)]
    attempts = {
        "problem": [row[0] for row in rows],
        "attempt": [row[1] for row in rows],
        "prompt_tokens": [PROMPT] * len(rows),
        "reasoning_tokens": [row[2] for row in rows],
        "visible_tokens": [len(row[3].split()) for row in rows],
        "correct": [row[3].split()[-1] == "right" for row in rows],
        "truncated": [False] * len(rows),
        "answer": [row[3].split()[-1] for row in rows],
    }
    pl.DataFrame(attempts).write_parquet(folder / "p" / "attempts.parquet")
    return folder / "scenario.yaml"


def write_plan(file: Path, planned: Scenario) -> Path:
    """A plan that carries the scenario's policy out."""
    content = planned.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    file.write_text(
        yaml.safe_dump({"ttc_sim_plan": 1, "promised": {}, "made_from": "scenario.yaml", "scenario": content})
    )
    return file


def endpoint(server: Replaying, **more: Any) -> Endpoint:
    """A deployment that stands at the server."""
    return Endpoint(**{"url": server.url, "model": "m", **more})


def carrying(server: Replaying, planned: Scenario, manner: Manner = MANNER, **more: Any) -> Carrying:
    """All deployments at the server."""
    return Carrying(planned, {name: endpoint(server, **more) for name in planned.deployments}, manner)
