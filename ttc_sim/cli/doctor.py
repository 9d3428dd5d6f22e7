"""``ttc-sim doctor``: what this machine has, and what is missing for what."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import typer
from rich.table import Table

from ttc_sim import __version__
from ttc_sim.base.consent import store_of_consent
from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Step
from ttc_sim.cli.ending import UNREACHABLE
from ttc_sim.cli.options import JsonOption
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_json

Status = Literal["ok", "missing", "broken"]
_GIB = 2.0**30


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        part: of what it is one; name: its own; status: ``missing`` of what one can do without, ``broken`` of what does not work.
        said: what was found, in words; needed_for: what cannot be done, or goes slower, without it.
        needed: whether nothing can be relied on while it is broken.
    """

    part: str
    name: str
    status: Status
    said: str
    needed_for: str = ""
    needed: bool = False


LIBRARIES = {
    "genai_prices": "prices of APIs by name",
    "ijson": "logs that are one large JSON file",
    "matplotlib": "plots",
    "numba": "simulating",
    "numpy": "everything",
    "onnxruntime": "predictors",
    "polars": "tables",
    "pyarrow": "tables",
    "pydantic": "scenarios",
    "yaml": "scenarios",
    "rich": "tables in a terminal",
    "scipy": "fits and intervals",
    "simpy": "the reference engine",
    "threadpoolctl": "training",
    "typer": "the command line",
}
"""Modules that are always installed, and what they are for."""
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "gpus": (("aiconfigurator_core",), "ttc-sim gpus, and pools of models and GPUs that no shipped table has"),
    "collect": (("httpx2",), "ttc-sim collect, and carrying a plan out on endpoints"),
    "serve": (("httpx2", "starlette", "uvicorn"), "ttc-sim serve"),
    "ray": (("ray",), "ttc-sim sweep --backend ray"),
    "dask": (("distributed",), "ttc-sim sweep --backend dask"),
    "docs": (("sphinx", "myst_parser", "furo"), "make docs"),
    "sensitivity": (("SALib",), "ttc-sim sensitivity --sobol"),
    "notebook": (("anywidget", "ipykernel", "jupyterlab"), "notebooks, and sliders in them"),
    "encoder": (("tokenizers",), "the predictor with a text encoder (--predictor encoder)"),
    "train": (
        ("tokenizers", "onnx", "safetensors", "sklearn"),
        "ttc-sim predictor train and adapt, and scores by a predictor of one's own in ttc-sim scenario init",
    ),
}
"""By extra, its modules and what needs them; ``cuda`` is seen by what the predictor runs on."""


def examine() -> Iterator[Finding]:
    """Everything, one thing after another."""
    for look in (_machine, _libraries, _extras, _predictors, _caches, _scenarios, _measured):
        yield from look()


