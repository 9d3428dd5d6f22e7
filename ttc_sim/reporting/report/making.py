"""From a file to a page: :func:`ttc_sim.report`."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.files.writing import write_atomically
from ttc_sim.reporting.report.gathering import gather
from ttc_sim.reporting.report.html import as_html
from ttc_sim.reporting.report.markdown import as_markdown
from ttc_sim.reporting.report.of_json import is_result, report_of_result
from ttc_sim.reporting.report.parts import Report
from ttc_sim.reporting.report.writing import written
from ttc_sim.scenario import Scenario

ENDINGS = {".html": "html", ".htm": "html", ".md": "md"}


@dataclass(frozen=True)
class ReportPage:
    """A report, ready to be written."""

    report: Report

    @property
    def html(self) -> str:
        """One HTML file that needs nothing else: no network, pictures in it, light and dark, and made to be printed."""
        return as_html(self.report)

    @property
    def markdown(self) -> str:
        """The same for a pull request, without pictures."""
        return as_markdown(self.report)

    def save(self, path: str | Path) -> None:
        """Write it, all at once, as HTML or Markdown by the name's ending.

        Raises:
            InputError: another ending, or a place that cannot be written to.
        """
        path = location("ReportPage.save", "path", path, "a file to write to")
        write_atomically(path, self.markdown if kind_of(path) == "md" else self.html)

    def _repr_html_(self) -> str:
        return self.html


def kind_of(path: Path) -> str:
    """``html`` or ``md``, by the name of a file.

    Raises:
        InputError: another ending.
    """
    kind = ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise InputError(path, "file", path.suffix or path.name, f"a name ending in {', '.join(ENDINGS)}")
    return kind


@shows_progress()
def report(
    file: Scenario | str | Path,
    progress: Telling = None,
    *,
    vary: bool = True,
    requests: int | None = None,
    replications: int | None = None,
    as_of: datetime.date | None = None,
    allow_code: AllowCode = False,
) -> ReportPage:
    """What a plan, a scenario with a policy, or a result comes to, on one page to hand on.

    A plan or scenario is simulated as it stands, beside its baselines and in variations. Of a result, the JSON that
    ``ttc-sim simulate`` or ``optimize`` wrote, the page says what stands in it.

    Args:
        file: the plan's, scenario's or result's file, the name of a shipped scenario, or a scenario itself.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        vary: whether it is simulated in variations too.
        requests, replications: of the runs, instead of the scenario's; not of a result, of which nothing is simulated.
        as_of: that prices and measurements of a plan are old as of; today if left out.
        allow_code: as for :func:`ttc_sim.load_plan`.

    Raises:
        InputError: no such file, one that is none of the three, a plan that cannot be simulated any more, or an argument that
            changes nothing on the page of such a file.

    >>> page = report("qa-gateway", requests=200, replications=2, vary=False)
    >>> page.markdown.splitlines()[0]
    '## qa-gateway'
    """
    say = telling("report", progress)
    if not isinstance(file, Scenario):
        path = location("report", "file", file, "a plan's file, a scenario's or a result's")
        if is_result(path):
            for name, asked in (("requests", requests), ("replications", replications), ("as_of", as_of)):
                if asked is not None:
                    raise InputError(
                        "report",
                        name,
                        str(asked),
                        f"nothing beside {path.name}: what a result says is printed as it is",
                    )
            return ReportPage(report_of_result(path))
    options = {"requests": requests, "replications": replications}
    return ReportPage(written(gather(file, say, vary=vary, as_of=as_of, allow_code=allow_code, **options)))


__all__ = ["ENDINGS", "ReportPage", "kind_of", "report"]
