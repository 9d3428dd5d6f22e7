"""Runs to calibrate on, each beside the profile of its own GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ttc_sim.base.errors import InputError
from ttc_sim.fidelity.measured_run import MeasuredRun, load_run
from ttc_sim.files.documents import read_yaml
from ttc_sim.files.opening import is_folder
from ttc_sim.serving.catalogue import ALIASES


class Calibration(NamedTuple):
    """A run, and the folder of layers measured on its GPU; ``None`` where step times are linear."""

    run: MeasuredRun
    profile: Path | None


def split_calibration(given: str | Path) -> tuple[Path, Path | None]:
    """The folders of ``RUN`` or ``RUN=PROFILE``.

    >>> split_calibration("runs/a=profiles/b")
    (PosixPath('runs/a'), PosixPath('profiles/b'))
    """
    whole = Path(given)
    run, sign, profile = str(given).rpartition("=")
    # A folder may have the sign in its name.
    return (whole, None) if not sign or is_folder(whole) else (Path(run), Path(profile))


def load_calibrations(
    given: Sequence[str | Path], predicted: MeasuredRun, gpu_profile: str | Path | None
) -> list[Calibration]:
    """Read runs to calibrate on.

    Args:
        given: ``RUN=PROFILE``, or ``RUN`` of the same model and GPU as the predicted one.
        predicted: the run that the step times are for.
        gpu_profile: of that run; ``None`` if its step times are linear.

    Raises:
        InputError: a run that cannot be read or, with linear step times, is of another model or GPU; a profile that is of another
            model or GPU than its run, or that nothing asks for.
    """
    out = []
    for one in given:
        folder, profile = split_calibration(one)
        if profile is not None and gpu_profile is None:
            raise InputError(
                "backtest", "--calibrate-on", str(one), "RUN alone: without --gpu-profile step times are linear"
            )
        run = load_run(folder)
        profile = profile or (None if gpu_profile is None else Path(gpu_profile))
        if profile is not None:
            check_profile(run, profile, "--calibrate-on", "RUN=PROFILE with the profile of the run's own")
        else:
            for what, here, there in (("model", predicted.model, run.model), ("GPU", predicted.gpu, run.gpu)):
                if here and there and _plain(here) != _plain(there):
                    expected = f"a run of the same {what}: {predicted.path.name} is of {here}"
                    raise InputError("backtest", "--calibrate-on", f"{run.path.name}, of {there}", expected)
        out.append(Calibration(run, profile))
    return out


def check_profile(run: MeasuredRun, profile: str | Path, option: str, wanted: str) -> None:
    """Refuse a profile of another model or GPU than the run was on, as far as both are recorded.

    Raises:
        InputError: that says which is which.
    """
    meta = read_yaml(Path(profile) / "meta.yaml", expected="a folder of layers measured on a GPU, with meta.yaml")
    measured = meta if isinstance(meta, dict) else {}
    for what, of_run in (("model", run.model), ("gpu", run.gpu)):
        of_profile = measured.get(what)
        if of_run and isinstance(of_profile, str) and _plain(of_run) != _plain(of_profile):
            named = "GPU" if what == "gpu" else what
            given = f"{Path(profile).name}, of {of_profile}"
            raise InputError("backtest", option, given, f"{wanted} {named}: {run.path.name} is of {of_run}")


def _plain(name: str) -> str:
    """A name without what does not tell models or GPUs apart."""
    return ALIASES.get(name, name).casefold().removeprefix("nvidia ").strip()
