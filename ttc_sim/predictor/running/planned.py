"""The predictor that a plan was made with, or a refusal."""

from __future__ import annotations

from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.measured.provenance import identify, predictor_file
from ttc_sim.scenario import Scenario


def planned_predictor(
    scenario: Scenario, given: str | Path | None = None, *, other: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """The file of the predictor that a plan's requests are to be routed by.

    Args:
        scenario: of the plan. One that does not say the content was made with the file that it names, as that is now.
        given: name of a shipped predictor, or ONNX file, instead of where the scenario says that it stands.
        other: take it even if it is another one than the plan was made with.

    Returns:
        The file, and a note if it is another predictor.

    Raises:
        InputError: no such file, or another predictor than the plan's.
    """
    at = scenario.predictor_at if given is None else given
    used = identify(at)
    planned = scenario.predictor_sha256 or identify(scenario.predictor_at).sha256
    if used.sha256 == planned:
        return predictor_file(at), ()
    own = f"{scenario.predictor} (sha256 {planned[:12]})"
    if not other:
        expected = (
            f"the predictor that the plan was made with, {own}; --other-predictor (in Python, other_predictor=True) "
        )
        raise InputError(
            scenario.path, "predictor", str(used), expected + "carries the plan out with another all the same"
        )
    return predictor_file(at), (f"requests are routed by another predictor than the plan's: by {used}, not {own}",)
