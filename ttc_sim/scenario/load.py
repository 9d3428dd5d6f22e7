"""Reading a scenario, with one clear error for what is wrong with it."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode, Code
from ttc_sim.base.errors import InputError, in_our_words, nearest
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.files.documents import read_yaml
from ttc_sim.files.opening import is_file, is_there, readable
from ttc_sim.measured.provenance import FAST
from ttc_sim.policies import check_sources
from ttc_sim.policies.responses import Response
from ttc_sim.scenario.arm_space import check_arm_space
from ttc_sim.scenario.base import UNKNOWN_KEY
from ttc_sim.scenario.budget_checks import check_budget
from ttc_sim.scenario.deployments import GpuPool
from ttc_sim.scenario.document import Scenario
from ttc_sim.scenario.hardware import PoolSearch
from ttc_sim.scenario.objectives import check_objective
from ttc_sim.scenario.sessions import Sessions, may_have_sessions
from ttc_sim.scenario.targets import check_targets_of_sources
from ttc_sim.scenario.tiers import check_configurations
from ttc_sim.strategies import check_cascades

NOTHING_TO_SCORE = "none: a workload without sources has no problems that a predictor could score"


def load_scenario(path: str | Path, *, allow_code: AllowCode = False) -> Scenario:
    """Read and check a scenario, given by file or by the name of a shipped one.

    Nothing of it is run. A function that it names by ``file.py:function`` runs once it is used.

    Args:
        path: of the file, or a shipped scenario's name.
        allow_code: whether such functions may run; if not, only those of files that were remembered. ``"remember"`` remembers the
            files that run: they need no consent until they change.

    Raises:
        InputError: the first thing wrong with it: file, key, value, and what was expected.

    >>> load_scenario("reasoning-gateway").name
    'reasoning-gateway'
    """
    location("load_scenario", "path", path, "a scenario's file, or the name of a shipped one")
    found = find_scenario(path)
    raw = read_yaml(found, expected="a scenario")
    if not isinstance(raw, dict):
        raise InputError(path, "file", type(raw).__name__, "a mapping with the keys of a scenario")
    if "ttc_sim_plan" in raw:
        expected = (
            "a scenario: that of a plan is `ttc_sim.load_plan(path).scenario`, which `ttc-sim simulate` takes too"
        )
        raise InputError(path, "file", "a plan", expected)
    return read_mapping(raw, str(found), Code(allow_code))


def find_scenario(path: str | Path) -> Path:
    """The file itself, or the shipped scenario of that name."""
    given = Path(path)
    if is_file(given):
        return given
    for folder in shipped_folders("scenarios"):
        candidate = folder / f"{given}.yaml"
        if is_file(candidate):
            return candidate
    if is_there(given):
        readable(given)  # says what it is instead of a file
    shipped = sorted({item.stem for folder in shipped_folders("scenarios") for item in folder.glob("*.yaml")})
    raise InputError(path, "file", str(path), "an existing scenario file, or " + nearest(str(given), shipped))


def scenario_from_dict(raw: dict[str, Any], path: str = "scenario", *, allow_code: AllowCode = False) -> Scenario:
    """Check a scenario given as a plain mapping; ``path`` is the file that errors name, and ``allow_code`` as for
    :func:`load_scenario`."""
    return read_mapping(raw, path, Code(allow_code))


def read_mapping(raw: dict[str, Any], path: str, code: Code) -> Scenario:
    """The same, of a mapping whose files are known already."""
    if not isinstance(raw, dict):
        raise InputError(path, "scenario", raw, "a mapping with the keys of a scenario")
    if "path" in raw:
        raise InputError(path, "path", raw["path"], nearest("path", set(Scenario.model_fields) - {"path"}))
    try:
        scenario = Scenario.model_validate({**raw, "path": path}).with_code(code)
    except ValidationError as error:
        raise _first_error(path, error) from None
    _check_references(scenario)
    return scenario


def _first_error(path: str, error: ValidationError) -> InputError:
    # An unknown key is the likeliest slip and the cause of "missing" errors beside it, so it is named first.
    unknown = (UNKNOWN_KEY, "extra_forbidden")
    details = sorted(error.errors(), key=lambda item: item["type"] not in unknown)[0]
    # Pydantic puts the tag of a union, such as "api" or "gpu_pool", after the place where the union stands.
    tag = 2 if details["loc"][:1] == ("deployments",) else 3 if details["loc"][:2] == ("workload", "lengths") else None
    tag = 5 if details["loc"][:2] == ("workload", "sources") and details["loc"][3:4] == ("lengths",) else tag
    location = [str(part) for at, part in enumerate(details["loc"]) if at != tag]
    field = ".".join(location) or "scenario"
    kind, cause = details["type"], details.get("ctx", {}).get("error")
    if kind in unknown:
        expected = details["msg"] if kind == UNKNOWN_KEY else nearest(location[-1], Response.model_fields)
        return InputError(path, ".".join(location[:-1]) or "scenario", location[-1], expected)
    if kind == "missing":
        return InputError(path, field, "nothing", "this key to be given")
    if isinstance(cause, InputError):
        return InputError(path, f"{field}: {cause.where}: {cause.field}", cause.value, cause.expected)
    if kind == "invalid_key":
        return InputError(
            path, ".".join(location[:-1]) or "scenario", details["input"], "a key that is text" + _as_text(True)
        )
    message = in_our_words(details)
    if kind in ("string_type", "float_type"):
        message += _as_text(details["input"])
    return InputError(path, field, details["input"], message)


def _check_hardware(scenario: Scenario, pools: set[str]) -> None:
    """What capacity may be planned with must be there to be chosen."""
    path, search = scenario.path, scenario.search
    for name, one in search.pools.items():
        field = f"search.pools.{name}"
        if name not in pools:
            raise InputError(path, "search.pools", name, nearest(name, pools))
        if one.replicas is not None and name in search.replicas:
            raise InputError(path, f"{field}.replicas", one.replicas, f"none beside search.replicas.{name}")
        own = scenario.deployments[name]
        assert isinstance(own, GpuPool)
        named = next((key for key in ("gpu", "tensor_parallel", "precision") if getattr(one, key) is not None), None)
        if named is not None and own.step_time is not None:
            expected = f"none: the step_time of {name} is of no GPU of the catalogue; options may name others"
            raise InputError(path, f"{field}.{named}", getattr(one, named), expected)
        if one.options is not None and own.step_time is None:
            expected = (
                f"none: {name} names a model of the catalogue, and gpu, tensor_parallel and precision to choose from"
            )
            raise InputError(path, f"{field}.options", list(one.options), expected)
        for drafted in one.draft_tokens or ():
            if own.speculative is None:
                expected = f"speculative of deployments.{name}, which says what is accepted and what drafting takes"
                raise InputError(path, f"{field}.draft_tokens", drafted, expected)
            try:
                own.speculative.with_draft_tokens(drafted)
            except ValueError as error:
                raise InputError(path, f"{field}.draft_tokens", drafted, str(error)) from None
        if one.kv_transfer is not None and own.kv_transfer is not None and one.kv_transfer != own.kv_transfer:
            expected = f"that of deployments.{name}, or none here"
            raise InputError(path, f"{field}.kv_transfer", str(one.kv_transfer), expected)
        if any(one.prefill or ()) and one.kv_transfer is None and own.kv_transfer is None:
            expected = "how a prompt's KV cache gets to the replicas that answer, such as {gb_per_s: 50}"
            raise InputError(path, f"{field}.kv_transfer", None, expected)
        if one.prefill is not None and own.autoscaling is not None:
            raise InputError(path, f"{field}.prefill", one.prefill, "none: prefill and autoscaling exclude each other")
        if one.autoscaling is not None and own.prefill is not None:
            raise InputError(path, f"{field}.autoscaling", name, "none: prefill and autoscaling exclude each other")
        if one.autoscaling is not None and one.start_up is None and own.start_up is None:
            expected = "how long a replica takes that is started, such as {boot_s: 120, load_gb_per_s: 2}"
            raise InputError(path, f"{field}.start_up", None, expected)
        if one.start_up is not None and own.start_up is not None and one.start_up != own.start_up:
            raise InputError(path, f"{field}.start_up", str(one.start_up), f"that of deployments.{name}, or none here")
    used = {
        gpu
        for name in pools
        if isinstance(pool := scenario.deployments[name], GpuPool)
        for gpu in _gpus_of(pool, search.pools.get(name))
    }
    for key in ("gpus", "usd_per_gpu_hour"):
        for gpu in getattr(search, key):
            if gpu not in used:
                raise InputError(path, f"search.{key}", gpu, nearest(gpu, used))


def _gpus_of(pool: GpuPool, searched: PoolSearch | None) -> set[str]:
    """GPUs that a pool's replicas may run on, as far as the scenario names them."""
    options = (searched.options or {}).values() if searched is not None else ()
    named = searched.gpu if searched is not None and searched.gpu is not None else [pool.gpu]
    return {gpu for gpu in (*named, *(one.gpu for one in options)) if gpu is not None}


