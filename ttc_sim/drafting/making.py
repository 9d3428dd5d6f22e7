"""Make a folder that works: problem set, profiles, scores, trace and a commented scenario."""

from __future__ import annotations

import datetime
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Progress, Telling, counted
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.drafting.arriving import LEAST_PROBLEMS, arrivals_of, cached_prompts, sources_of, unlike_lengths
from ttc_sim.drafting.document import Draft, Figures, scenario_text
from ttc_sim.drafting.endpoints import Pool, endpoints_of
from ttc_sim.drafting.imported import AUDIT, LENGTHS, PROBLEMS, TRAFFIC, Imported, read_imports
from ttc_sim.drafting.measured import Measured, asked_models, measure, models_of
from ttc_sim.drafting.scores import CARD, MODEL, Scored, score
from ttc_sim.drafting.timing import timing_of
from ttc_sim.files.leftovers import temporary_folder
from ttc_sim.files.whole_folders import folder_written_whole
from ttc_sim.files.writing import write_atomically, written_together
from ttc_sim.measured.folders import check_folder_to_save, write_in_folder
from ttc_sim.measured.naming import folder_names
from ttc_sim.measured.profiles import save_profile
from ttc_sim.measured.provenance import scores_name
from ttc_sim.scenario import load_scenario
from ttc_sim.scenario.schema import SCHEMA_FILE, scenario_schema, schema_text
from ttc_sim.simulation.result import simulate

SCENARIO = "scenario.yaml"
_MOST_REPLICAS = 64
_MOST_DROPPED = 0.01


@dataclass(frozen=True)
class Made:
    """A scenario that was written.

    Attributes:
        file: its file; said: what a reader must know, a line each; draft: what it was made of.
        plannable: whether there are problems enough to plan with, or none are needed.
    """

    file: Path
    said: tuple[str, ...]
    draft: Draft
    plannable: bool


@shows_progress()
def make_scenario(
    folder: Path,
    imports: Sequence[Path] = (),
    *,
    models: Sequence[str] = (),
    prices: Sequence[str] = (),
    gpus: Sequence[str] = (),
    name: str | None = None,
    day: str | None = None,
    train: bool = True,
    replace_old: bool = False,
    progress: Telling = None,
) -> Made:
    """Make a scenario from imports. What it consists of is all written, or nothing is.

    Args:
        folder: to write to; imports: folders that ``ttc-sim import`` wrote, ``folder`` itself if left out.
        models: names, all of the import's if left out; prices, gpus: as for :func:`~ttc_sim.drafting.endpoints.endpoints_of`.
        name: of the scenario and its problem set, the folder's if left out.
        day: whose prices hold; that of the newest request, or today's, if left out.
        train: whether a predictor may be trained.
        replace_old: whether a scenario that stands there is replaced.

    Raises:
        InputError: no import, or one that no scenario can be made of; a price that is not known; a file that would be replaced.
    """
    say = telling("make_scenario", progress)
    imported = read_imports(list(imports) or [folder])
    called = next(iter(folder_names([name if name is not None else folder.resolve().name], otherwise="mine").values()))
    _check_free(folder, called, imported, replace_old=replace_old)
    said = list(imported.said)
    graded = imported.problems is not None
    chosen = models_of(imported, models) if graded else _models_of_traffic(imported, models, said)
    taken = ("problem_set.yaml", PROBLEMS, "scores.parquet", scores_name(MODEL))
    names = folder_names(chosen, taken)
    measured = measure(imported, chosen, names, called, said) if graded else None
    on = _day(day, imported)
    timings = {model: timing_of(imported.traffic, model) for model in chosen}
    endpoints = endpoints_of(chosen, prices, gpus, timings, on, _longest(imported, measured))
    said += cached_prompts(imported)
    if measured is not None:
        said += unlike_lengths(imported, measured)
    work = temporary_folder("scenario")
    scored: Scored | None = None
    if measured is not None:
        _write_measured(measured, names, work, called)
        scored = score(imported, measured, names, work, called, folder, train=train, say=say)
    if imported.traffic is not None and imported.traffic_file is not None:
        imported.traffic.drop("prompt", strict=False).write_parquet(work / imported.traffic_file.name)
    sources, arrivals = sources_of(imported, measured, said), arrivals_of(imported, measured is not None, said)
    # Without problems requests are as long as the log's, replayed or drawn from them.
    drawn_from = None if measured is not None or arrivals.trace else imported.traffic_file
    draft = Draft(
        name=called,
        origin=imported.origin,
        left_out=tuple(said),
        arms=names,
        endpoints=endpoints,
        problem_set=None if measured is None else called,
        lengths=None if drawn_from is None else drawn_from.name,
        sources=sources,
        arrivals=arrivals,
        predictor=None if scored is None else scored.predictor,
        routing="" if scored is None else scored.why,
        caps={} if measured is None else {names[m]: caps for m in chosen if (caps := _caps(measured, m))},
        replicas={names[model]: 1 for model in chosen if isinstance(endpoints[model], Pool)},
        policy=names[chosen[0]],
        figures={},
        targets={},
    )
    try:
        draft = _with_targets(draft, work, say)
    except InputError as error:
        # What was put together for the moment stands elsewhere.
        where = error.where.replace(str(work), str(folder))
        raise InputError(where, error.field, error.value, error.expected.replace(str(work), str(folder))) from None
    if draft.figures and not any(one.accuracy is None or one.accuracy > 0 for one in draft.figures.values()):
        said.append("no attempt was right: accuracy is 0 whatever is done")
    draft = replace(draft, left_out=tuple(said))
    if scored is not None:
        said.append(scored.why if scored.how is None else f"{scored.why} {scored.how}")
    _commit(draft, work, folder, imported, scored)
    plannable = measured is None or len(measured.problems) >= LEAST_PROBLEMS
    if not plannable:
        said.append("a plan takes two problems, so that one can be kept from the choice to judge it by: there is one")
    return Made(folder / SCENARIO, tuple(said), draft, plannable)


