"""A user's file runs when what it holds is used, with consent, from the folder of what names it, and not otherwise."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.base.consent import AllowCode, FileFunction, store_of_consent
from ttc_sim.base.errors import InputError
from ttc_sim.base.workers import processes
from ttc_sim.cli import main
from ttc_sim.scenario import checked
from ttc_sim.strategies import UserStrategy

from .test_scenario import GOOD

# Every run of the file leaves a line behind, as would a file that does worse.
OWN = """
from pathlib import Path
from ttc_sim.strategies import Single

with (Path(__file__).parent / "ran").open("a") as marker:
    marker.write("{mark}\\n")
at = 0.5

def choose(request):
    return "small" if request.difficulty < at else "large"

def by_load(request, load):
    return "small" if load.in_progress["pool"] < 1 else "large"

def brief(trial):
    return Single(cap=2048).carry_out(trial)
"""


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A scenario's folder with a file of code."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "own.py").write_text(OWN.format(mark="ran"))
    return folder


def write(folder: Path, *, name: str = "s.yaml", **changes: Any) -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump({**copy.deepcopy(GOOD), "policy": "own.py:choose", "replications": 1, **changes}))
    return file


def with_arm(strategy: str) -> dict[str, Any]:
    mine = {"profile": "math/sky-t1-32b", "deployment": "api", "strategy": strategy}
    return {**copy.deepcopy(GOOD["arms"]), "mine": mine}


def ran(folder: Path) -> bool:
    return (folder / "ran").exists()


def records(*given: Any, **options: Any) -> pl.DataFrame:
    return ttc.simulate(*given, requests=40, **options).records


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Status of a command and what it says to standard error."""
    monkeypatch.setattr(sys, "argv", ["ttc-sim", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


# ------------------------------------------------------------------------------------------ loading, and other policies


def test_loading_runs_nothing(home: Path) -> None:
    file = write(home, arms=with_arm("own.py:brief"))
    consents: tuple[AllowCode, ...] = (False, True, "remember")
    for allow in consents:
        scenario = ttc.load_scenario(file, allow_code=allow)
        for made in (
            scenario,
            ttc.with_changes(scenario, {"seed": 3}),
            checked(scenario),
            copy.deepcopy(scenario),
            scenario.model_copy(update={"seed": 4}),
            pickle.loads(pickle.dumps(scenario)),
        ):
            assert repr(made.parsed_policy()) == "own.py:choose"
            assert repr(made.parsed_strategy("mine")) == "own.py:brief"
    assert not ran(home)
    assert not (home / "__pycache__").exists()
    assert ttc.load_scenario(file) == ttc.load_scenario(file, allow_code=True)  # they say the same


def test_what_is_not_used_neither_runs_nor_needs_consent(home: Path) -> None:
    plain = write(home, policy="Always('small')", name="plain.yaml", arms=with_arm("Single()"))
    named = write(home, arms=with_arm("own.py:brief"))
    wanted = ttc.simulate(plain, requests=40)
    found = ttc.simulate(named, "Always('small')", requests=40)
    assert found.records.equals(wanted.records)
    # Nor for what is expected of arms, or said of them.
    assert found.summary().accuracy == wanted.summary().accuracy
    assert found.summary().notes == wanted.summary().notes
    cascade = {"profile": "math/sky-t1-32b", "deployment": "api"}
    cascade["strategy"] = "Cascade(stages=['mine', 'large'], tpr=0.9, fpr=0.1)"
    further = write(home, arms={**with_arm("own.py:brief"), "both": cascade})
    assert ttc.simulate(further, "Always('small')", requests=40).summary().accuracy == wanted.summary().accuracy
    assert not ran(home)
    with pytest.raises(InputError, match=r"arms\.mine\.strategy: got 'own\.py:brief'; expected consent"):
        ttc.simulate(further, "Always('both')", requests=40)
    assert not ran(home)


def test_a_command_that_uses_no_code_needs_no_consent(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(home, arms=with_arm("own.py:brief"))
    one = ("simulate", file, "--policy", "Always('small')", "--requests", 20)
    assert said(monkeypatch, capsys, *one, "--no-baselines")[0] == 0
    policy = write(home, name="policy.yaml")
    assert said(monkeypatch, capsys, "simulate", policy, "--policy", "Always('small')", "--requests", 20)[0] == 0
    # With them every arm is carried out: said before anything is.
    status, error = said(monkeypatch, capsys, *one)
    assert (status, error.count("\n"), ran(home)) == (1, 1, False)
    assert "arms.mine.strategy" in error
    assert "--no-baselines" in error


# ------------------------------------------------------------------------------------------------ consent, and without it


def test_without_consent_one_line_says_what_would_run(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(home)
    monkeypatch.chdir(home)
    for arguments in (
        ("simulate", file, "--requests", 20),
        ("simulate", "qa-gateway", "--requests", 20, "--policy", "./own.py:choose"),
        ("evaluate", "math/sky-t1-32b", "--strategy", "own.py:brief"),
        ("optimize", write(home, name="t.yaml", arms=with_arm("own.py:brief"))),
        ("cross-validate", home / "t.yaml"),
    ):
        status, error = said(monkeypatch, capsys, *arguments)
        assert (status, error.count("error:")) == (1, 1), error
        [line] = [line for line in error.splitlines() if line.startswith("error:")]
        for part in ("own.py:", str(home / "own.py"), "would", "--allow-code", "allow_code=True", "--remember-code"):
            assert part in line
    assert not ran(home)


def test_with_consent_it_runs(home: Path) -> None:
    file = write(home)
    wanted = records(write(home, policy=GOOD["policy"], name="plain.yaml"))
    for found in (
        records(ttc.load_scenario(file, allow_code=True)),
        records(ttc.load_scenario(file), allow_code=True),
        records(file, allow_code=True),
        records(ttc.scenario_from_dict(yaml.safe_load(file.read_text()), str(file), allow_code=True)),
        records(ttc.with_changes(ttc.load_scenario(file, allow_code=True), {"description": "mine"})),
        records(file, ttc.parse_policy("own.py:choose", folder=home, allow_code=True)),
    ):
        assert found.equals(wanted)
    assert ran(home)
    arms = write(home, arms=with_arm("own.py:brief"), policy="Always('mine')")
    wanted = records(write(home, arms=with_arm("Single(cap=2048)"), policy="Always('mine')", name="plain.yaml"))
    assert records(arms, allow_code=True).equals(wanted)
    for allow in ("no", 1, None):
        with pytest.raises(InputError, match=r"allow_code: got .*; expected True, False or 'remember'"):
            ttc.load_scenario(file, allow_code=allow)  # type: ignore[arg-type]


def test_a_file_cannot_consent_for_its_reader(home: Path) -> None:
    for key in ("allow_code", "_code", "code"):
        more: dict[str, Any] = {key: True}
        file = write(home, **more)
        with pytest.raises(InputError, match=key):
            ttc.load_scenario(file)
    assert not ran(home)


def test_ones_own_python_needs_no_consent() -> None:
    def choose(request: ttc.Request) -> str:
        return "small" if request.difficulty < 0.5 else "large"

    scenario = ttc.scenario_from_dict({**GOOD, "replications": 1})
    assert records(scenario, choose).equals(records(scenario))


def test_what_has_changed_since_it_was_read_does_not_run(home: Path) -> None:
    scenario = ttc.load_scenario(write(home), allow_code=True)
    (home / "own.py").write_text(OWN.format(mark="changed"))
    for made in (scenario, ttc.with_changes(scenario, {"seed": 2})):
        with pytest.raises(InputError, match=r"policy: got 'own\.py:choose'; expected .* it has changed since"):
            records(made)
    assert not ran(home)
    records(ttc.load_scenario(home / "s.yaml", allow_code=True))
    assert (home / "ran").read_text() == "changed\n"


# ------------------------------------------------------------------------------------------------------- remembering


def test_a_remembered_file_runs_until_it_changes(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = ("simulate", write(home), "--requests", 20, "--no-baselines")
    # Consent for once is not remembered.
    assert said(monkeypatch, capsys, *command, "--allow-code")[0] == 0
    assert said(monkeypatch, capsys, *command)[0] == 1
    caplog.clear()
    assert said(monkeypatch, capsys, *command, "--remember-code")[0] == 0
    store = store_of_consent()
    assert caplog.messages == [f"{str(home / 'own.py')!r} is remembered in {str(store)!r}"]
    assert store is not None
    digest = hashlib.sha256((home / "own.py").read_bytes()).hexdigest()
    assert store.read_text() == f"{digest}  {home / 'own.py'}\n"
    assert said(monkeypatch, capsys, *command)[0] == 0
    assert len(records(home / "s.yaml")) == 40

    # The same bytes elsewhere are another file: what it takes in beside it may be anything.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "own.py").write_bytes((home / "own.py").read_bytes())
    with pytest.raises(InputError, match="consent"):
        records(write(elsewhere))

    # What others can write to says nothing of one's own consent.
    store.chmod(0o666)
    assert said(monkeypatch, capsys, *command)[0] == 1
    status, error = said(monkeypatch, capsys, *command, "--remember-code")
    assert (status, "others may have written it" in error) == (1, True)
    store.chmod(0o600)

    (home / "ran").unlink()
    (home / "own.py").write_text(OWN.format(mark="changed"))
    assert said(monkeypatch, capsys, *command)[0] == 1
    assert not ran(home)
    assert not ran(elsewhere)


def test_a_name_that_cannot_be_printed_is_not_remembered(home: Path) -> None:
    name = "own\x1b[2K\n.py"
    (home / "own.py").rename(home / name)
    scenario = write(home, policy=f"{name}:choose")
    with pytest.raises(InputError, match="consent") as asked:
        records(scenario)
    assert str(asked.value).isprintable()
    with pytest.raises(InputError, match="a name that can be printed"):
        records(scenario, allow_code="remember")
    assert not ran(home)
    assert len(records(scenario, allow_code=True)) == 40


# ------------------------------------------------------------------------------------------------------------ where


def test_code_outside_of_the_scenarios_folder_is_refused(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "own.py").write_text(OWN.format(mark="outside"))
    (home / "file.py").symlink_to(outside / "own.py")
    (home / "folder").symlink_to(outside)
    (home / "circle.py").symlink_to(home / "circle.py")
    (home / "folder.py").mkdir()
    for named in ("../outside/own.py", str(outside / "own.py"), "file.py", "folder/own.py"):
        for changes in ({"policy": f"{named}:choose"}, {"arms": with_arm(f"{named}:brief"), "policy": None}):
            with pytest.raises(
                InputError, match=r"s\.yaml: (policy|arms\.mine\.strategy): got .*; expected a file in "
            ):
                ttc.load_scenario(write(home, **changes), allow_code=True)
    for named in ("absent.py", "circle.py", "folder.py", "x" * 5000 + ".py", "a\0.py"):
        with pytest.raises(InputError, match="an existing Python file"):
            ttc.load_scenario(write(home, policy=f"{named}:choose"))
    with pytest.raises(InputError, match="the name of a function"):
        ttc.load_scenario(write(home, policy="own.py:choose()"))
    assert not ran(outside)
    assert not ran(home)


def test_code_inside_of_the_folder_is_found(home: Path) -> None:
    (home / "below").mkdir()
    (home / "below" / "deep.py").write_text(OWN.format(mark="deep"))
    (home / "link.py").symlink_to(home / "below" / "deep.py")
    wanted = records(write(home), allow_code=True)
    for named in ("below/deep.py", "link.py", "below/../own.py", str(home / "own.py")):
        assert records(write(home, policy=f"{named}:choose"), allow_code=True).equals(wanted)


# ------------------------------------------------------------------------------------------------- code that goes wrong


FAILS = {
    "sys.exit(0)": "SystemExit: 0",
    "raise KeyError('gone')": "KeyError: 'gone'",
    "raise Quits('tired')": "Quits: tired",
    "1 +": "SyntaxError",
    "x = '\\0'\n\0": "SyntaxError",
    "choose = brief = 5": "a function of own.py",
    "pass": "a function of own.py",
}
HEAD = "import sys\nclass Quits(BaseException): pass\n"


@pytest.mark.parametrize(("body", "says"), FAILS.items())
def test_a_file_that_fails_ends_in_one_line(
    body: str, says: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "own.py").write_text(HEAD + body + "\n")
    few = ("--requests", 10, "--no-baselines", "--allow-code")
    used: tuple[dict[str, Any], ...] = ({}, {"arms": with_arm("own.py:brief"), "policy": "Always('mine')"})
    for changes in used:
        status, error = said(monkeypatch, capsys, "simulate", write(home, **changes), *few)
        assert status == 1
        [line] = [line for line in error.splitlines() if not line.startswith("run ")]
        assert line.startswith("error: ")
        assert says in line.replace("ValueError: source code string cannot contain null bytes", "SyntaxError")


@pytest.mark.parametrize("end", ["sys.exit(0)", "sys.exit()", "raise Quits('tired')", "1 / 0"])
def test_a_function_that_ends_the_process_ends_in_one_line(
    end: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = ("choose(request)", "by_load(request, load)", "brief(trial)")
    (home / "own.py").write_text(HEAD + "".join(f"def {one}:\n    {end}\n" for one in functions))
    few = ("--requests", 10, "--no-baselines", "--allow-code")
    for changes in (
        {},
        {"policy": "own.py:by_load"},
        {"policy": {"maths": "own.py:choose"}},
        {"arms": with_arm("own.py:brief"), "policy": "Always('mine')"},
    ):
        status, error = said(monkeypatch, capsys, "simulate", write(home, **changes), *few)
        assert (status, error.count("error: ")) == (1, 1)
        assert "Traceback" not in error


@pytest.mark.parametrize("returned", ["None", "5", "['small']", "'gpt'"])
def test_what_is_no_arm_is_refused(returned: str, home: Path) -> None:
    (home / "own.py").write_text(f"def choose(request):\n    return {returned}\n")
    with pytest.raises(InputError, match="policy, request 0: got"):
        records(write(home), allow_code=True)


# -------------------------------------------------------------------------------------------------------- processes


def _nothing() -> None: ...


def _choices(scenario: ttc.Scenario) -> list[str] | str:
    """Arms that its policy chose, or why it did not."""
    try:
        return records(scenario)["arm"].to_list()
    except InputError as error:
        return str(error)


def test_another_process_has_the_same_consent_and_the_same_bytes(home: Path) -> None:
    allowed, refused = (ttc.load_scenario(write(home), allow_code=allow) for allow in (True, False))
    assert set(_choices(allowed)) == {"small", "large"}
    with processes(2, _nothing, ()) as mapped:
        first, second = mapped(_choices, [allowed, refused])
        assert first == _choices(allowed)
        assert "expected consent" in second
        (home / "ran").unlink()
        (home / "own.py").write_text(OWN.format(mark="changed").replace("at = 0.5", "at = 0.1"))
        assert all("it has changed since" in one for one in mapped(_choices, [allowed, refused]))
    assert not ran(home)


def test_a_function_that_ran_is_run_anew_elsewhere(home: Path) -> None:
    strategy = ttc.parse_strategy("own.py:brief", folder=home, allow_code=True)
    assert isinstance(strategy, UserStrategy)
    assert isinstance(strategy.function, FileFunction)
    assert not strategy.is_at_hand
    first = strategy.function.function
    assert strategy.is_at_hand
    for other in (copy.deepcopy(strategy), pickle.loads(pickle.dumps(strategy))):
        assert not other.is_at_hand
        assert other.function.function.__name__ == first.__name__


# ------------------------------------------------------------------------------------------------------------ plans


SMALL: dict[str, Any] = {
    "workload": {**GOOD["workload"], "requests": 20},
    "search": {"bands": 4, "max_bands": 2, "scores": ["difficulty"]},
}


def saved(folder: Path, scenario: Path, made_from: str = "s.yaml", **more: Any) -> Path:
    """A plan of that scenario, as one writes it who wants it to be carried out."""
    file = folder / "plan.yaml"
    raw = yaml.safe_load(scenario.read_text())
    file.write_text(
        yaml.safe_dump({"ttc_sim_plan": 2, "promised": {}, "made_from": made_from, "scenario": raw, **more})
    )
    return file


def test_a_plan_runs_nothing_unless_it_is_carried_out(home: Path) -> None:
    plan = saved(home, write(home))
    assert repr(ttc.load_plan(plan).scenario.parsed_policy()) == "own.py:choose"
    assert ttc.load_plan(plan).notes[0].startswith("the plan does not say what own.py held")
    with pytest.raises(InputError, match="consent to run code"):
        ttc.load_plan(plan).runtime()
    assert not ran(home)
    assert ttc.load_plan(plan, allow_code=True).runtime().route("What is 2 + 2?").arm in ("small", "large")
    assert ran(home)


def test_a_plan_cannot_reach_out_of_its_own_folder(home: Path, tmp_path: Path) -> None:
    """It says itself where its scenario stood: that must not lead to code that lies about elsewhere."""
    mail = tmp_path / "mail"
    mail.mkdir()
    plan = saved(mail, write(home), "../home/s.yaml")
    with pytest.raises(InputError, match=r"expected a file in .*mail' or below"):
        ttc.load_plan(plan, allow_code=True)
    # Above the scenario's folder it may stand.
    assert ttc.load_plan(saved(tmp_path, home / "s.yaml", "home/s.yaml"), allow_code=True).runtime().arms


def test_a_plan_knows_the_code_that_it_was_made_with(home: Path, tmp_path: Path) -> None:
    file = write(home, arms=with_arm("own.py:brief"), **SMALL)
    plan = ttc.optimize(file, allow_code=True)
    plan.save(home / "plan.yaml")
    read = ttc.load_plan(home / "plan.yaml")
    assert read.scenario == plan.scenario
    assert read.notes == ()
    with pytest.raises(InputError, match=r"plan\.yaml: file: .*own\.py:brief, which must not lie elsewhere"):
        plan.save(tmp_path / "config.yaml" / "plan.yaml")
    (home / "own.py").write_text(OWN.format(mark="changed"))
    with pytest.raises(InputError, match=r"code_sha256\.own\.py: .*changed since the plan was made"):
        ttc.load_plan(home / "plan.yaml", allow_code=True)
    for wrong in (5, {"own.py": 5}):
        raw = {**yaml.safe_load((home / "plan.yaml").read_text()), "code_sha256": wrong}
        (home / "wrong.yaml").write_text(yaml.safe_dump(raw))
        with pytest.raises(InputError, match="code_sha256: got"):
            ttc.load_plan(home / "wrong.yaml")
    assert (home / "ran").read_text().count("changed") == 0


def test_a_plan_that_needs_no_code_needs_no_consent(home: Path) -> None:
    plan = ttc.optimize(write(home, **SMALL))  # which has a policy of its own
    plan.save(home / "plan.yaml")
    assert "code_sha256" not in (home / "plan.yaml").read_text()
    assert ttc.load_plan(home / "plan.yaml").runtime().arms
    assert not ran(home)


def test_a_place_for_the_plan_is_looked_at_before_the_work(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(home, arms=with_arm("own.py:brief"))
    (tmp_path / "plans").mkdir()
    plan = tmp_path / "plans" / "plan.yaml"
    status, error = said(monkeypatch, capsys, "optimize", file, "--allow-code", "--plan", plan)
    assert (status, error.count("\n"), ran(home), plan.exists()) == (1, 1, False, False)
    assert "which must not lie elsewhere" in error


def measured(folder: Path) -> tuple[object, ...]:
    """Options that name new problems and attempts at them."""
    rows = range(40)
    prompts = [f"What is {k} + {k + 1}? " * (1 + k % 3) for k in rows]
    dataset = ["aime24" if k % 2 else "amc23" for k in rows]
    pl.DataFrame({"id": rows, "prompt": prompts, "dataset": dataset}).write_parquet(folder / "p.parquet")
    models = {"sky-t1-32b": 2, "qwen2.5-14b-instruct": 3}
    attempts = [(k, model, 100 * (k + 3), k % every == 0) for k in rows for model, every in models.items()]
    names = ["id", "model", "output_tokens", "correct"]
    pl.DataFrame(attempts, schema=names, orient="row").write_parquet(folder / "a.parquet")
    return "--problems", folder / "p.parquet", "--attempts", folder / "a.parquet"


def test_validate_asks_for_consent_to_what_the_plan_uses(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy and, where there are targets, every arm: it may be the best in hindsight."""
    command = ("validate", home / "plan.yaml", *measured(home))

    def carried_out(*more: str, **changes: Any) -> tuple[int, str]:
        saved(home, write(home, **changes))
        return said(monkeypatch, capsys, *command, *more)

    mine = with_arm("own.py:brief")
    status, error = carried_out(policy="Always('small')", arms=mine)
    assert status == 1
    assert "arms.mine.strategy: got 'own.py:brief'; expected consent" in error
    assert carried_out(policy="Always('small')", arms=mine, targets=None)[0] == 0
    assert "policy: got 'own.py:choose'; expected consent" in carried_out(arms=mine, targets=None)[1]
    assert not ran(home)
    assert carried_out("--allow-code", arms=mine, targets=None)[0] == 0
    assert ran(home)


def test_a_router_asks_for_consent_to_its_two_arms(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--weak", "qwen2.5-14b-instruct", "--strong", "sky-t1-32b", "--no-baselines", "--resamples", "100")
    command = ("predictor", "evaluate", *measured(home), *asked, "--scenario")
    # Its policy and third arm are not asked.
    assert said(monkeypatch, capsys, *command, write(home, arms=with_arm("own.py:brief")))[0] == 0
    arms = with_arm("own.py:brief")
    arms["large"] = arms["mine"]
    assert "expected consent" in said(monkeypatch, capsys, *command, write(home, arms=arms))[1]
    assert not ran(home)
    assert said(monkeypatch, capsys, *command, home / "s.yaml", "--allow-code")[0] == 0
    assert ran(home)
