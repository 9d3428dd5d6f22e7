"""A page to hand on: for a browser of any width, by day and night, with no name taken for markup."""

from __future__ import annotations

import copy
import datetime
import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.reporting.report.making import ReportPage

from .browser import Browser
from .test_display import AWKWARD, awkward
from .test_scenario import GOOD

DAY = datetime.date(2026, 11, 24)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[ttc.Plan, Path]:
    raw = copy.deepcopy(GOOD)
    raw["workload"]["requests"], raw["replications"] = 100, 2
    raw["targets"] = {"minimize": "cost", "accuracy": 0.4}
    plan = ttc.optimize(ttc.scenario_from_dict({**raw, "policy": None}))
    file = tmp_path_factory.mktemp("report") / "plan.yaml"
    plan.save(file)
    return plan, file


@pytest.fixture(scope="module")
def page(planned: tuple[ttc.Plan, Path]) -> ReportPage:
    return ttc.report(planned[1], as_of=DAY)


class Tags(HTMLParser):
    """Elements of a page, and the ids and anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.inside_svg = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside_svg += tag == "svg"
        if not self.inside_svg:
            self.tags.add(tag)
            self.ids += [str(value) for name, value in attrs if name == "id"]
            self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    def handle_endtag(self, tag: str) -> None:
        self.inside_svg -= tag == "svg"


_OURS = """html head meta title style body a div nav ol ul li main header h1 h2 p section figure figcaption table caption thead
tbody tr th td strong span details summary pre script"""
OURS = set(_OURS.split())


def test_the_first_screen_says_what_the_plan_promises(planned: tuple[ttc.Plan, Path], page: ReportPage) -> None:
    plan, _ = planned
    cards = {card.label: card for card in page.report.cards}
    assert plan.predicted.accuracy is not None
    assert cards["right and in time"].value == f"{100 * plan.predicted.accuracy.value:.1f}%"
    assert cards["right and in time"].state == "good"
    a_day = plan.predicted.cost_usd_per_day.value
    assert float(cards["dollars a day"].value.replace(",", "")) == pytest.approx(a_day, rel=0.01)
    in_trouble = any(check.status == "problem" for check in plan.health)
    assert page.report.state == ("bad" if plan.status != "met" else "unsure" if in_trouble else "good")
    names = [section.name for section in page.report.sections]
    assert names == ["targets", "compared", "parts", "day", "hours", "what-if", "health", "assumptions", "data", "made"]


def test_the_page_stands_alone_and_is_the_same_each_time(planned: tuple[ttc.Plan, Path], page: ReportPage) -> None:
    html = page.html
    assert len(html.encode()) < 3e6
    found = Tags(html)
    assert found.tags <= OURS
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)  # and to nowhere else
    assert "url(http" not in html
    assert "@import" not in html
    again = ttc.report(planned[1], as_of=DAY)
    assert again.html == html
    assert again.markdown == page.markdown


def test_no_name_is_taken_for_markup(tmp_path: Path) -> None:
    scenario = awkward(
        policy=f"Banded(edges=[0.3, 0.6], arms={list(AWKWARD[:3])!r})", description="</style><img src=x>"
    )
    made = ttc.report(scenario, vary=False)
    assert Tags(made.html).tags <= OURS
    for name in ("alert(1)", "[/v2]"):
        assert name in made.html
    markdown = made.markdown
    code = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    assert not re.search(r"<(?!/?(?:details|summary)>)", code)
    assert "@" not in code
    made.save(tmp_path / "made.html")
    assert (tmp_path / "made.html").read_text() == made.html


def test_markdown_tables_have_as_many_cells_in_each_row(page: ReportPage) -> None:
    rows: list[int] = []
    for line in page.markdown.splitlines():
        if line.startswith("|"):
            rows.append(len(re.findall(r"(?<!\\)\|", line)))
            assert rows[-1] == rows[0], line
        else:
            rows = []
    assert "<svg" not in page.markdown


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    opened = Browser(tmp_path / "browser")
    yield opened
    opened.close()


def test_it_fits_any_screen_and_works_by_keyboard(page: ReportPage, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    page.save(file)
    browser.call("Page.navigate", url=file.as_uri())
    browser.until("document.readyState === 'complete' && !!document.querySelector('.cards')")
    for width, dark in ((360, True), (1600, False)):
        browser.look(width, dark, tmp_path / f"{width}.png")
        assert browser.run("document.documentElement.scrollWidth") <= width
        light = browser.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", light)[:3])) > 380) is not dark
        all_of_them = "[...document.querySelectorAll('main p, main h2, .cards li, nav')]"
        assert browser.run(f"{all_of_them}.every(one => one.getBoundingClientRect().right <= innerWidth + 1)")
    assert browser.run("performance.getEntriesByType('resource').length") == 0
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"
    # What can be scrolled sideways can be reached, and has a name.
    assert browser.run("[...document.querySelectorAll('.scroll')].every(one => one.tabIndex === 0 && one.ariaLabel)")
    browser.run("document.querySelector('details summary').focus()")
    browser.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
    )
    browser.until("document.querySelector('details').open")


def test_what_a_result_says_is_on_its_page(tmp_path: Path) -> None:
    made = tmp_path / "made.json"
    assert CliRunner().invoke(app, ["simulate", "qa-gateway", "--requests", "200", "--json", str(made)]).exit_code == 0
    raw = json.loads(made.read_text())
    said = ttc.report(made)
    assert f"{100 * raw['accuracy']['value']:.1f}%" in said.html
    assert "nothing was simulated" in said.html
    raw["baselines"]["<b>bold"] = raw["baselines"].pop("always-large")
    made.write_text(json.dumps(raw))
    assert Tags(ttc.report(made).html).tags <= OURS


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.pop("latency_s"), "what `ttc-sim simulate --json`"),
        (lambda raw: raw.update(accuracy=0.5), "accuracy: got 0.5; expected value, low and high"),
        (lambda raw: raw["per_arm"].update(large=3), "per_arm"),
        (lambda raw: raw["accuracy"].update(value="much"), "accuracy.value: got 'much'; expected a number"),
        (lambda raw: raw.update(notes="text"), "notes"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, change: Any, said: str) -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    raw: dict[str, Any] = {"scenario": "s", "accuracy": dict(figure), "cost_usd_per_request": figure}
    raw |= {"latency_s": {"p95": figure}, "per_arm": {}, "notes": []}
    file = tmp_path / "made.json"
    file.write_text(json.dumps(raw))
    assert "50.0%" in ttc.report(file).html
    change(raw)
    file.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=re.escape(said)):
        ttc.report(file)


@pytest.mark.parametrize("asked", [{"requests": 5}, {"replications": 1}, {"as_of": DAY}])
def test_what_would_change_nothing_is_refused(tmp_path: Path, asked: dict[str, Any]) -> None:
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    file = tmp_path / "made.json"
    raw = {"scenario": "s", "accuracy": figure, "cost_usd_per_request": figure, "latency_s": {}, "per_arm": {}}
    file.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=f"{next(iter(asked))}: got .*; expected nothing beside made.json"):
        ttc.report(file, **asked)
    if "as_of" in asked:
        with pytest.raises(InputError, match=r"as_of: got .*; expected a plan's file"):
            ttc.report("qa-gateway", **asked)


def test_the_commands_of_a_page_make_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ttc.report("qa-gateway", requests=150, replications=2, vary=False)
    commands = [line for line in page.markdown.splitlines() if line.startswith("ttc-sim ")]
    monkeypatch.chdir(tmp_path)
    for line in commands:
        assert CliRunner().invoke(app, shlex.split(line)[1:] + ["--no-variations"] * ("report" in line)).exit_code == 0
    assert (tmp_path / "report.html").read_text() == page.html


def test_what_is_missing_is_said_in_a_line(planned: tuple[ttc.Plan, Path], tmp_path: Path) -> None:
    raw = yaml.safe_load(planned[1].read_text())
    raw["scenario"]["predictor"], raw["scenario"]["predictor_sha256"] = "gone.onnx", "0" * 64
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump(raw))
    unplanned = tmp_path / "unplanned.yaml"
    unplanned.write_text(
        yaml.safe_dump({**raw["scenario"], "predictor": "fast", "predictor_sha256": None, "policy": None})
    )
    for args, said in (
        ([str(file), "--out", str(tmp_path / "a.html")], "gone.onnx"),
        ([str(unplanned), "--out", str(tmp_path / "a.html")], "policy"),
        ([str(tmp_path / "none.yaml"), "--out", str(tmp_path / "a.html")], "none.yaml"),
        ([str(planned[1])], "--out"),
        ([str(planned[1]), "--out", str(tmp_path / "a.pdf")], ".html"),
        ([str(planned[1]), "--out", str(tmp_path / "a.html"), "--format", "md"], "--format"),
        ([str(planned[1]), "--out", str(tmp_path / "none" / "a.html")], "none"),
    ):
        got = CliRunner().invoke(app, ["report", *args])
        assert got.exit_code == 1, got.output
        line = str(got.exception) if isinstance(got.exception, InputError) else got.output
        assert said in line
    assert not list(tmp_path.glob("a.*"))
