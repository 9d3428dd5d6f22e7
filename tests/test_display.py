"""How results show themselves: in a notebook as the report's tables with the picture, in a line elsewhere."""

from __future__ import annotations

import base64
import copy
import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, assert_type

import nbformat
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from rich.console import Console

import ttc_sim as ttc
from ttc_sim.base.display import Displayed, renderer
from ttc_sim.optimizer.promises import judged
from ttc_sim.optimizer.validating import Validation, Verdict
from ttc_sim.reporting.strategies import print_evaluations
from ttc_sim.reporting.text import print_plan, print_summary, print_validation

from .test_scenario import GOOD

AWKWARD = ("<script>alert(1)</script>", "[/v2]", "$^$", "_left :bug: out", "long " * 40)
PNG = b"\x89PNG\r\n\x1a\n"


def awkward(**changes: Any) -> ttc.Scenario:
    """A scenario whose arms, pool and name are what a page, a terminal or a picture could take for something else."""
    raw = copy.deepcopy(GOOD)
    raw["deployments"]["<b>[red]pool"] = raw["deployments"].pop("pool")
    small, large = {**raw["arms"]["small"], "deployment": "<b>[red]pool"}, raw["arms"]["large"]
    raw["arms"] = {name: large if k else small for k, name in enumerate(AWKWARD)}
    return ttc.scenario_from_dict({**raw, "name": "<i>[bold]name", "policy": None, "replications": 2, **changes})


def everywhere(request: ttc.Request) -> str:
    """Every arm is sent some requests."""
    return AWKWARD[request.index % len(AWKWARD)]


@dataclass
class Shown:
    """One thing that shows itself, the same as text, and the figures that must stand on the page."""

    one: Displayed
    text: str
    figures: list[float] = field(default_factory=list)