def _as_text(value: object) -> str:
    """What YAML 1.1 made of a value that was meant as something else."""
    if isinstance(value, bool):
        return ": YAML reads true and false as truth values unless they stand in quotes"
    if isinstance(value, datetime.date):
        return f": YAML reads a day as a date unless it stands in quotes, '{value}'"
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        mantissa, exponent = value.lower().split("e")
        number = f"{mantissa}{'' if '.' in mantissa else '.0'}e{int(exponent):+d}"
        return f": YAML reads {value} as text, {number} as a number"
    return ""


def _check_references(scenario: Scenario) -> None:
    """Names used in one part of the scenario must be defined in another."""
    path = scenario.path
    sources, problems = scenario.workload.sources, scenario.workload.has_problems
    for name, arm in scenario.arms.items():
        if arm.deployment not in scenario.deployments:
            raise InputError(
                path, f"arms.{name}.deployment", arm.deployment, nearest(arm.deployment, scenario.deployments)
            )
        for source in arm.sources or []:
            if source not in sources:
                raise InputError(path, f"arms.{name}.sources", source, nearest(source, sources))
        if arm.profile is None and problems:
            raise InputError(
                path, f"arms.{name}.profile", None, "a profile, since the workload has sources of problems"
            )
        if arm.profile is not None and not problems and not may_have_sessions(scenario.workload):
            expected = "workload.sources, which say what problems arrive; or arrivals of sessions, for an agent profile"
            raise InputError(path, f"arms.{name}.profile", arm.profile, expected)
        if arm.turn_tokens != 1.0 and (problems or not may_have_sessions(scenario.workload)):
            raise InputError(path, f"arms.{name}.turn_tokens", arm.turn_tokens, "none: only turns of sessions have it")
        if isinstance(arm.turn_tokens, str) and arm.profile is None:
            expected = "a number, or an agent profile of the arm's own beside it: the ratio is of both"
            raise InputError(path, f"arms.{name}.turn_tokens", arm.turn_tokens, expected)
    shorter = scenario.search.compact
    if shorter is not None and (problems or not any(isinstance(one, Sessions) for one in scenario.workload.processes)):
        expected = "none: no requests arrive by process: sessions, whose contexts could be made shorter"
        raise InputError(path, "search.compact", shorter.model_dump(), expected)
    _check_fallbacks(scenario)
    check_budget(scenario)
    check_cascades({name: scenario.parsed_strategy(name) for name in scenario.arms}, path)
    carried = all(one.carries_lengths for one in scenario.workload.processes)
    if not sources and scenario.workload.lengths is None and not carried:
        expected = "sources, arrivals that carry lengths (clients or trace), or workload.lengths"
        raise InputError(path, "workload.sources", {}, expected)
    check_arm_space(scenario)
    wrong = None if scenario.targets is None else check_targets_of_sources(scenario.targets, list(sources))
    if wrong is not None:
        raise InputError(path, *wrong)
    pools = {name for name, deployment in scenario.deployments.items() if isinstance(deployment, GpuPool)}
    for name in scenario.search.replicas:
        if name not in pools:
            raise InputError(path, "search.replicas", name, nearest(name, pools))
        if getattr(scenario.deployments[name], "autoscaling", None) is not None:
            expected = f"a pool of fixed size: how many replicas {name} has is decided by its autoscaling"
            raise InputError(path, "search.replicas", name, expected)
        if getattr(scenario.deployments[name], "prefill", None) is not None:
            expected = f"search.pools.{name}: how many take prompts in for {name} is chosen with how many answer"
            raise InputError(path, "search.replicas", name, expected)
    _check_hardware(scenario, pools)
    check_configurations(path, scenario.search.tiers, scenario.search.concurrency, scenario.deployments)
    if isinstance(scenario.policy, dict):
        check_sources(scenario.policy, sources, path)
    check_objective(scenario)
    if not problems and scenario.predictor != FAST:
        raise InputError(path, "predictor", scenario.predictor, NOTHING_TO_SCORE)
    policy = scenario.parsed_policy()
    if policy is not None and policy.uses_responses and not problems:
        raise InputError(
            path, "policy", scenario.policy, "workload.sources, so that something is predicted of the arms"
        )
    for named in scenario.responses or ():
        if named not in scenario.arms:
            raise InputError(path, "responses", named, nearest(named, scenario.arms))
    for named in policy.arm_names() if policy is not None else ():
        if named not in scenario.arms:
            raise InputError(path, "policy", named, nearest(named, scenario.arms))


def _check_fallbacks(scenario: Scenario) -> None:
    """An arm falls back on arms that are there, and never on one that the request was at before."""
    for name, arm in scenario.arms.items():
        for other in arm.fallbacks:
            if other not in scenario.arms:
                raise InputError(scenario.path, f"arms.{name}.fallback", other, nearest(other, scenario.arms))
    for name in scenario.arms:
        path = scenario.path_of(name)
        again = next((one for at, one in enumerate(path) if one in path[:at]), None)
        if again is not None:
            expected = f"arms that a request has not been at before: {' -> '.join(path)}"
            raise InputError(scenario.path, f"arms.{name}.fallback", again, expected)