def _machine() -> Iterator[Finding]:
    from ttc_sim.base.workers import cpus

    yield Finding(
        "machine", "ttc-sim", "ok", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    memory = _memory_gib()
    known = "" if memory is None else f", {memory:.1f} GiB of memory"
    yield Finding("machine", "processor", "ok", f"{cpus()} CPUs that may be used{known}")


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    except (ValueError, OSError, AttributeError):
        return None


def _libraries() -> Iterator[Finding]:
    working = []
    for module, what_for in LIBRARIES.items():
        try:
            import_module(module)
        except Exception as error:  # a library that is half installed raises whatever it likes
            said = f"{type(error).__name__}: {error}"
            yield Finding("libraries", module, "broken", " ".join(said.split()), what_for, needed=True)
        else:
            working.append(f"{module} {_version_of(module)}".strip())
    yield Finding("libraries", "that work", "ok", ", ".join(working))


@cache
def _packages() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _version_of(module: str) -> str:
    return next((metadata.version(package) for package in _packages().get(module, ())), "")


def _extras() -> Iterator[Finding]:
    for extra, (modules, what_for) in EXTRAS.items():
        lacking = [module for module in modules if find_spec(module) is None]
        if lacking:
            said = f"{', '.join(lacking)}: pip install 'ttc-sim[{extra}]'"
            yield Finding("extras", extra, "missing", said, what_for)
        else:
            yield Finding(
                "extras", extra, "ok", ", ".join(f"{one} {_version_of(one)}".strip() for one in modules), what_for
            )


def _predictors() -> Iterator[Finding]:
    from ttc_sim.base.shipped import PREDICTORS
    from ttc_sim.predictor.running.providers import CPU
    from ttc_sim.predictor.running.session import Predictor

    try:
        import onnxruntime
    except Exception:
        return  # said above
    built = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    provider = ""
    for name in PREDICTORS:
        if name == "encoder" and find_spec("tokenizers") is None:
            yield Finding("predictors", name, "missing", "pip install 'ttc-sim[encoder]'", f"--predictor {name}")
            continue
        try:
            loaded = Predictor.load(name)
        except InputError as error:
            yield Finding("predictors", name, "broken", str(error), f"--predictor {name}", needed=True)
            continue
        provider = loaded.provider
        runs_on = "the CPU" if provider == CPU else f"the GPU ({provider.removesuffix('ExecutionProvider')})"
        yield Finding("predictors", name, "ok", f"runs on {runs_on}; scores {len(loaded.heads)} models")
    if provider == CPU:
        said = (
            f"none that works; this ONNX Runtime is built for {built}. With an NVIDIA GPU: pip install 'ttc-sim[cuda]'"
        )
        yield Finding(
            "predictors", "GPU", "missing", said, "scoring many prompts by the encoder in seconds, not minutes"
        )
    elif provider:
        yield Finding("predictors", "GPU", "ok", f"{provider} works; built for {built}")


def _caches() -> Iterator[Finding]:
    from ttc_sim.base.compilation import kept_at
    from ttc_sim.serving.operator_store import cache_folder

    yield from _cache("compiled code", kept_at, "*/*.bin", "the first run of each process compiles for some 10 s")
    looked_up = "operator times of GPUs are looked up anew each time"
    yield from _cache("operator times", cache_folder, "*.json", looked_up)
    yield _remembered_code()


def _cache(name: str, place: Callable[[], Path], entries: str, without: str) -> Iterator[Finding]:
    """Whether the entries of a cache are whole, and new ones can be kept."""
    from ttc_sim.base.cache import BadEntryError, check_entry
    from ttc_sim.files.writing import check_room

    try:
        at = place()
        above = next(one for one in (at, *at.parents) if one.exists())
        if not above.is_dir():
            raise InputError(at, "folder", str(above), "a folder")
        check_room(at, above)
    except (OSError, InputError) as error:
        yield Finding("caches", name, "broken", str(error), f"otherwise {without}")
        return
    count, size = 0, 0
    for entry in sorted(at.glob(entries)):
        try:
            check_entry(entry)
            count, size = count + 1, size + entry.stat().st_size
        except FileNotFoundError:  # another process has just replaced it
            continue
        except (BadEntryError, OSError) as error:
            said = f"{entry}: {error}; it may be deleted, and is made anew"
            yield Finding("caches", name, "broken", said, f"otherwise {without}")
    free = shutil.disk_usage(above).free / _GIB
    said = f"{at}: {count:,} entries that are whole, {size / 1e6:,.1f} MB; {free:,.1f} GiB free"
    yield Finding("caches", name, "ok", said, f"otherwise {without}")


def _remembered_code() -> Finding:
    store = store_of_consent()
    try:
        lines = [] if store is None else store.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as error:
        return Finding("caches", "remembered code", "broken", f"{store}: {error}", "--remember-code")
    return Finding("caches", "remembered code", "ok", f"{store}: {len(lines):,} files that may run", "--remember-code")


def _scenarios() -> Iterator[Finding]:
    from ttc_sim.base.shipped import shipped_folders
    from ttc_sim.scenario import load_scenario

    names = sorted({file.stem for folder in shipped_folders("scenarios") for file in folder.glob("*.yaml")})
    if not names:
        yield Finding("scenarios", "shipped", "broken", "none is there", "examples by name", needed=True)
    for name in names:
        try:
            load_scenario(name)
        except InputError as error:
            yield Finding("scenarios", name, "broken", str(error), "examples by name", needed=True)
        else:
            yield Finding("scenarios", name, "ok", "reads")
    yield from _schema_here()


def _schema_here() -> Iterator[Finding]:
    """Whether the schema that scenarios here name is that of this version."""
    from ttc_sim.scenario.schema import SCHEMA_FILE, scenario_schema, schema_text

    file, what_for = Path(SCHEMA_FILE), "editors, that check scenarios here by it"
    if not file.is_file():
        return
    try:
        same = file.read_text(encoding="utf-8") in {
            schema_text(scenario_schema(own_kinds=own_kinds)) for own_kinds in (True, False)
        }
    except (OSError, UnicodeDecodeError) as error:
        yield Finding("scenarios", str(file), "broken", str(error), what_for)
        return
    said = "of this version" if same else f"of another version: ttc-sim schema --out {file} makes it anew"
    yield Finding("scenarios", str(file), "ok" if same else "broken", said, what_for)


def _measured() -> Iterator[Finding]:
    from ttc_sim.base.shipped import is_shipped
    from ttc_sim.measured.folders import find_folder, list_profiles, search_folders
    from ttc_sim.measured.problem_sets import load_problem_set
    from ttc_sim.measured.profiles import load_profile
    from ttc_sim.measured.traffic import load_traffic

    kinds: dict[str, tuple[str, Callable[[str], object]]] = {
        "profiles": ("profile.yaml", load_profile),
        "problem sets": ("problem_set.yaml", load_problem_set),
        "traffic": ("traffic.yaml", load_traffic),
    }
    for kind, (card_file, load) in kinds.items():
        read = []
        for name in list_profiles(card_file=card_file):
            try:
                load(name)
            except InputError as error:
                shipped = is_shipped(find_folder(name, card_file), "profiles")
                yield Finding(
                    "measured", name, "broken", str(error), f"scenarios that name it ({kind})", needed=shipped
                )
            else:
                read.append(name)
        if read:
            yield Finding("measured", kind, "ok", f"{len(read)}: {', '.join(read)}")
        else:
            yield Finding("measured", kind, "broken", "none is found", "scenarios with problems", needed=True)
    yield Finding("measured", "looked for in", "ok", ", ".join(str(place) for place in search_folders()))
    named = os.environ.get("TTC_SIM_PROFILES")
    if named and not Path(named).is_dir():
        yield Finding("measured", "TTC_SIM_PROFILES", "broken", f"{named} is no folder", "profiles that stand there")


def doctor(json_file: JsonOption = None) -> None:
    """Say what is here: hardware, libraries, extras, predictors, caches, profiles; and what is missing for what.

    Exit status 0 unless something is broken that is needed (2): what is missing is an extra, and what cannot be kept in a cache is
    made anew.
    """
    check_outputs(json=json_file)
    found: list[Finding] = []
    with progress() as say:
        for one in examine():
            say(Step("looking at what is here", detail=f"{one.part}: {one.name}"))
            found.append(one)
    broken = [one for one in found if one.status == "broken" and one.needed]
    if json_file is not None:
        write_json(json_file, {"healthy": not broken, "findings": [asdict(one) for one in found]})
    table = Table("", "", "", "found", "for", box=None, header_style="bold", pad_edge=False)
    last = ""
    for one in found:
        table.add_row(one.part if one.part != last else "", one.name, one.status, one.said, one.needed_for)
        last = one.part
    paper = paper_for_tables()
    paper.print(table)
    missing = sum(one.status == "missing" for one in found)
    verdict = f"{len(broken)} broken that are needed" if broken else "nothing is broken that is needed"
    paper.say(f"{verdict}; {missing} missing that may be added", "bold")
    if broken:
        raise typer.Exit(UNREACHABLE)


__all__ = ["EXTRAS", "LIBRARIES", "Finding", "doctor", "examine"]