def printed(report: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=2000, emoji=False)
    report(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def shown() -> dict[str, Shown]:
    result = ttc.simulate(awkward(), everywhere, requests=200, replications=2)
    summary = result.summary()
    assert summary.accuracy is not None
    targets = {"minimize": "cost", "accuracy": 0.99}
    plan = ttc.optimize(awkward(targets=targets))
    promised = plan.saved().promised
    # Realized as another run came to be: inside for some figures, and outside for others.
    realized = {name: figure.shifted(0.3 * figure.value) for name, figure in promised.items()}
    validation = Validation(
        verdicts={name: Verdict(promised[name], realized[name]) for name in promised},
        realized=summary,
        best_in_hindsight={"cost_usd_per_request": 0.00123, "accuracy": 0.567, "policy": {}},
        problems=57,
        notes=("a note of <b>[/v2]",),
        new_groups=0.0,
        by_novelty={"new task types": summary.accuracy},
    )
    found = ttc.evaluate("reasoning-gym/llama-4-maverick", ["Single(cap=512)", "MajorityVote(n=3)"])
    whole = [summary.accuracy.value * 100, summary.cost_usd_per_request.value * 1000, summary.latency_s["p95"].value]
    predicted = plan.predicted
    assert predicted.accuracy is not None
    return {
        "Result": Shown(
            result,
            printed(lambda console: print_summary(console, summary, {}, judged(result))),
            [*whole, *(part.tokens_per_request for part in summary.per_arm.values())],
        ),
        "Plan": Shown(
            plan,
            printed(lambda console: print_plan(console, plan)),
            [
                predicted.accuracy.value * 100,
                *(other.cost_usd_per_request.value * 1000 for other in plan.baselines.values()),
                *(part.share * 100 for part in predicted.per_arm.values()),
            ],
        ),
        "Validation": Shown(
            validation,
            printed(lambda console: print_validation(console, validation)),
            [figure.value for both in (promised, realized) for figure in both.values()],
        ),
        "Evaluation": Shown(
            found[0],
            printed(lambda console: print_evaluations(console, found[:1])),
            [found[0].accuracy.value * 100, found[0].tokens_per_request, found[0].cost_usd_per_request * 1000],
        ),
        "Evaluations": Shown(
            found,
            printed(lambda console: print_evaluations(console, found, f"price {found.price}")),
            [
                *(one.accuracy.value * 100 for one in found),
                *(one.tokens_in_a_row for one in found),
                *(band["tokens_per_request"] for one in found for band in one.by_band.values()),
            ],
        ),
    }


class Page(HTMLParser):
    """What stands on a page: cells, lines, pictures; every tag that is opened is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.words = ""
        self.pictures: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")
            return
        self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


KINDS = ("Result", "Plan", "Validation", "Evaluation", "Evaluations")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_what_the_report_says(kind: str, shown: dict[str, Shown]) -> None:
    it = shown[kind]
    page = Page(it.one._repr_html_())
    assert len(page.cells) > 8
    said = " ".join(it.text.split())
    for cell in page.cells:
        assert " ".join(cell.split()) in said
    numbers = re.findall(r"\d[\d,]*\.?\d*(?:e-\d+)?", " ".join(page.cells).replace(",", ""))
    for figure in it.figures:
        assert any(rounds_to(figure, number) for number in numbers), figure


def rounds_to(figure: float, printed: str) -> bool:
    """Whether a figure is printed so, to the last of at least two digits."""
    mantissa, _, exponent = printed.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    if figure and len(re.sub(r"\D", "", mantissa).lstrip("0")) < 2:
        return False
    return abs(float(printed) - figure) <= 0.5001 * unit


@pytest.mark.parametrize("kind", KINDS)
def test_each_draws_itself_and_has_the_picture_on_its_page(kind: str, shown: dict[str, Shown]) -> None:
    one = shown[kind].one
    picture = one.plot()
    assert_type(picture, Figure)
    assert isinstance(picture, Figure)
    [embedded] = Page(one._repr_html_()).pictures
    kind_of, _, encoded = embedded.partition(",")
    assert kind_of == "data:image/png;base64"
    assert base64.b64decode(encoded, validate=True).startswith(PNG)


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_a_short_line_where_there_is_no_page(kind: str, shown: dict[str, Shown]) -> None:
    line = repr(shown[kind].one)
    assert re.fullmatch(rf"<{kind}\b.*>", line)
    assert len(line) < 200


def test_the_lines_say_what_was_done() -> None:
    scenario = ttc.scenario_from_dict(GOOD)
    assert repr(ttc.simulate(scenario, "Always('large')", requests=1, replications=1)) == (
        "<Result: Always(arm='large') on small, 1 run of 1 request>"
    )
    by_threshold = ttc.simulate(scenario, requests=1200, replications=2)
    assert repr(by_threshold).endswith("on small, 2 runs of 1,200 requests>")


@pytest.mark.parametrize("kind", ["Result", "Plan", "Validation"])
def test_names_are_shown_and_not_carried_out(kind: str, shown: dict[str, Shown]) -> None:
    page = shown[kind].one._repr_html_()
    found = Page(page)
    assert found.tags <= {"div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "img"}
    plan = shown["Plan"].one
    assert isinstance(plan, ttc.Plan)
    used = [name for name in plan.predicted.per_arm if len(name) < 100]
    assert used
    names = {"Result": AWKWARD, "Plan": used, "Validation": ("a note of <b>[/v2]",)}[kind]
    for name in names:
        assert html.escape(name) in page
        assert name in found.words
        assert " ".join(name.split()) in " ".join(shown[kind].text.split())


def test_pictures_take_any_name(shown: dict[str, Shown]) -> None:
    [legend] = shown["Result"].one.plot().legends
    labels = [text.get_text().replace("\\$", "$").strip() for text in legend.get_texts()]
    assert sorted(labels) == sorted([*AWKWARD[:4], ("long " * 40)[:29] + "..."])


@pytest.mark.filterwarnings("error")
def test_runs_in_which_nothing_happens_are_shown() -> None:
    lost = ttc.with_changes(awkward(), {"deployments.<b>[red]pool.timeout_s": 1e-9})
    traffic = ttc.scenario_from_dict(
        {
            "name": "lengths alone",
            "workload": {"arrivals": {"process": "clients", "traffic": "servegen-r1"}, "requests": 20},
            "deployments": {"pool": GOOD["deployments"]["pool"]},
            "arms": {"all": {"deployment": "pool"}},
        }
    )
    for result in (
        ttc.simulate(awkward(), ttc.Always("[/v2]"), requests=1, replications=1),
        ttc.simulate(lost, ttc.Always(AWKWARD[0]), requests=3, replications=1),
        ttc.simulate(traffic, "Always('all')", replications=1),
    ):
        assert Page(result._repr_html_()).pictures


def test_what_nothing_is_registered_for_says_so() -> None:
    class Unknown(Displayed):
        pass

    with pytest.raises(LookupError, match="Unknown"):
        renderer(Unknown)


def test_a_notebook_shows_both(tmp_path: Path) -> None:
    """Whether or not matplotlib was set up there."""
    cell = "import ttc_sim as ttc\nfound = ttc.evaluate('math/sky-t1-32b', 'Single(cap=2048)')\nfound"
    cells = [nbformat.v4.new_code_cell(source) for source in (cell, "found.plot()")]  # type: ignore[no-untyped-call]
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    [[page], [picture]] = [cell.outputs for cell in notebook.cells]
    assert "Single(cap=2048)" in Page(page["data"]["text/html"]).words
    assert page["data"]["text/plain"].startswith("<Evaluations: 1 strategy")
    assert base64.b64decode(picture["data"]["image/png"]).startswith(PNG)
