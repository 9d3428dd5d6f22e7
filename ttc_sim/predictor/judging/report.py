"""The report of what a predictor is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ttc_sim.base.estimates import Estimate
from ttc_sim.predictor.judging.metrics import PartBrier, Quality
from ttc_sim.predictor.judging.routing import SHARES, Routing


@dataclass(frozen=True)
class ModelReport:
    """One model's figures.

    Attributes:
        head: head of the predictor that was read, or ``1 - difficulty`` where it has none for the model.
        rate_from: where the constant's rate comes from.
        by_novelty: Brier scores on ``familiar`` and on ``novel`` prompts (novelty of at least ``NOVEL``); ``None`` where novelty
            is not scored.
        auroc_gain: by baseline, how much higher the predictor's AUROC is, on the same resamples.
    """

    quality: Quality
    head: str
    rate_from: str
    auroc_gain: Mapping[str, Estimate]
    by_novelty: Mapping[str, PartBrier] | None = None


@dataclass(frozen=True)
class RouterReport:
    """A router between two models. ``score`` says by what it routes; ``problems`` have attempts by both."""

    weak: str
    strong: str
    score: str
    routing: Routing
    problems: int


@dataclass(frozen=True)
class BaselineReport:
    """The same figures of one baseline."""

    models: Mapping[str, Quality]
    router: Routing | None


@dataclass(frozen=True)
class Report:
    """What :func:`evaluate_predictor` found.

    Attributes:
        predictor: what was evaluated; resampled: what intervals resample.
        models: by name in the data; baselines: by name; router: if a weak and a strong model were named.
        notes: what a reader of any figure must know.
    """

    predictor: str
    problems: int
    resampled: str
    models: Mapping[str, ModelReport]
    baselines: Mapping[str, BaselineReport]
    router: RouterReport | None
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        router = self.router
        return {
            "predictor": self.predictor,
            "problems": self.problems,
            "resampled": self.resampled,
            "models": {
                name: {
                    **asdict(report.quality),
                    "head": report.head,
                    "rate_from": report.rate_from,
                    "auroc_gain": {other: asdict(gain) for other, gain in report.auroc_gain.items()},
                    **_novelty_json(report.by_novelty),
                }
                for name, report in self.models.items()
            },
            "router": None if router is None else _router_json(router.routing, router),
            "baselines": {
                name: {
                    "models": {model: asdict(found) for model, found in report.models.items()},
                    "router": None if report.router is None else _router_json(report.router),
                }
                for name, report in self.baselines.items()
            },
            "notes": list(self.notes),
        }


def _novelty_json(found: Mapping[str, PartBrier] | None) -> dict[str, object]:
    return {} if found is None else {"by_novelty": {part: asdict(one) for part, one in found.items()}}


def _router_json(found: Routing, report: RouterReport | None = None) -> dict[str, object]:
    points = zip(SHARES.tolist(), found.accuracy.tolist(), found.oracle.tolist(), strict=True)
    return {
        **{name: asdict(getattr(found, name)) for name in ("apgr", "cpt50", "cpt80", "oracle_gap")},
        **({} if report is None else {"routed_by": report.score, "problems": report.problems}),
        **({} if report is None else {"weak_model": report.weak, "strong_model": report.strong}),
        "weak_accuracy": asdict(found.weak),
        "strong_accuracy": asdict(found.strong),
        "resamples_undefined": found.undefined,
        "curve": [{"strong_share": c, "accuracy": a, "oracle_accuracy": o} for c, a, o in points],
    }
