"""A saved plan, carried out one live request at a time: each goes where it would go in a simulation of the plan."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.policies import Policy, Requests
from ttc_sim.scenario import Scenario
from ttc_sim.strategies import Single

_ALL = ("traffic",)  # the one source of a workload that names none


@dataclass(frozen=True)
class Route:
    """Where a request goes.

    Attributes:
        arm: of the plan; deployment: that serves it; strategy: what it does, in its notation.
        max_tokens: most output tokens, reasoning and visible together, to ask the deployment for; ``None`` for the model's own
            limit.
        difficulty: predicted, 0 (easy) to 1 (hard).
        fallbacks: where it goes next, one after another, if that does not answer it: for the caller to do.
    """

    arm: str
    deployment: str
    strategy: str
    max_tokens: int | None
    difficulty: float
    fallbacks: tuple[Route, ...] = field(default=(), repr=False)


class LivePlan:
    """A saved plan's policy, its arms' caps and its predictor, for requests as they come.

    Routes know nothing of money: a hard budget of the plan's scenario is for the gateway to keep.

    Args:
        plan: file that ``ttc-sim optimize --plan`` wrote.
        predictor: where the ONNX file of the plan's predictor stands now, if elsewhere.
        other_predictor: take it even if it is another one than the plan was made with.
        allow_code: whether a function in a file that the plan names as its policy may run, as for :func:`ttc_sim.load_plan`.

    Attributes:
        sources: of requests, as the plan tells them apart; arms: that may be chosen, by source.

    Raises:
        InputError: not a plan; one that takes more than a single call (votes, verifiers, cascades, forced answers) or looks at
            live load; another predictor than the plan was made with; or one that does not
            predict what the plan routes by.

    >>> live = LivePlan("plan.yaml")  # doctest: +SKIP
    >>> live.route("What is 2 + 2?", "everyday")  # doctest: +SKIP
    Route(arm='maverick', deployment='maverick-api', strategy='Single(cap=8192)', max_tokens=8192, difficulty=0.02)
    """

    def __init__(
        self,
        plan: str | Path,
        *,
        predictor: str | Path | None = None,
        other_predictor: bool = False,
        allow_code: AllowCode = False,
    ) -> None:
        self._where = str(plan)
        saved = load_plan(plan, allow_code=allow_code)
        self._scenario = saved.scenario
        self._predictor = saved.load_predictor(predictor, other=other_predictor)
        policy = self._scenario.parsed_policy()
        assert policy is not None  # a plan has one
        policy.get_ready()
        if policy.uses_responses and self._scenario.responses is None:
            expected = "the responses that the policy was planned with, as `ttc-sim optimize --plan` writes them"
            raise InputError(plan, "scenario.responses", None, expected)
        self._policy: Policy = policy
        self.sources = tuple(self._scenario.workload.sources) or _ALL
        self.arms = {source: self._offered(source) for source in self.sources}
        may_be_asked = (
            arm for offered in self.arms.values() for name in offered for arm in saved.scenario.path_of(name)
        )
        for name in dict.fromkeys(may_be_asked):
            self._check(name)
        for source in self.sources:
            self.route("", source)

    def route(self, prompt: str, source: str | None = None, *, prompt_tokens: int | None = None) -> Route:
        """Where a request goes.

        Args:
            prompt: its text.
            source: that it comes from; may be left out where the plan has one only.
            prompt_tokens: as the model counts them; about four characters each if left out.

        Raises:
            InputError: a source that the plan does not know, or none where it has several.
        """
        if source is None and len(self.sources) == 1:
            source = self.sources[0]
        if source not in self.sources:
            raise InputError(self._where, "source", source, nearest(str(source), self.sources))
        scores = self._predictor.score([prompt])
        named = {name: column.to_numpy().astype(np.float64) for name, column in scores.table().to_dict().items()}
        tokens = len(prompt) // 4 + 1 if prompt_tokens is None else prompt_tokens
        request = Requests(
            arrival_s=np.zeros(1),
            source=np.array([self.sources.index(source)]),
            sources=self.sources,
            prompt_tokens=np.array([tokens]),
            scores=named,
            responses=self._scenario.responses,
        )
        names = list(self._scenario.arms)
        name = names[int(self._policy.choose(request, names)[0])]
        difficulty = float(scores.difficulty[0])
        first, *others = (self._route(one, difficulty) for one in self._scenario.path_of(name))
        return replace(first, fallbacks=tuple(others))

    def _route(self, name: str, difficulty: float) -> Route:
        arm = self._scenario.arms[name]
        cap = self._scenario.parsed_strategy(name).attempt_cap
        return Route(name, arm.deployment, arm.strategy, cap, difficulty)

    def _offered(self, source: str) -> tuple[str, ...]:
        """Arms that the source's policy may choose."""
        mine = self._policy.for_source(source)
        if mine.looks_at_load:
            expected = "a policy that looks at the request alone: the deployments' live load is not known here"
            raise InputError(self._where, f"scenario.policy of source {source}", repr(mine), expected)
        if named := mine.arm_names():
            return named
        return tuple(name for name in self._scenario.arms if _serves(self._scenario, name, source, mine))

    def _check(self, name: str) -> None:
        """Refuse an arm that is more than a call with a limit."""
        strategy = self._scenario.parsed_strategy(name)
        if not isinstance(strategy, Single) or (strategy.cap is not None and strategy.on_cap != "truncate"):
            expected = (
                "Single(), or Single(cap=...) that truncates: one call with max_tokens, which is all that is done here"
            )
            raise InputError(self._where, f"scenario.arms.{name}.strategy", repr(strategy), expected)


def _serves(scenario: Scenario, arm: str, source: str, policy: Policy) -> bool:
    if policy.uses_responses:
        response = (scenario.responses or {}).get(arm)
        return response is not None and source in response.sources
    allowed = scenario.arms[arm].sources
    return allowed is None or source in allowed
