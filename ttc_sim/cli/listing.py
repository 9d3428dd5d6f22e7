"""``ttc-sim list``: what there is by name, found by words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_json

_SHOWN = 12
"""Of one kind, where not all are asked for."""
_CATALOGUE = "the catalogue of GPU operators is not installed: pip install 'ttc-sim[gpus]'"


@dataclass(frozen=True)
class Item:
    """What has a name.

    Attributes:
        kind: one of :data:`KINDS`; name: as scenarios and commands take it; about: what it is, in words.
    """

    kind: str
    name: str
    about: str

    def has(self, words: list[str]) -> bool:
        """Whether all of these are part of what is said of it; letters' case does not count."""
        text = f"{self.kind} {self.name} {self.about}".lower()
        return all(word.lower() in text for word in words)


def _scenarios() -> Iterator[tuple[str, str]]:
    from ttc_sim.base.shipped import shipped_folders
    from ttc_sim.files.documents import read_yaml

    for file in sorted({file for folder in shipped_folders("scenarios") for file in folder.glob("*.yaml")}):
        content = read_yaml(file)
        yield file.stem, str(content.get("description", "")) if isinstance(content, dict) else ""


def _cards(card_file: str, said: Callable[[Any], str]) -> Iterator[tuple[str, str]]:
    from ttc_sim.measured.cards import CARD_FILES, read_card
    from ttc_sim.measured.folders import find_folder, list_profiles

    for name in list_profiles(card_file=card_file):
        try:
            about = said(read_card(find_folder(name, card_file) / card_file, CARD_FILES[card_file]))
        except InputError as error:
            about = f"cannot be read: {error}"
        yield name, about


def _profiles() -> Iterator[tuple[str, str]]:
    def said(card: Any) -> str:
        effort = f" ({card.effort})" if card.effort else ""
        return f"{card.model}{effort}, on {card.problem_set or 'problems of its own'}: {card.origin}"

    return _cards("profile.yaml", said)


def _problem_sets() -> Iterator[tuple[str, str]]:
    return _cards("problem_set.yaml", lambda card: str(card.origin))


def _traffic() -> Iterator[tuple[str, str]]:
    return _cards("traffic.yaml", lambda card: str(card.origin))


def _predictors() -> Iterator[tuple[str, str]]:
    from ttc_sim.base.shipped import PREDICTORS
    from ttc_sim.files.documents import read_yaml
    from ttc_sim.predictor.judging.card_figures import card_path

    own = {str(file): file for file in sorted(Path().glob("*.onnx"))}
    for name, file in {**PREDICTORS, **own}.items():
        card = read_yaml(card_path(file)) if card_path(file).is_file() else {}
        about = str(card.get("model", "")) if isinstance(card, dict) else ""
        yield name, about or "an ONNX file without a card"


def _gpus() -> Iterator[tuple[str, str]]:
    from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE

    for name, price in GPU_PRICES.items():
        yield name, f"${price.usd_per_hour:.2f} an hour on {price.on}, {price.origin}"
    for name in GPUS_WITHOUT_PRICE:
        yield name, "no list price is known"


def _models() -> Iterator[tuple[str, str]]:
    from ttc_sim.serving import catalogue
    from ttc_sim.serving.model_names import ALIASES

    if catalogue.installed() is None:
        return
    together: dict[str, set[str]] = {}
    for model, gpu, _ in catalogue.supported():
        together.setdefault(model, set()).add(gpu)
    for model in catalogue.models():
        gpus = ", ".join(sorted(together.get(model, ())))
        yield model, f"measured on {gpus}" if gpus else "its operators alone were measured"
    for name, model in ALIASES.items():
        yield name, f"of the shape of {model}"


def _prices() -> Iterator[tuple[str, str]]:
    from genai_prices.data import providers

    for provider in providers:
        for model in provider.models:
            if (
                provider.find_model(model.id) is not None
            ):  # some of the table's names are no names that it finds them by
                yield f"{provider.id}/{model.id}", f"{model.name or model.id}, by {provider.name}"


KINDS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "scenario": _scenarios,
    "profile": _profiles,
    "problem-set": _problem_sets,
    "traffic": _traffic,
    "predictor": _predictors,
    "gpu": _gpus,
    "model": _models,
    "price": _prices,
}
"""By kind, names and what they are."""
_MORE = {
    "scenario": "ttc-sim simulate NAME",
    "profile": "ttc-sim profile show NAME",
    "problem-set": "problem_set: NAME of a source",
    "traffic": "traffic: NAME of arrivals whose process is clients",
    "predictor": "--predictor NAME",
    "gpu": "gpu: NAME of a pool",
    "model": "ttc-sim gpus NAME",
    "price": "ttc-sim prices NAME",
}


def items(kinds: list[str]) -> list[Item]:
    """All of these kinds.

    Raises:
        InputError: no such kind, or a card that cannot be read.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError("ttc-sim list", "--kind", kind, nearest(kind, KINDS))
    return [Item(kind, name, " ".join(about.split())) for kind in kinds for name, about in KINDS[kind]()]


def list_(
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that must all occur in kind, name or description.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only this kind: {', '.join(KINDS)}. May be given several times.",
            autocompletion=lambda incomplete: [one for one in KINDS if one.startswith(incomplete)],
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Find scenarios, profiles, problem sets, traffic, predictors, GPUs, models of the catalogue and prices by words.

    Profiles are looked for beside the scenarios, in ./profiles, in the folder that TTC_SIM_PROFILES names, and among the shipped.
    """
    check_outputs(json=json_file)
    given = list(dict.fromkeys(kind or KINDS))
    known = items(given)
    found = [one for one in known if one.has(words or [])]
    if not found:
        _refuse(words or [], given, known)
    if json_file is not None:
        write_json(json_file, {"found": [asdict(one) for one in found]})
    table = Table("kind", "name", "", box=None, header_style="bold", pad_edge=False)
    table.columns[1].overflow = "fold"
    left: list[str] = []
    for each in given:
        rows = [one for one in found if one.kind == each]
        shown = rows if kind else rows[:_SHOWN]
        for k, one in enumerate(shown):
            table.add_row(each if k == 0 else "", one.name, one.about)
        if rows:
            more = (
                f"{len(rows) - len(shown):,} more, with --kind {each} or more words; " if len(rows) > len(shown) else ""
            )
            left.append(f"{each}: {more}{_MORE[each]}")
    if "model" in given and not any(one.kind == "model" for one in known):
        left.append(f"model: {_CATALOGUE}")
    paper = paper_for_tables()
    paper.print(table)
    for line in left:
        paper.say(f"- {line}", "dim")


def _refuse(words: list[str], kinds: list[str], known: list[Item]) -> None:
    """Say what is near to words that nothing has all of in it."""
    if not known and kinds == ["model"]:
        raise InputError("ttc-sim list", "--kind", "model", _CATALOGUE)
    strange = next((word for word in words if not any(one.has([word]) for one in known)), " ".join(words))
    if known:
        raise InputError("ttc-sim list", "WORDS", strange, nearest(strange, [one.name for one in known]))
    raise InputError("ttc-sim list", "--kind", " ".join(kinds), "a kind of which there is one here")


__all__ = ["KINDS", "Item", "items", "list_"]
