"""What is no command line: values from Python, models, caches, kills."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing import mutating
from fuzzing.carrying_out import carry_out
from fuzzing.checking import NonsenseError, check_outputs
from fuzzing.dice import Dice
from ttc_sim.base.errors import InputError
from ttc_sim.policies import parse_policy
from ttc_sim.policies.reading import POLICIES
from ttc_sim.strategies import parse_strategy
from ttc_sim.strategies.reading import STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
LONGEST_START_S = 5.0

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.complex_numbers()
)
_LIKELY = (
    st.integers(0, 5) | st.floats(0, 1) | st.sampled_from(["truncate", "force_answer", "random", "small", "difficulty"])
)
_PARTS = _LIKELY | _SCALARS
_ANYTHING = _PARTS | st.lists(_PARTS, max_size=4) | st.dictionaries(st.text(max_size=3), _PARTS, max_size=2)


def _values_of(classes: Any, parse: Callable[[str], Any]) -> Callable[[bytes], Any]:
    @settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def made_and_read(data: st.DataObject) -> None:
        made_of = classes[data.draw(st.sampled_from(sorted(classes)))]
        fields = [field for field in dataclasses.fields(made_of) if field.init]
        required = [field.name for field in fields if field.default is dataclasses.MISSING]
        more = data.draw(st.lists(st.sampled_from([field.name for field in fields]), max_size=2, unique=True))
        values = {name: data.draw(_ANYTHING) for name in dict.fromkeys([*required, *more])}
        try:
            made = made_of(**values)
        except InputError:
            return
        if parse(repr(made)) != made:
            raise NonsenseError(f"{made_of.__name__}: its notation reads back as another")

    # The same bytes, the same values.
    return made_and_read.hypothesis.fuzz_one_input  # type: ignore[attr-defined, no-any-return]


VALUES = {"strategies": _values_of(STRATEGIES, parse_strategy), "policies": _values_of(POLICIES, parse_policy)}


def values(words: list[str], folder: Path) -> None:
    """Anything at all, put into the class of a strategy or policy; what is accepted reads back from its notation."""
    VALUES[words[0]](bytes.fromhex(words[1]))


def model(words: list[str], folder: Path) -> None:
    """The shipped predictor, damaged: refused, or its scores can be."""
    from ttc_sim.predictor.running.session import SHIPPED

    how, number = words
    dice = Dice("model", int(number))
    file = folder / "mine.onnx"
    if how == "raw":
        content = SHIPPED.read_bytes()
        file.write_bytes(mutating.raw(content if dice.chance(0.7) else content[-20000:], dice))
    else:
        import onnx

        read = onnx.load(str(SHIPPED))
        for _ in range(dice.few()):
            one = dice.of(read.metadata_props)
            with contextlib.suppress(UnicodeEncodeError):
                one.value = mutating.text(one.value, dice) if dice.chance(0.7) else str(mutating.anything(dice))
        onnx.save(read, str(file))
    status, _ = carry_out(["predictor", "score", "prompts.jsonl", "--model", "mine.onnx", "--out", "made.parquet"])
    if status == 0:
        from fuzzing.checking import read as table_of

        scores = table_of(folder / "made.parquet")
        chances = [scores[name] for name in scores.columns if name == "difficulty" or name.startswith("p:")]
        if any((one < 0).any() or (one > 1).any() or one.is_nan().any() for one in chances):
            raise NonsenseError("scores outside 0 to 1")


_MODULE = """
def step(x):
    return 3 * x + 1

def total(n):
    s = 0
    for i in range(n):
        s += i * i
    return s
"""


def cache(words: list[str], folder: Path) -> None:
    """A cache that was damaged gives what a whole one gives."""
    what, number = words
    dice = Dice("cache", int(number))
    with _cache_in(folder / "cache"):
        (_code if what == "code" else _operators)(folder, dice)


@contextlib.contextmanager
def _cache_in(at: Path) -> Iterator[None]:
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(at)
    logging.getLogger().addHandler(logging.StreamHandler(io.StringIO()))
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def _damage(at: Path, dice: Dice) -> None:
    files = [path for path in sorted(at.rglob("*")) if path.is_file()]
    for _ in range(dice.few()):
        path = dice.of(files)
        path.write_bytes(mutating.raw(path.read_bytes(), dice))


def _code(folder: Path, dice: Dice) -> None:
    from ttc_sim.base.compilation import kept

    source = folder / "kept_for_fuzzing.py"
    source.write_text(_MODULE)
    for turn in range(3):
        module = ModuleType(source.stem)
        sys.modules[source.stem] = module
        exec(compile(_MODULE, str(source), "exec"), module.__dict__)
        step, total = kept("fuzzing", [source])(module.step), kept("fuzzing", [source])(module.total)
        if (step(4), step(0.5), total(10)) != (13, 2.5, 285):
            raise NonsenseError("compiled code from a damaged cache computes something else")
        if turn < 2:
            _damage(folder / "cache", dice)


def _operators(folder: Path, dice: Dice) -> None:
    from ttc_sim.serving.catalogue import Served
    from ttc_sim.serving.operator_store import operator_times

    served = Served("Qwen/Qwen3-32B", "h200_sxm", tensor_parallel=2, precision="fp8")
    whole = operator_times.__wrapped__(served)
    for _ in range(3):
        _damage(folder / "cache", dice)
        if repr(operator_times.__wrapped__(served)) != repr(whole):
            raise NonsenseError("operator times from a damaged cache are others")


def kill(words: list[str], folder: Path) -> None:
    """Killed at some moment, a command leaves whole files; carried out again, it works and tidies up."""
    before = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", "from ttc_sim.cli import main; main()", *words[1:]]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(line, cwd=folder, env=environment, stdout=quiet, stderr=quiet) as process:
        time.sleep(float(words[0]) * LONGEST_START_S)
        process.kill()
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name.startswith(".")}
    check_outputs(folder, before | left)
    status, said = carry_out(words[1:])
    if status == 1:
        raise NonsenseError(f"after a kill the command refuses: {said.splitlines()[-1][:100]}")
    check_outputs(folder, before)


SPECIAL: dict[str, Callable[[list[str], Path], None]] = {
    "@values": values,
    "@model": model,
    "@cache": cache,
    "@kill": kill,
}
