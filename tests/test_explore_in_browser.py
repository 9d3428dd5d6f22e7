"""The explorer in a real browser with a live kernel: a slider is moved, and the page shows what what-if says, in time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import ttc_sim as ttc
from ttc_sim.base.figures import dollars, percent

from .browser import Browser, WidgetPage

GATEWAY, REQUESTS = "reasoning-gateway", 500
ROOT = "document.querySelector('.ttc-explorer')"
RIGHT, TAB = ("ArrowRight", 39), ("Tab", 9)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    pytest.importorskip("anywidget")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    code = f"import ttc_sim as ttc\nexplorer = ttc.explore({GATEWAY!r}, requests={REQUESTS}, replications=2)\nexplorer"
    shown = WidgetPage(browser, code)
    browser.until(f"{ROOT}?.querySelectorAll('tbody tr').length")
    yield browser
    shown.close()
    browser.close()


def moves(page: Browser) -> int:
    return int(page.run(f"+({ROOT}.dataset.moves ?? 0)"))


def moved(page: Browser, move: Any) -> float:
    """Milliseconds from a move to redrawn figures."""
    before = moves(page)
    move()
    page.until(f"+({ROOT}.dataset.moves ?? 0) > {before} && !{ROOT}.hasAttribute('aria-busy')")
    redrawn_ms, compared_ms = (float(page.run(f"+{ROOT}.dataset.{one}Ms")) for one in ("redrawn", "compared"))
    assert redrawn_ms < compared_ms
    return redrawn_ms


def figures(page: Browser) -> dict[str, list[str]]:
    """By figure, what stands there: this setting, the base, the difference."""
    cells = "[...row.querySelectorAll('td b')].map((one) => one.textContent)"
    rows = f"[...{ROOT}.querySelectorAll('tbody tr')].map((row) => [row.dataset.figure, {cells}])"
    return dict(page.run(rows))


def test_sliders_move_the_figures_by_what_if(page: Browser) -> None:
    """By the keys of a keyboard, one step of a threshold and then of a cap."""
    page.run(f"{ROOT}.querySelector('[data-knob=\"policy.at\"]').focus()")
    took_ms = [moved(page, lambda: page.press(*RIGHT))]
    at = page.run(f"+{ROOT}.querySelector('[data-knob=\"policy.at\"]').value")
    assert at == pytest.approx(0.605)
    took_ms.append(moved(page, lambda: page.press(*RIGHT)))
    assert page.run("model.state.setting") == {"policy.at": pytest.approx(0.61)}
    page.run(f"{ROOT}.querySelector('[data-knob=\"arms.r1.cap\"]').focus()")
    took_ms.append(moved(page, lambda: page.press("ArrowLeft", 37)))
    command = page.run(f"{ROOT}.querySelector('code').textContent")
    policy = "Threshold(at=0.61, below='r1', above='maverick', score='p:reasoning-gym/llama-4-maverick')"
    assert f'--set "arms.r1.strategy=Single(cap=16384); policy={policy}"' in command

    wanted = ttc.what_if(
        GATEWAY,
        {"moved": {"policy": policy, "arms.r1.strategy": "Single(cap=16384)"}},
        requests=REQUESTS,
        replications=2,
    )
    found, kept = figures(page), wanted.variations[0].kept
    for name in ("accuracy", "timeout_rate"):
        assert found[name][:2] == [percent(one.figures[name].value) for one in (kept, wanted.base)]
    for name, times in (("cost_usd_per_request", 1000), ("cost_usd_per_day", 1), ("cost_usd_per_month", 1)):
        assert found[name][:2] == [dollars(times * one.figures[name].value) for one in (kept, wanted.base)]
    exact = page.run(f"+{ROOT}.querySelector('[data-figure=latency_p95_s]').dataset.value")
    assert exact == kept.figures["latency_p95_s"].value
    assert max(took_ms) < 10_000, (
        "seconds of a machine that is busy with other tests; tests/test_explore.py has the time"
    )


def test_what_is_wrong_is_said_and_the_base_comes_back(page: Browser) -> None:
    typed = f"{ROOT}.querySelector('input[aria-label^=\"traffic\"]')"
    moved(page, lambda: page.run(f"{typed}.value = '-1'; {typed}.dispatchEvent(new Event('change'))"))
    said = page.run(f"{ROOT}.querySelector('[role=alert]').textContent")
    assert said == "explore: traffic: got -1; expected a number, at least 0.01"
    moved(page, lambda: page.run(f"{ROOT}.querySelector('header button').click()"))
    assert page.run(f"{ROOT}.querySelector('[role=alert]').textContent") == ""
    assert {one[2] for one in figures(page).values()} == {"0"}


def test_a_slider_that_is_dragged_ends_at_the_last_value(page: Browser) -> None:
    """Of many moves in a row those that nobody waits for are left out."""
    slider = f"{ROOT}.querySelector('[data-knob=\"policy.at\"]')"
    drag = "for (let k = 1; k <= 20; k++) { one.value = 0.02 * k; one.dispatchEvent(new Event('input')); }"
    moved(page, lambda: page.run(f"(() => {{ const one = {slider}; {drag} }})()"))
    assert page.run("model.state.shown.setting") == {"policy.at": 0.4}
    assert page.run("model.state.setting") == {"policy.at": 0.4}


def test_everything_has_a_name_and_is_reached_by_the_keyboard(page: Browser) -> None:
    """As a screen reader has it, in the order in which tab goes."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    controls = [
        (one["role"]["value"], one["name"]["value"])
        for one in nodes
        if one.get("role", {}).get("value") in ("slider", "spinbutton", "button") and not one["ignored"]
    ]
    assert len(controls) > 10
    assert all(name for _, name in controls)
    assert ("slider", "cap of r1") in controls
    page.run(f"{ROOT}.querySelector('header button').focus()")
    reached = []
    for _ in range(len(controls)):
        reached.append(page.run("document.activeElement.dataset.knob ?? document.activeElement.tagName"))
        page.press(*TAB)
    every = page.run(f"[...{ROOT}.querySelectorAll('[data-knob]')].map((one) => one.dataset.knob)")
    assert [one for one in reached if one in every] == every


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_can_be_read_from_narrow_to_wide(page: Browser, dark: bool, tmp_path: Any) -> None:
    """No width needs scrolling sideways; text stands out from what is behind it by 4.5 to 1 (WCAG 2, level AA)."""
    for width in (360, 800, 1600):
        page.look(width, dark, tmp_path / "page.png")
        assert page.run("document.documentElement.scrollWidth") <= width
        boxes = (
            f"[...{ROOT}.querySelectorAll('b, label, small, output, text')].map((one) => one.getBoundingClientRect())"
        )
        assert page.run(f"Math.max(...{boxes}.map((one) => one.right))") <= width
    # A canvas says which colour a browser makes of what a style says.
    contrasts = page.run(
        """(() => {
          const canvas = new OffscreenCanvas(1, 1).getContext('2d');
          const light = (colours) => {
            for (const one of colours) { canvas.fillStyle = one; canvas.fillRect(0, 0, 1, 1); }
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((x) => x / 255)
              .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const behind = getComputedStyle(document.querySelector('.ttc-explorer')).backgroundColor;
          const every = document.querySelectorAll('.ttc-explorer :is(b, label, small, legend, .unit, .said, .rests, text)');
          return [...every].map((one) => {
            const style = getComputedStyle(one);
            const [x, y] = [light([behind]), light([behind, one.tagName === 'text' ? style.fill : style.color])];
            return [one.textContent.slice(0, 30), (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05)];
          });
        })()"""
    )
    assert len(contrasts) > 30
    assert min(contrasts, key=lambda one: one[1])[1] >= 4.5