def _check_free(folder: Path, name: str, imported: Imported, *, replace_old: bool) -> None:
    """Refuse what would be replaced without being asked for."""
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "folder", str(folder), "a folder, or none yet")
    for file in (SCENARIO, MODEL, CARD, TRAFFIC, LENGTHS):
        read = imported.traffic_file
        own = file in (TRAFFIC, LENGTHS) and (read is None or read.name != file or _same(read, folder / file))
        if (folder / file).exists() and not replace_old and not own:
            raise InputError(folder / file, "file", str(folder / file), "no such file yet, or --replace")
    mine = folder.resolve() in [one.resolve() for one in imported.folders]
    for other in (folder / TRAFFIC, folder / LENGTHS):
        if (folder / AUDIT).exists() and other.exists() and not mine:
            raise InputError(other, "file", str(other), "another folder: this is of an import that stands there")
    profiles = folder / "profiles" / name
    check_folder_to_save(profiles, "problem_set.yaml", replace=replace_old)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _models_of_traffic(imported: Imported, asked: Sequence[str], said: list[str]) -> list[str]:
    """Those that are asked for, be they in the log or not, as lengths are the log's; all that answered if none is."""
    assert imported.traffic is not None
    known: list[str] = []
    if "model" in imported.traffic.columns:
        known = [one for one in imported.traffic["model"].unique(maintain_order=True).to_list() if one]
    chosen = asked_models(asked, known) or known or ["model"]
    if len(chosen) > 1 or (known and chosen != known):
        said.append(
            "how long a request is, thinking too, is as its own model answered it in the log, whatever arm it is sent to: graded "
            "attempts would say what another makes of it"
        )
    return chosen


def _day(asked: str | None, imported: Imported) -> str:
    if asked is not None:
        try:
            return datetime.date.fromisoformat(asked).isoformat()
        except ValueError:
            raise InputError("scenario init", "--on", asked, "a day as YYYY-MM-DD") from None
    return imported.day or datetime.datetime.now(datetime.UTC).date().isoformat()


def _longest(imported: Imported, measured: Measured | None) -> int:
    tables = [] if measured is None else [profile.attempts for profile in measured.profiles.values()]
    tables += [imported.traffic] if measured is None and imported.traffic is not None else []
    whole = pl.col("prompt_tokens") + pl.col("reasoning_tokens") + pl.col("visible_tokens")
    return max(int(table.select(whole.cast(pl.Int64).max()).item()) for table in tables)


def _write_measured(measured: Measured, names: Mapping[str, str], work: Path, name: str) -> None:
    place = work / "profiles" / name
    place.mkdir(parents=True)
    write_in_folder(place, "problem_set.yaml", measured.card, {"problems": measured.problems})
    for model, profile in measured.profiles.items():
        save_profile(profile, place / names[model])


