"""The shipped suites, on all that is shipped, and on things that are broken in one way each."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import pytest
from pydantic import Field

from ttc_sim.base.draws import I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.policies import (
    POLICIES,
    Always,
    Banded,
    Escalate,
    LeastLoaded,
    LiveRule,
    Load,
    Overflow,
    PerSource,
    Policy,
    Request,
    Requests,
    SessionBudget,
    Sticky,
    Threshold,
    UserFunction,
    Utility,
)
from ttc_sim.scenario import (
    Arrivals,
    Clients,
    ClosedLoop,
    Columns,
    Even,
    GpuPool,
    LayerStepTime,
    LinearStepTime,
    PhysicsStepTime,
    Piecewise,
    Poisson,
    Renewal,
    Sessions,
    Step,
    StepTime,
    Trace,
)
from ttc_sim.scenario.traffic import ARRIVALS
from ttc_sim.serving.step_time import step_table
from ttc_sim.strategies import (
    STRATEGIES,
    BestOfN,
    BudgetForcing,
    Cascade,
    MajorityVote,
    Single,
    Strategy,
    UserStrategy,
)
from ttc_sim.strategies.outcomes import Outcome, Trial, reading, vote
from ttc_sim.testing import ArrivalsConformance, PolicyConformance, StepTimeConformance, StrategyConformance
from ttc_sim.workload import Traffic

F = TypeVar("F", bound=Callable[..., None])


def names_in(suite: type) -> list[str]:
    return sorted(name for name in dir(suite) if name.startswith("test_"))


def every(suite: type, things: Sequence[Any]) -> Callable[[F], F]:
    """Each test of a suite with each thing."""
    return pytest.mark.parametrize(("thing", "test"), list(product(things, names_in(suite))), ids=_said)


def _said(thing: Any) -> str:
    return str(thing if isinstance(thing, str) else getattr(thing, "name", getattr(thing, "__name__", repr(thing))))


def run(suite: type, test: str, **attributes: object) -> None:
    getattr(type("Mine", (suite,), attributes)(), test)()


def passes(suite: type, **attributes: object) -> None:
    for test in names_in(suite):
        run(suite, test, **attributes)


def fails(suite: type, tests: Sequence[str], **attributes: object) -> None:
    for test in tests:
        with pytest.raises((AssertionError, InputError)):
            run(suite, f"test_{test}", **attributes)


# ------------------------------------------------------------------------------------------------ all that is shipped


def longest_of_three(trial: Trial) -> Outcome:
    samples = trial.samples(3)
    best = samples.tokens.argmax(axis=1)[:, None]
    return Outcome.of(samples, np.take_along_axis(samples.correct, best, axis=1)[:, 0])


SHIPPED_STRATEGIES = [
    Single(),
    Single(cap=200),
    Single(cap=100, on_cap="force_answer"),
    BudgetForcing(min_tokens=300, cap=900, extensions=2),
    MajorityVote(n=5),
    MajorityVote(n=4, cap=200, stop_early=True),
    MajorityVote(n=5, cap=100, on_cap="force_answer", ties="shortest", stop_early=0.9),
    MajorityVote(n=3, of=BudgetForcing(min_tokens=100, extensions=1)),
    BestOfN(n=4, auroc=0.8),
    BestOfN(n=3, tpr=0.9, fpr=0.2, verifier="judge", verifier_tokens=7),
    BestOfN(n=3, scores=True),
    Cascade(stages=(Single(cap=100), MajorityVote(n=3)), tpr=0.9, fpr=0.2, judge="judge"),
    Cascade(stages=("another arm", Single()), tpr=0.9, fpr=0.3),
    UserStrategy("mine.py:longest_of_three", longest_of_three),
]


@every(StrategyConformance, SHIPPED_STRATEGIES)
def test_shipped_strategies(thing: Strategy, test: str) -> None:
    run(StrategyConformance, test, strategy=thing)


def by_score(request: Request) -> str:
    return "large" if request.difficulty > 0.5 else "small"


def by_load(request: Request, load: Load) -> str:
    return "large" if load.in_progress["small"] + load.waiting["small"] > 2 else "small"


BANDS = Threshold(at=0.4, below="small", above="large")
SHIPPED_POLICIES = [
    Always("small"),
    Threshold(at=0.4, below="small", above="large"),
    Banded(edges=[0.3, 0.6], arms=["small", "large", "small"], score="p:small"),
    Banded(edges=[], arms=["small"]),
    Overflow(arms=["small", "large"], waiting=2),
    LeastLoaded(arms=["small", "middle", "large"]),
    Utility(price_of_accuracy=0.01),
    Utility(price_of_accuracy=0.001, price_of_second=0.001),
    PerSource({"first": Always("small"), "second": Utility(price_of_accuracy=0.01)}),
    Sticky(BANDS, worth_usd=0.005, turns=4),
    Sticky(Escalate(BANDS), lost_tokens=2_000, patience=2, moves=3),
    Sticky(Utility(price_of_accuracy=0.01)),
    Escalate(Threshold(at=3, below="small", above="large", score="prompt_tokens")),
    SessionBudget(Sticky(BANDS), usd=0.03, to="small"),
    SessionBudget(Utility(price_of_accuracy=0.01), usd=0.05, tokens=40_000, at_end="stop"),
    PerSource({"first": Sticky(BANDS), "second": SessionBudget(Always("large"), tokens=9_000, to="small")}),
    UserFunction("route.py:by_score", by_score),
    UserFunction("route.py:by_load", by_load),
]


@every(PolicyConformance, SHIPPED_POLICIES)
def test_shipped_policies(thing: Policy, test: str) -> None:
    run(PolicyConformance, test, policy=thing)


LINEAR = LinearStepTime(base_s=0.0113, per_prefill_token_s=1.7e-5, per_sequence_s=0.0, per_kv_token_s=1.9e-8)
PHYSICS = PhysicsStepTime(model="Qwen/Qwen3-32B", gpu="H100", tensor_parallel=2)


@every(StepTimeConformance, [LINEAR, PHYSICS])
def test_shipped_step_times(thing: LinearStepTime | PhysicsStepTime, test: str) -> None:
    run(StepTimeConformance, test, step_time=thing)


@pytest.fixture(scope="module")
def gpu_profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measurements per layer as one would take them of a GPU, sparse and uneven."""
    folder = tmp_path_factory.mktemp("profiles") / "mine"
    (folder / "tp1").mkdir(parents=True)
    (folder / "meta.yaml").write_text("model: meta-llama/Llama-3.1-8B\n")
    layers = ("embedding", "final_layernorm", "layernorm", "o_proj", "qkv_proj", "rotary_emb")
    dense = [
        f"{layer},{tokens},{3 + 0.02 * tokens}"
        for layer in (*layers, "act_fn", "down_proj", "gate_up_proj")
        for tokens in (1, 64, 512, 2048)
    ]
    heads = [f"{layer},{count},{20 + count}" for layer in ("lm_head", "sampler") for count in (1, 64, 256)]
    mixed = [
        f"{chunk},{context},{count},{kv},{2 + 1e-5 * chunk * (context + chunk / 2) + 1e-4 * count * kv}"
        for chunk, context in ((0, 0), (256, 0), (256, 4096), (2048, 0), (2048, 4096))
        for count, kv in ((0, 0), (1, 128), (1, 8192), (64, 128), (64, 8192))
        if chunk or count
    ]
    for name, header, rows in (
        ("dense", "layer,tokens,time_us", dense),
        ("per_sequence", "layer,sequences,time_us", heads),
        ("attention", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", mixed),
    ):
        (folder / "tp1" / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


@pytest.mark.parametrize("test", names_in(StepTimeConformance))
def test_step_times_per_layer(gpu_profile: Path, test: str) -> None:
    run(StepTimeConformance, test, step_time=LayerStepTime(gpu_profile="mine"), folder=gpu_profile.parent)


class Catalogued(StepTimeConformance):
    """A pool that names a model and a GPU of the catalogue instead of step times."""

    rises_with = ("kv",)  # measured operators are not smooth in the rest

    def pool(self, max_tokens: int, max_sequences: int, **changes: object) -> GpuPool:
        named = {"model": "meta-llama/Meta-Llama-3.1-8B", "gpu": "l40s", "precision": "bf16", "replicas": 1}
        limits = {"max_num_batched_tokens": max_tokens, "max_num_seqs": max_sequences}
        return GpuPool.model_validate({"kind": "gpu_pool", **named, **limits, **changes})


@pytest.mark.parametrize("test", names_in(StepTimeConformance))
def test_step_times_of_the_catalogue(test: str) -> None:
    run(Catalogued, test)


def write_trace(folder: Path) -> Trace:
    (folder / "trace.csv").write_text("t,prompt,think,out\n0.0,40,3,9\n0.7,9,0,4\n0.7,30,20,25\n3.9,12,2,7\n")
    columns = Columns(arrival="t", prompt_tokens="prompt", reasoning_tokens="think", output_tokens="out")
    return Trace(process="trace", file="trace.csv", format="csv", columns=columns, rate_per_s=2.0)


STEPS = [Step(duration_s=5, rate_per_s=3), Step(duration_s=10, rate_per_s=0), Step(duration_s=5, rate_per_s=1)]
SHIPPED_ARRIVALS = [
    Poisson(process="poisson", rate_per_s=3.0),
    Renewal(process="gamma", rate_per_s=2.0, cv=2.0),
    Renewal(process="weibull", rate_per_s=0.1, cv=0.5),
    Even(process="even", rate_per_s=2.0),
    Piecewise(process="piecewise", steps=STEPS, cv=1.5),
    Clients(process="clients", traffic="servegen-r1", rate_per_s=0.1),
    ClosedLoop(process="closed_loop", users=7, think_s=1.0),
    Sessions(process="sessions", sessions="coding-agent", starts=Poisson(process="poisson", rate_per_s=0.1)),
    write_trace,
]
KNOWN_OF: dict[type, dict[str, Any]] = {
    Clients: {"enough_requests": 8640, "runs": 3},  # a day
    ClosedLoop: {"least_requests": 7},
    Trace: {"random": False},
    Even: {"random": False},
}


@every(ArrivalsConformance, SHIPPED_ARRIVALS)
def test_shipped_arrivals(thing: Any, test: str, tmp_path: Path) -> None:
    arrivals = thing if isinstance(thing, Arrivals) else thing(tmp_path)
    run(ArrivalsConformance, test, arrivals=arrivals, folder=tmp_path, **KNOWN_OF.get(type(arrivals), {}))


def test_nothing_shipped_is_left_out() -> None:
    assert {type(one).__name__ for one in SHIPPED_STRATEGIES} >= set(STRATEGIES.shipped)
    assert {type(one).__name__ for one in SHIPPED_POLICIES} >= set(POLICIES.shipped)
    assert {one.process for one in SHIPPED_ARRIVALS if isinstance(one, Arrivals)} | {"trace"} >= set(ARRIVALS.shipped)


# ---------------------------------------------------------------------------------- strategies broken in one way each


@dataclass(frozen=True, repr=False)
class Vote(Strategy):
    """Right as it stands: those below break it."""

    n: int = 3
    cap: int | None = None

    def carry_out(self, trial: Trial) -> Outcome:
        samples = trial.samples(self.n, self.cap)
        return Outcome.of(samples, vote(samples.answer, samples.correct, trial.draw("tie", 1)[:, 0]))

    @property
    def attempt_cap(self) -> int | None:
        return self.cap

    @property
    def takes_cap(self) -> bool:
        return True

    def with_cap(self, cap: int | None) -> Strategy:
        return replace(self, cap=cap)

    @property
    def votes(self) -> bool:
        return True


@dataclass(frozen=True, repr=False)
class AsLongAsTheOthers(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        longest = np.broadcast_to(made.stages[0].visible_tokens.max(axis=0), made.stages[0].visible_tokens.shape)
        return Outcome((replace(made.stages[0], visible_tokens=longest),), made.correct)


@dataclass(frozen=True, repr=False)
class DrawsByItself(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        return Outcome(made.stages, made.correct & (np.random.default_rng().random(len(trial)) < 0.5))


@dataclass(frozen=True, repr=False)
class DrawsInOrder(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        return Outcome(made.stages, made.correct & (np.random.default_rng(0).random(len(trial)) < 0.5))


TRIALS: Counter[str] = Counter()


@dataclass(frozen=True, repr=False)
class Remembers(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        TRIALS["seen"] += 1
        made = super().carry_out(trial)
        return Outcome(made.stages, made.correct & (TRIALS["seen"] % 2 == 0))


@dataclass(frozen=True, repr=False)
class SortsTheAttempts(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        trial.attempts.visible_tokens.sort()
        return made


@dataclass(frozen=True, repr=False)
class KnowsEverything(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        return Outcome(made.stages, np.ones_like(made.correct))


@dataclass(frozen=True, repr=False)
class SaysItDoesNotVote(Vote):
    @property
    def votes(self) -> bool:
        return False


@dataclass(frozen=True, repr=False)
class ShortByOne(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        cap = None if self.cap is None else max(self.cap - 1, 1)
        return Vote(self.n, cap).carry_out(trial)


@dataclass(frozen=True, repr=False)
class MoreWhenShort(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        return Vote(self.n if self.cap is None or self.cap > 400 else 4 * self.n, self.cap).carry_out(trial)


@dataclass(frozen=True, repr=False)
class KeepsItsCap(Vote):
    def with_cap(self, cap: int | None) -> Strategy:
        return replace(self, cap=cap or 50)


@dataclass(frozen=True, repr=False)
class CapInSecret(Vote):
    @property
    def takes_cap(self) -> bool:
        return False


@dataclass(frozen=True, repr=False)
class HalfTokens(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        return Outcome((replace(made.stages[0], visible_tokens=made.stages[0].visible_tokens / 2),), made.correct)  # type: ignore[arg-type]


@dataclass(frozen=True, repr=False)
class Wordless(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        none = np.zeros_like(made.stages[0].visible_tokens)
        return Outcome((replace(made.stages[0], visible_tokens=none, reasoning_tokens=none),), made.correct)


@dataclass(frozen=True, repr=False)
class NeedsMoreThanThereAre(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        return Outcome((replace(made.stages[0], needed=made.stages[0].needed + 1),), made.correct)


@dataclass(frozen=True, repr=False)
class NobodyRuns(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        return super().carry_out(trial).only(trial.problem > 1)


@dataclass(frozen=True, repr=False)
class HiddenJudge(Vote):
    def carry_out(self, trial: Trial) -> Outcome:
        made = super().carry_out(trial)
        return made.then([reading("judge", made.prompt_tokens, 1, 5, made.stages[0].runs)], made.correct)


@dataclass(frozen=True, repr=False)
class OneLetterEach(Vote):
    @property
    def verifiers(self) -> tuple[str, ...]:
        return "judge"  # type: ignore[return-value]


@dataclass(frozen=True)
class HidesAField(Vote):
    secret: int = dataclasses.field(default=0, repr=False)


@dataclass(frozen=True)
class TurnsToList(Vote):
    stages: Sequence[int] = (1, 2)


BROKEN_STRATEGIES = [
    (AsLongAsTheOthers(), ["requests_do_not_affect_one_another"]),
    (DrawsByItself(), ["same_draws_same_outcome", "requests_do_not_affect_one_another"]),
    (DrawsInOrder(), ["requests_do_not_affect_one_another"]),
    (Remembers(), ["same_draws_same_outcome"]),
    (SortsTheAttempts(), ["attempts_are_left_as_they_are"]),
    (KnowsEverything(), ["problems_tried_in_vain_stay_unsolved"]),
    (SaysItDoesNotVote(n=5), ["only_votes_look_at_which_answers_agree"]),
    (ShortByOne(), ["a_cap_never_reached_changes_nothing"]),
    (MoreWhenShort(), ["a_higher_cap_never_uses_fewer_tokens"]),
    (KeepsItsCap(), ["a_cap_never_reached_changes_nothing"]),
    (CapInSecret(), ["without_caps_none_can_be_set"]),
    (HalfTokens(), ["outcomes_are_whole", "both_engines_agree"]),
    (Wordless(), ["outcomes_are_whole", "both_engines_agree"]),
    (NeedsMoreThanThereAre(), ["outcomes_are_whole", "both_engines_agree"]),
    (NobodyRuns(), ["outcomes_are_whole"]),
    (HiddenJudge(), ["it_says_what_it_is", "both_engines_agree"]),
    (OneLetterEach(), ["it_says_what_it_is"]),
    (HidesAField(secret=1), ["its_notation_makes_it_again"]),
    (TurnsToList(stages=(1, 2)), ["its_notation_makes_it_again"]),
]


def test_a_strategy_of_ones_own_passes() -> None:
    passes(StrategyConformance, strategy=Vote(n=3))


@pytest.mark.parametrize(("broken", "tests"), BROKEN_STRATEGIES, ids=lambda one: type(one).__name__)
def test_broken_strategies_are_found(broken: Strategy, tests: list[str]) -> None:
    fails(StrategyConformance, tests, strategy=broken)


# ------------------------------------------------------------------------------------ policies broken in one way each


@dataclass(frozen=True)
class Harder(Policy):
    """Right as it stands: those below break it."""

    easy: str = "small"
    hard: str = "large"

    def arm_names(self) -> tuple[str, ...]:
        return (self.easy, self.hard)

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        easy, hard = list(arms).index(self.easy), list(arms).index(self.hard)
        return np.where(requests.score("difficulty") > 0.5, hard, easy)


@dataclass(frozen=True)
class TheHarderHalf(Harder):
    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        score = requests.score("difficulty")
        middle = np.median(score) if len(score) else 0.0
        return np.where(score > middle, list(arms).index(self.hard), list(arms).index(self.easy))


@dataclass(frozen=True)
class SecondOfTheList(Harder):
    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        return np.where(requests.score("difficulty") > 0.5, 1, 0)


@dataclass(frozen=True)
class Beyond(Harder):
    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        return super().choose(requests, arms) + 1


@dataclass(frozen=True)
class OneForAll(Harder):
    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        return super().choose(requests, arms)[:1]


@dataclass(frozen=True)
class InTurn(Harder):
    seen: ClassVar[list[int]] = [0]

    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        self.seen[0] += 1
        return (np.arange(len(requests)) + self.seen[0]) % 2


@dataclass(frozen=True)
class Rounds(Harder):
    def choose(self, requests: Requests, arms: Sequence[str]) -> I64:
        requests.scores["difficulty"][:] = np.round(requests.scores["difficulty"])
        return super().choose(requests, arms)


@dataclass(frozen=True)
class NamesOne(Harder):
    def arm_names(self) -> tuple[str, ...]:
        return (self.easy,)


@dataclass(frozen=True)
class OtherAlone(Harder):
    def choose_one(self, requests: Requests, index: int, arms: Sequence[str], load: Load | None = None) -> int:
        return 0


@dataclass(frozen=True)
class LooksButDoesNot(Harder):
    @property
    def looks_at_load(self) -> bool:
        return True


@dataclass(frozen=True)
class LiveInTurn(LooksButDoesNot):
    seen: ClassVar[list[int]] = [0]

    def choose_one(self, requests: Requests, index: int, arms: Sequence[str], load: Load | None = None) -> int:
        self.seen[0] += 1
        return int(self.seen[0] % 7 == 0)


@dataclass(frozen=True)
class RuleForOne(LooksButDoesNot):
    def live_rule(self, requests: Requests, arms: Sequence[str]) -> LiveRule:
        return LiveRule("least_loaded", np.arange(len(arms))[None, :])


@dataclass(frozen=True)
class RuleBeyond(LooksButDoesNot):
    def live_rule(self, requests: Requests, arms: Sequence[str]) -> LiveRule:
        return LiveRule("overflow", np.ones((len(requests), 2), dtype=np.int64) * len(arms), 2)


BROKEN_POLICIES = [
    (TheHarderHalf(), ["requests_do_not_affect_one_another"]),
    (SecondOfTheList(), ["arms_may_stand_in_any_order"]),
    (Beyond(), ["every_request_gets_an_arm"]),
    (OneForAll(), ["every_request_gets_an_arm"]),
    (InTurn(), ["same_requests_same_arms", "requests_do_not_affect_one_another"]),
    (Rounds(), ["requests_are_left_as_they_are"]),
    (NamesOne(), ["every_request_gets_an_arm"]),
    (OtherAlone(), ["one_at_a_time_is_all_at_once"]),
    (LooksButDoesNot(), ["both_engines_agree_on_live_load"]),
    (LiveInTurn(), ["both_engines_agree_on_live_load"]),
    (RuleForOne(), ["both_engines_agree_on_live_load"]),
    (RuleBeyond(), ["both_engines_agree_on_live_load"]),
]


def test_a_policy_of_ones_own_passes() -> None:
    passes(PolicyConformance, policy=Harder())


@pytest.mark.parametrize(("broken", "tests"), BROKEN_POLICIES, ids=lambda one: type(one).__name__)
def test_broken_policies_are_found(broken: Policy, tests: list[str]) -> None:
    fails(PolicyConformance, tests, policy=broken)


# ---------------------------------------------------------------------------------- step times broken in one way each


class Flat(StepTime):
    """Right as it stands: those below break it."""

    kind: Literal["flat"] = "flat"
    seconds: float = 0.02
    parts: list[float] = Field(default=[1.0])

    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        return step_table(max_tokens, max_sequences, base_s=self.seconds * sum(self.parts))


class NoTime(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        return step_table(max_tokens, max_sequences, decode_s=0.001 * (np.arange(max_sequences + 1) != 1))


class FasterWhenFull(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        return step_table(max_tokens, max_sequences, base_s=0.01, decode_s=0.01 / (1 + np.arange(max_sequences + 1)))


class OneSize(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        return step_table(2048, 256, base_s=0.01)


class Jitter(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        return step_table(max_tokens, max_sequences, base_s=0.01 + np.random.default_rng().random() / 1000)


class AsTuple(Flat):
    knots: tuple[float, ...] = (1.0, 2.0)


class Fills(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        self.parts.append(0.5)
        return super().table(max_tokens, max_sequences, folder)


class BelowZeroFarOut(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        two = np.array([0.0, 1000.0])
        falls = np.array([0.01, 0.005]) * np.ones((2, 2, 2, 2))
        return step_table(max_tokens, max_sequences, base_s=0.001, attention=(two, two, two, two, falls))


class OutOfNumbers(Flat):
    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        made = step_table(max_tokens, max_sequences, base_s=0.01)
        return made._replace(dense_s=np.full(max_tokens + 1, np.nan))


BROKEN_STEP_TIMES = [
    (NoTime(), ["tables_fit_their_limits"]),
    (FasterWhenFull(), ["more_takes_no_less"]),
    (OneSize(), ["tables_fit_their_limits"]),
    (Jitter(), ["same_settings_same_table"]),
    (AsTuple(), ["settings_survive_a_file"]),
    (Fills(), ["same_settings_same_table"]),
    (BelowZeroFarOut(), ["tables_fit_their_limits"]),
    (OutOfNumbers(), ["tables_fit_their_limits"]),
]


def test_a_step_time_of_ones_own_passes() -> None:
    passes(StepTimeConformance, step_time=Flat(parts=[0.5, 0.6]))
    passes(StepTimeConformance, step_time=FasterWhenFull(), rises_with=("prefill", "context", "kv"))


@pytest.mark.parametrize(("broken", "tests"), BROKEN_STEP_TIMES, ids=lambda one: type(one).__name__)
def test_broken_step_times_are_found(broken: StepTime, tests: list[str]) -> None:
    fails(StepTimeConformance, tests, step_time=broken)


# ------------------------------------------------------------------------------------ arrivals broken in one way each


class Pairs(Arrivals):
    """Right as it stands: those below break it."""

    process: Literal["pairs"] = "pairs"
    rate_per_s: float = 2.0
    sizes: list[int] = Field(default=[2])

    def times(self, requests: int, seed: int, run: str) -> Any:
        """Gaps, all but the first of each few of which are short."""
        gaps = -np.log(uniforms(seed, f"pairs/{run}", requests)[:, 0])
        first = np.arange(requests) % self.sizes[0] == 0
        return np.cumsum(np.where(first, 1 + 0.9 * (self.sizes[0] - 1), 0.1) * gaps) / self.rate_per_s

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        nobody = np.zeros(requests, dtype=np.int64)
        return Traffic(self.times(requests, seed, run), nobody, None, None, None, None, self.rate_per_s)


class OneShort(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        return super().times(requests, seed, run)[1:]


class Back(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        return super().times(requests, seed, run)[::-1]


class Stretched(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        times = super().times(requests, seed, run)
        return times / times[-1] * requests / self.rate_per_s


class Unseeded(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        return np.cumsum(np.random.default_rng().exponential(1 / self.rate_per_s, requests))


class EveryRunAlike(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        return super().times(requests, seed, "always")


class PerMinute(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        return super().times(requests, seed, run) * 60


class SlightlyFast(Pairs):
    def times(self, requests: int, seed: int, run: str) -> Any:
        return super().times(requests, seed, run) * 0.9


class LengthsUnsaid(Pairs):
    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        nobody, ones = np.zeros(requests, dtype=np.int64), np.ones(requests, dtype=np.int64)
        return Traffic(self.times(requests, seed, run), nobody, ones, ones, ones, None, self.rate_per_s)


class FractionalTokens(LengthsUnsaid):
    carries_lengths = True

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        made = super().generate(requests, seed, run, folder, where)
        assert isinstance(made, Traffic)
        return replace(made, visible_tokens=np.full(requests, 1.5))


class AllFollowTheFirst(Pairs):
    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        nobody = np.zeros(requests, dtype=np.int64)
        after = np.where(np.arange(requests) == 0, -1, 0)
        times, think_s = np.where(after < 0, 0.0, np.nan), np.ones(requests)
        return Traffic(times, nobody, None, None, None, None, float("nan"), after, think_s)


class FollowsItself(AllFollowTheFirst):
    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        made = super().generate(requests, seed, run, folder, where)
        assert isinstance(made, Traffic)
        return replace(made, after=np.arange(requests) - (np.arange(requests) == 0))


class SetOfSizes(Pairs):
    odd: frozenset[int] = frozenset({1})


BROKEN_ARRIVALS = [
    (OneShort(), ["as_many_come_as_were_asked_for"]),
    (Back(), ["as_many_come_as_were_asked_for"]),
    (Stretched(), ["the_first_do_not_depend_on_how_many_come"]),
    (Unseeded(), ["same_seed_same_arrivals"]),
    (EveryRunAlike(), ["runs_differ"]),
    (PerMinute(), ["the_rate_is_as_said"]),
    (SlightlyFast(), ["the_rate_is_as_said"]),
    (LengthsUnsaid(), ["as_many_come_as_were_asked_for"]),
    (FractionalTokens(), ["as_many_come_as_were_asked_for"]),
    (FollowsItself(), ["as_many_come_as_were_asked_for", "both_engines_agree"]),
    (SetOfSizes(), ["settings_survive_a_file"]),
]


def test_arrivals_of_ones_own_pass() -> None:
    passes(ArrivalsConformance, arrivals=Pairs(sizes=[3]))
    passes(ArrivalsConformance, arrivals=AllFollowTheFirst(), random=False)


@pytest.mark.parametrize(("broken", "tests"), BROKEN_ARRIVALS, ids=lambda one: type(one).__name__)
def test_broken_arrivals_are_found(broken: Arrivals, tests: list[str]) -> None:
    fails(ArrivalsConformance, tests, arrivals=broken)
