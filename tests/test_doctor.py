"""``ttc-sim doctor`` and ``ttc-sim list``: what is here, what is missing for what, and what has a name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ttc_sim import cli
from ttc_sim.base.cache import write_entry
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.cli import doctor as doctors
from ttc_sim.cli import listing
from ttc_sim.measured.folders import list_profiles

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def end(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(str(left.value.code))


def test_every_extra_and_every_library_is_looked_for() -> None:
    extras = PYPROJECT["optional-dependencies"]
    assert set(doctors.EXTRAS) == set(extras) - {"dev", "cuda"}
    needed = {re.split(r"[>\[]", one)[0].replace("-", "_") for one in PYPROJECT["dependencies"]}
    imported = {"pyyaml": "yaml", "onnxruntime_gpu": "onnxruntime"}
    assert set(doctors.LIBRARIES) == {imported.get(one, one) for one in needed}


def test_what_is_here_is_found_and_nothing_needed_is_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # Other tests do, each.
    monkeypatch.setattr("ttc_sim.measured.profiles.load_profile", lambda name: name)
    monkeypatch.setattr(doctors, "_version_of", lambda name: "1")
    monkeypatch.delitem(PREDICTORS, "encoder")
    assert end(monkeypatch, "doctor", "--json", "-", "--quiet") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["healthy"] is True
    by_name = {one["name"]: one for one in found["findings"]}
    assert by_name["fast"]["status"] == "ok"
    assert by_name["profiles"]["said"].startswith(f"{len(list_profiles())}: ")
    assert all(one["needed_for"] for one in found["findings"] if one["status"] != "ok")


def findings(*parts: Any) -> dict[str, doctors.Finding]:
    return {one.name: one for part in parts for one in part()}


def test_an_extra_that_is_missing_says_what_it_is_for_and_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctors, "_version_of", lambda name: "1")
    monkeypatch.setattr(doctors, "find_spec", lambda name: None if name == "ray" else object())
    got = findings(doctors._extras)
    assert (got["ray"].status, got["ray"].needed) == ("missing", False)
    assert "pip install 'ttc-sim[ray]'" in got["ray"].said
    assert got["ray"].needed_for == "ttc-sim sweep --backend ray"
    assert got["dask"].status == "ok"


def test_a_library_that_does_not_work_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half_installed(name: str) -> None:
        if name == "numba":
            raise OSError("libllvm: cannot open\nshared object file")

    monkeypatch.setattr(doctors, "_version_of", lambda name: "1")
    monkeypatch.setattr(doctors, "import_module", half_installed)
    for part in ("_extras", "_predictors", "_caches", "_scenarios", "_measured"):
        monkeypatch.setattr(doctors, part, lambda: iter(()))
    assert end(monkeypatch, "doctor") == 2
    out = capsys.readouterr().out
    assert "OSError: libllvm: cannot open shared object file" in " ".join(out.split())
    assert "1 broken that are needed" in out


def test_a_cache_that_is_damaged_or_open_to_others_is_said_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "ttc-sim" / "operator-times"
    for name in ("good", "cut"):
        write_entry(folder / f"{name}.json", ["1"], b"what is kept")
    assert findings(doctors._caches)["operator times"].said.startswith(f"{folder}: 2 entries that are whole, ")
    (folder / "cut.json").write_bytes((folder / "cut.json").read_bytes()[:-3])
    bad = [one for one in doctors._caches() if one.status == "broken"]
    assert [one.name for one in bad] == ["operator times"]
    assert "does not match its checksum" in bad[0].said
    assert not bad[0].needed
    folder.chmod(0o777)
    assert all("written to by others" in one.said for one in doctors._caches() if one.status == "broken")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    (tmp_path / "a file").write_text("")
    assert {one.status for one in doctors._caches() if one.name == "compiled code"} == {"broken"}


def test_a_profile_of_ones_own_that_is_damaged_is_said_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "profiles" / "mine").mkdir(parents=True)
    (tmp_path / "profiles" / "mine" / "profile.yaml").write_text("origin: here\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TTC_SIM_PROFILES", str(tmp_path / "nowhere"))
    monkeypatch.setattr(
        "ttc_sim.measured.folders.list_profiles", lambda card_file: ["mine"] * (card_file[:7] == "profile")
    )
    got = findings(doctors._measured)
    assert (got["mine"].status, got["mine"].needed) == ("broken", False)
    assert got["TTC_SIM_PROFILES"].status == "broken"
    assert got["traffic"].needed  # of these nothing is found at all


def test_words_find_what_has_all_of_them(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["competition", "MATHS"]
    assert end(monkeypatch, "list", *words, "--json", "-") == 0
    found = json.loads(capfd.readouterr().out)["found"]
    assert [one["name"] for one in found] == ["competition-maths"]
    assert end(monkeypatch, "list", "gemini-2.5-pro", "--kind", "price", "--kind", "gpu") == 0
    out = capfd.readouterr().out
    assert "google/gemini-2.5-pro" in out
    assert "ttc-sim prices NAME" in out
    assert "h100" not in out


def test_every_kind_has_names_that_other_commands_take() -> None:
    from ttc_sim.measured.problem_sets import load_problem_set
    from ttc_sim.scenario.gpu_prices import GPU_PRICES
    from ttc_sim.scenario.load import find_scenario
    from ttc_sim.serving.prices import named_exactly

    names: dict[str, list[str]] = {}
    for one in listing.items([kind for kind in listing.KINDS if kind != "model"]):
        names.setdefault(one.kind, []).append(one.name)
        assert one.about
    assert set(names) == set(listing.KINDS) - {"model"}
    assert all(find_scenario(name).is_file() for name in names["scenario"])
    assert names["profile"] == list_profiles()
    assert all(load_problem_set(name) for name in names["problem-set"])
    assert set(GPU_PRICES) < set(names["gpu"])
    assert set(PREDICTORS) <= set(names["predictor"])
    assert all(named_exactly(name) for name in names["price"][::200])


def test_few_of_each_kind_are_shown_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listing, "KINDS", {kind: listing.KINDS[kind] for kind in ("scenario", "profile")})
    assert end(monkeypatch, "list") == 0
    out = capsys.readouterr().out
    assert f"{len(list_profiles()) - 12} more, with --kind profile or more words" in out
    assert end(monkeypatch, "list", "--kind", "profile") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in list_profiles())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("zzz", "--kind", "gpu"), "WORDS: got 'zzz'; expected one of a100_sxm"),
        (("h10_sxm", "--kind", "gpu"), "expected 'h100_sxm'"),
        (("--kind", "prices"), "--kind: got 'prices'; expected 'price'"),
    ],
)
def test_what_is_not_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    assert end(monkeypatch, "list", *words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_card_that_cannot_be_read_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "profiles" / "mine").mkdir(parents=True)
    (tmp_path / "profiles" / "mine" / "profile.yaml").write_text("origin: [\n")
    monkeypatch.chdir(tmp_path)
    found = {one.name: one.about for one in listing.items(["profile"])}
    assert found["mine"].startswith("cannot be read: ")
    assert len(found) > 20


def test_a_schema_of_another_version_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert not list(doctors._schema_here())
    assert end(monkeypatch, "schema", "--out", "scenario.schema.json") == 0
    assert [one.status for one in doctors._schema_here()] == ["ok"]
    (tmp_path / "scenario.schema.json").write_text("{}")
    (other,) = doctors._schema_here()
    assert (other.status, other.needed) == ("broken", False)
    assert "ttc-sim schema --out scenario.schema.json makes it anew" in other.said


def test_a_terminal_without_colour_and_utf_8_gets_plain_output() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "dumb", "PYTHONIOENCODING": "ascii"}
    code = "from ttc_sim.cli import main; main()"
    line = [sys.executable, "-c", code, "list", "--kind", "scenario", "--kind", "traffic"]
    got = subprocess.run(line, env=environment, capture_output=True, check=True)
    shown = got.stdout.decode("ascii")
    assert "qa-gateway" in shown
    assert "\x1b" not in shown