def _caps(measured: Measured, model: str) -> list[int | None]:
    """Where a fifth, and a twentieth, of a model's answers are longer."""
    attempts = measured.profiles[model].attempts
    output = (attempts["reasoning_tokens"] + attempts["visible_tokens"]).to_numpy()
    caps = sorted({_round_up(float(np.quantile(output, q))) for q in (0.8, 0.95)})
    return [cap for cap in caps if cap < output.max()] + [None] if output.max() > min(caps) else []


def _round_up(tokens: float) -> int:
    """In two digits."""
    step = 10 ** max(math.floor(math.log10(max(tokens, 1.0))) - 1, 0)
    return int(math.ceil(tokens / step) * step)


def _with_targets(draft: Draft, work: Path, progress: Progress) -> Draft:
    """The draft with enough servers, and targets that some policy should meet."""
    file = work / SCENARIO
    figures: dict[str, Figures] = {}
    for arm in counted(draft.arms.values(), progress, "sending everything to one arm", "arms"):
        while True:
            file.write_text(scenario_text(draft), encoding="utf-8")
            found = simulate(load_scenario(file), f"Always({arm!r})", replications=1).summary()
            replicas = draft.replicas.get(arm)
            if replicas is None or found.verdict == "stable" or replicas >= _MOST_REPLICAS:
                break
            draft = replace(draft, replicas={**draft.replicas, arm: 2 * replicas})
        right = None if found.accuracy is None else found.accuracy.value
        figures[arm] = Figures(right, found.cost_usd_per_request.value, found.latency_s["p95"].value)
    other = "or `maximize: accuracy`, under a cost_usd_per_request" if draft.problem_set is not None else "the bill"
    targets: dict[str, tuple[float | str, str]] = {"minimize": ("cost", other)}
    slowest = max(figures.values(), key=lambda one: one.p95_s)
    cheapest = min(figures, key=lambda arm: figures[arm].cost_usd)
    rights = {arm: one.accuracy for arm, one in figures.items() if one.accuracy is not None}
    if rights:
        best = max(rights, key=lambda arm: rights[arm])
        low, high = rights[cheapest], rights[best]
        middle = math.floor(50 * (low + high)) / 100
        if high - low >= 0.02:
            targets["accuracy"] = (middle, f"halfway from {cheapest}, the cheapest, to {best}, the best")
        else:
            targets["accuracy"] = (math.floor(90 * high) / 100, f"nine tenths of what {best} reaches")
    if 0 < slowest.p95_s < math.inf:
        targets["latency_p95_s"] = (_two_digits_up(1.2 * slowest.p95_s), "what the slowest takes, and a fifth")
    if draft.problem_set is None:
        # Without it a plan of traffic alone would be the cheaper, the more requests it drops.
        targets["timeout_rate"] = (_MOST_DROPPED, "most of the requests that may time out or be rejected")
    return replace(draft, figures=figures, targets=targets, policy=cheapest)


def _two_digits_up(value: float) -> float:
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step) * step:.6g}")


def _commit(draft: Draft, work: Path, folder: Path, imported: Imported, scored: Scored | None) -> None:
    """What was made comes to stand in its folder."""
    text = scenario_text(draft)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(folder, "folder", error.strerror or str(error), "a folder that can be written to") from None
    with written_together():
        write_atomically(folder / SCENARIO, text)
        write_atomically(folder / SCHEMA_FILE, schema_text(scenario_schema()))
        traffic = imported.traffic_file
        used = traffic is not None and traffic.name in (TRAFFIC, draft.lengths)
        if traffic is not None and used and not _same(traffic, folder / traffic.name):
            write_atomically(folder / traffic.name, (work / traffic.name).read_bytes())
        for file in (MODEL, CARD) if scored is not None and scored.predictor is not None else ():
            write_atomically(folder / file, (work / file).read_bytes())
        if draft.problem_set is None:
            return
        made = work / "profiles" / draft.problem_set
        files = [file.relative_to(made) for file in sorted(made.rglob("*")) if file.is_file()]
        with folder_written_whole(folder / "profiles" / draft.problem_set, [str(file) for file in files]) as beside:
            for one in files:
                shutil.copyfile(made / one, beside / one)
