"""``onnx``: the plan's predictor as it is, with a manifest of what goes in and comes out, and an example that runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.bands import bands_by, needs_predictor, policy_of, sources_of
from ttc_sim.deploying.exports.features import not_expressed
from ttc_sim.deploying.exports.target import Export
from ttc_sim.files.opening import is_file
from ttc_sim.measured.provenance import identify
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import TURN, innermost
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.card_figures import card_path
from ttc_sim.predictor.reading.features import BUCKETS, MAX_BYTES
from ttc_sim.predictor.running.planned import planned_predictor
from ttc_sim.predictor.running.providers import TEXT
from ttc_sim.predictor.running.session import PER_MODEL

FILE, CARD, MANIFEST, EXAMPLE = "predictor.onnx", "predictor.card.yaml", "manifest.json", "example.py"
SCHEMA = 1
PROMPTS = ("What is 2 + 2?", "Prove that there are infinitely many primes.\n\n1. Begin with a finite list of them.")

_EXAMPLE = '''"""Scores of the prompts in manifest.json by onnxruntime alone; what ttc-sim says of them stands there too."""

import json
from pathlib import Path

import numpy
import onnxruntime

here = Path(__file__).parent
manifest = json.loads((here / "manifest.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(str(here / manifest["file"]), providers=["CPUExecutionProvider"])
for example in manifest["examples"]:
    inputs = {one["name"]: numpy.array(example["inputs"][one["name"]], one["type"]) for one in manifest["inputs"]}
    names = [one["name"] for one in manifest["outputs"]]
    scores = {}
    for one, values in zip(manifest["outputs"], session.run(names, inputs)):
        columns = [f"{one['name']}:{model}" for model in manifest["models"]] if one["per_model"] else [one["name"]]
        scores.update(zip(columns, values.reshape(-1).tolist()))
    print(json.dumps({"prompt": example["prompt"], "scores": scores}))
'''


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """The predictor's file, its card if it has one beside it, a manifest and an example.

    Raises:
        InputError: a plan whose requests are not routed by a predictor; or no such predictor, or another one.
    """
    scenario = plan.scenario
    if not needs_predictor(plan):
        expected = "a plan that routes requests by what a predictor says of them"
        raise InputError(scenario.path, "policy", str(scenario.policy), expected)
    file, _ = planned_predictor(scenario)
    predictor = Predictor.load(file, device="cpu")
    manifest = _manifest(plan, file, predictor)
    files: dict[str, str | bytes] = {FILE: file.read_bytes(), EXAMPLE: _EXAMPLE}
    card = card_path(file)
    if is_file(card):
        files[CARD] = card.read_bytes()
    files[MANIFEST] = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    outside = (
        "predictor: a prompt's numbers are made outside the graph, by ttc_sim.predictor.reading: see 'reading' in "
        + MANIFEST
    )
    how = [f"python {EXAMPLE}, in the folder, with onnxruntime: scores of the prompts of {MANIFEST}"]
    if endpoints:
        how.append("where deployments stand makes no difference to a predictor")
    return Export(files, (*not_expressed(plan, ()), outside), tuple(how))


def _manifest(plan: SavedPlan, file: Path, predictor: Predictor) -> dict[str, Any]:
    known = identify(file)
    read = {source: list(_read_of(plan, source)) for source in sources_of(plan)}
    shapes = {"ids": "int32", "values": "float32", "surface": "float32"}
    examples = [_example(predictor, prompt) for prompt in PROMPTS]
    if TEXT in examples[0]["inputs"]:
        shapes[TEXT] = "int32"
    return {
        "ttc_sim_predictor": SCHEMA,
        "predictor": plan.scenario.predictor,
        "file": FILE,
        "sha256": known.sha256,
        "inputs": [{"name": name, "type": kind} for name, kind in shapes.items()],
        "outputs": [
            *({"name": name, "type": "float32", "per_model": True} for name in PER_MODEL),
            *({"name": name, "type": "float32", "per_model": False} for name in ("difficulty", "novelty")),
        ],
        "models": list(predictor.heads),
        "scores": "an output that is not per model is a score of its name; column k of one that is, is NAME:MODEL of models[k]",
        "policy_reads": read,
        "reading": {
            "by": "ttc_sim.predictor.reading.features.featurize" + (", and .tokens" if TEXT in shapes else ""),
            "most_bytes": MAX_BYTES,
            "ids": f"(prompts, k) buckets, 0 to {BUCKETS - 1}, ascending: words and pairs of words in the lower half, strings of"
            " 4 bytes in the upper; 0 where a prompt has no more",
            "values": "(prompts, k) 1 + ln(count) of each bucket; 0 where a prompt has no more",
            "surface": "(prompts, figures) of ttc_sim.predictor.reading.surface",
            **({TEXT: "(prompts, t) tokens by the tokenizer.json in the file's metadata"} if TEXT in shapes else {}),
        },
        "examples": examples,
    }


def _read_of(plan: SavedPlan, source: str) -> tuple[str, ...]:
    """Scores that the source's policy looks at; of responses the features, which name them."""
    policy = innermost(policy_of(plan, source))
    bands = bands_by(policy)
    if bands is not None:
        return () if bands.score is None else (bands.score,)
    if policy.uses_responses:
        fitted = (plan.scenario.responses or {}).values()
        return tuple(dict.fromkeys(name for one in fitted if source in one.sources for name in one.features))
    by_turn = getattr(policy, "score", None) == TURN
    return () if policy.looks_at_load or by_turn else ("any: it is Python of your own",)


def _example(predictor: Predictor, prompt: str) -> dict[str, Any]:
    read, scores = predictor.read([prompt]), predictor.score([prompt]).table()
    inputs = {"ids": read.ids, "values": read.values, "surface": read.surface}
    if read.tokens is not None:
        inputs[TEXT] = read.tokens
    said = {name: float(column[0]) for name, column in scores.to_dict().items()}
    return {"prompt": prompt, "inputs": {name: values.tolist() for name, values in inputs.items()}, "scores": said}


__all__ = ["CARD", "EXAMPLE", "FILE", "MANIFEST", "export"]
