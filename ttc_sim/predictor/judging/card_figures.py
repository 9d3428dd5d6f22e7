"""What the card beside a predictor's ONNX file says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.files.documents import read_yaml
from ttc_sim.files.opening import is_file
from ttc_sim.predictor.judging.score_quantiles import CardScores, from_card

_ON_CARDS = ("rate", "auroc", "brier", "calibration_error")


def card_path(model: Path) -> Path:
    """The card of ``name.onnx`` is ``name.card.yaml`` beside it."""
    return model.parent / f"{model.stem}.card.yaml"


def training_rates(model: Path) -> dict[str, float]:
    """By head, the share right in the predictor's training data, as the card beside the ONNX file names it (key ``rate``)."""
    return {head: figures["rate"] for head, figures in card_figures(model).items() if "rate" in figures}


def card_figures(model: Path) -> dict[str, dict[str, float]]:
    """By head, the figures (``rate``, ``auroc``, ``brier``, ``calibration_error``) that the card beside the ONNX file names.

    Of a head that the card names several times, what stands first; figures on task types left out are passed over.
    """
    found: dict[str, dict[str, float]] = {}
    _gather(read_card(model), found)
    return found


def card_scores(model: Path) -> dict[str, CardScores]:
    """By training set, how its problems' scores are distributed; nothing where the card does not say.

    Raises:
        InputError: the card is no YAML, or says it in another way.
    """
    path, card = _card(model)
    return from_card(card, path)


def read_card(model: Path) -> Any:
    """What the card beside an ONNX file says; ``None`` where there is none.

    Raises:
        InputError: the card is no YAML.
    """
    return _card(model)[1]


def adapted_from(model: Path) -> list[str]:
    """Names of the predictors that this one was adapted from, the first first, as its card says; none if it was not adapted."""
    card = read_card(model)
    times = card.get("adapted") if isinstance(card, Mapping) else None
    said = times.values() if isinstance(times, Mapping) else ()
    return [str(one["of"]) for one in said if isinstance(one, Mapping) and "of" in one]


def _card(model: Path) -> tuple[Path, Any]:
    """The card and where it stands; nothing (``None``) where there is none."""
    for path in (model.parent / f"{model.stem}.yaml", card_path(model), model.parent / "card.yaml"):
        if is_file(path):
            return path, read_yaml(path)
    return card_path(model), None


def _gather(node: Any, found: dict[str, dict[str, float]]) -> None:
    for key, value in node.items() if isinstance(node, Mapping) else ():
        if not isinstance(value, Mapping) or "left_out" in str(key) or key == "new_task_types":
            continue
        figures = {name: float(value[name]) for name in _ON_CARDS if isinstance(value.get(name), (int, float))}
        head = found.setdefault(str(key).removeprefix("p:"), {}) if figures else {}
        for name, figure in figures.items():
            head.setdefault(name, figure)
        _gather(value, found)


__all__ = ["adapted_from", "card_figures", "card_path", "card_scores", "read_card", "training_rates"]
