"""A saved plan at work on live requests: each goes where it would go in a simulation of the plan."""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.arguments import share, whole
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.base.live import CARRIED_OUT
from ttc_sim.base.plugins import is_shipped
from ttc_sim.deploying.arms import check_single_calls
from ttc_sim.deploying.asking import Asked, ask, one_request
from ttc_sim.deploying.decisions import Decision
from ttc_sim.deploying.endpoints import Endpoint, read_endpoints
from ttc_sim.deploying.load import OnItsWay
from ttc_sim.deploying.log_file import LogFile
from ttc_sim.deploying.preparing import prepare
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import Load, UserFunction
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.running.session import PER_MODEL

_LOG = logging.getLogger("ttc_sim")
_MOST_SEED = 2**63 - 1
_TOLD_BY = 100  # decisions of a policy that looks at live load, after which something should have been sent
_ALWAYS_SAID = ("difficulty", "novelty")


class Runtime:
    """A saved plan's policy, its arms' strategies and caps, and its predictor, for requests as they come.

    It may be used from any number of threads, and from coroutines: :meth:`route` takes about a millisecond and waits for nothing.
    Processes need one each; forked ones may go on with their parent's. Money is not counted: a hard budget of the plan's scenario
    is for the caller to keep, and sessions are noted in decisions, and have no effect on them, as in simulations.

    Where the predictor fails, gives something that is no number, or cannot be read at the start although ``fallback_arm`` was
    given, requests go to the fallback arm: that of the argument or else, for each source, the arm that the plan is expected to
    send most of its requests to (the first of its arms, where that is not known); ``notes`` say which. It is counted, and the
    decision says why. So it is where a policy of one's own fails. A policy that needs no scores is asked without them.

    Args:
        plan: read from its file by :func:`ttc_sim.load_plan`.
        endpoints: file that says where deployments stand (:mod:`ttc_sim.deploying.endpoints`), or what it holds.
        predictor: where the ONNX file of the plan's predictor stands now, if elsewhere.
        other_predictor: take it even if it is another one than the plan was made with.
        log: file that each decision is appended to as a line, without the prompt's text.
        explore: share of requests, 0 to 1, that any of the arms that are offered to their source is tried on, each alike.
        seed: of what is tried on which request; drawn from the system's entropy if left out.
        fallback_arm: for all sources, or by source.

    Attributes:
        plan, scenario: that are carried out.
        sources: of requests, as the plan tells them apart; arms: that may be chosen, by source.
        strategies: of the arms that may be used: those, their fallbacks, and arms that cascades go on to.
        fallback_arms: by source.
        endpoints: by deployment, as far as they were given.
        notes: what is assumed, and what is not known.

    Raises:
        InputError: a plan in memory alone; an arm with a strategy of one's own; another predictor than the plan was made with, or
            none, and no ``fallback_arm``; a predictor that does not predict what the plan routes by; or an argument that cannot be.

    >>> import ttc_sim as ttc
    >>> runtime = ttc.load_plan("plan.yaml").runtime()  # doctest: +SKIP
    >>> runtime.route("What is 2 + 2?", source="everyday").arm  # doctest: +SKIP
    'maverick'
    """

    def __init__(
        self,
        plan: SavedPlan,
        *,
        endpoints: str | Path | Mapping[str, Endpoint] | None = None,
        predictor: str | Path | None = None,
        other_predictor: bool = False,
        log: str | Path | None = None,
        explore: float = 0.0,
        seed: int | None = None,
        fallback_arm: str | Mapping[str, str] | None = None,
    ) -> None:
        if plan.file is None or plan.sha256 is None:
            raise InputError("runtime", "plan", repr(plan), "a plan that was read from its file, by ttc.load_plan")
        share("runtime", "explore", explore)
        if seed is not None:
            whole("runtime", "seed", seed, 0, _MOST_SEED)
        self.plan, self.scenario = plan, plan.scenario
        self._where, self._digest = plan.file, plan.sha256[:12]
        self._predictor, self._missing = self._load(predictor, other_predictor, fallback_arm is not None)
        self._plan = prepare(plan, plan.file, explore=explore > 0, fallback_arm=fallback_arm)
        self.sources, self.arms = self._plan.sources, self._plan.arms
        self.fallback_arms = self._plan.fallback_arms
        self.strategies = {name: arm.strategy for name, arm in self._plan.live.items()}
        missing = [] if self._missing is None else [f"no request has scores: {self._missing}"]
        self.notes = tuple(dict.fromkeys([*self._plan.notes, *missing]))
        self.endpoints: Mapping[str, Endpoint] = (
            read_endpoints(endpoints, plan) if isinstance(endpoints, (str, Path)) else dict(endpoints or {})
        )
        self._names = list(self.scenario.arms)
        self._way = OnItsWay(self.scenario.deployments)
        self._log = None if log is None else LogFile(log)
        self._explore = float(explore)
        self._seed = secrets.randbelow(_MOST_SEED) if seed is None else seed
        self._seeded = seed is not None
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()
        self._lock, self._lock_of_own = threading.Lock(), threading.Lock()
        self._begin()
        if self._predictor is not None:
            self._try_out()

    def _load(self, given: str | Path | None, other: bool, may_fail: bool) -> tuple[Predictor | None, str | None]:
        """The plan's predictor; or why there is none, where that may be."""
        try:
            return self.plan.load_predictor(given, other=other), None
        except InputError as error:
            if not may_fail:
                raise
            _LOG.warning("no request has scores: %s", error)
            return None, str(error)

    def _try_out(self) -> None:
        """Route a prompt of each source, so that what no request could be routed by is refused before the first comes."""
        for source in self.sources:
            scores, failed = self._scored("")
            if failed is not None:
                raise InputError(self._where, "predictor", failed, "a predictor that scores an empty prompt")
            self._choose(source, self._asked(scores, source, 1, 0))

    # ------------------------------------------------------------------------------------------------ at work

    def route(
        self, prompt: str, source: str | None = None, session: str | None = None, prompt_tokens: int | None = None
    ) -> Decision:
        """Where a request goes.

        Args:
            prompt: its text.
            source: that it comes from; may be left out where the plan has one only.
            session: that it is a turn of; noted in the decision.
            prompt_tokens: as the model counts them; about four characters each if left out.

        Raises:
            InputError: a source that the plan does not know, or none where it has several; or an argument of another kind.
        """
        if not isinstance(prompt, str):
            raise InputError("route", "prompt", prompt, "text")
        if source is None and len(self.sources) == 1:
            source = self.sources[0]
        if not isinstance(source, str) or source not in self.sources:
            raise InputError(self._where, "source", source, nearest(str(source), self.sources))
        if session is not None and not isinstance(session, str):
            raise InputError("route", "session", session, "a name, or nothing")
        if prompt_tokens is None:
            prompt_tokens = len(prompt) // 4 + 1
        else:
            whole("route", "prompt_tokens", prompt_tokens, 0, MOST_TOKENS, "tokens")
        number = self._number()
        scores, failed = self._scored(prompt)
        asked = self._asked(scores, source, prompt_tokens, number)
        try:
            chosen, why = self._choose(source, asked)
            fell_back = None
        except InputError as error:
            fell_back = failed or str(error)
            chosen, why = self.fallback_arms[source], "the arm to fall back on"
            if failed is None:
                self._warn_once("the policy", fell_back)
        looked = {name: scores[name] for name in dict.fromkeys((*asked.looked, *_ALWAYS_SAID)) if name in scores}
        arm, propensity = chosen, 1.0
        arms: tuple[str, ...] = ()
        if self._explore and fell_back is None:
            arms = self._plan.tried[source]
            arm, propensity = self._explored(chosen, arms, number)
            if arm != chosen:
                why = f"tried on purpose, instead of {chosen} ({why})"
        made = self._plan.live[arm]
        decision = Decision(
            request=f"{self._token}-{number}",
            at=datetime.datetime.now(datetime.UTC),
            plan=self._digest,
            source=source,
            session=session,
            arm=arm,
            deployment=made.deployment,
            strategy=made.strategy,
            max_tokens=made.max_tokens,
            prompt_tokens=prompt_tokens,
            scores=looked,
            predicted=self._plan.expected.of(arm, asked.requests),
            why=f"{why} -> {arm}",
            propensity=propensity,
            policy_arm=None if fell_back else chosen,
            arms=arms,
            fell_back=fell_back,
            fallbacks=made.fallbacks,
        )
        self._count(decision, failed)
        if self._log is not None:
            self.log(decision.as_line())
        return decision

    def check_plain_calls(self) -> None:
        """For a caller that makes one call with ``max_tokens`` of each decision, and says nothing of when it ends.

        Raises:
            InputError: an arm that may be used takes more (votes, verifiers, forced answers), or a policy looks at live load.
        """
        check_single_calls(self.scenario, list(self.strategies), self._where)
        for source, policy in self._plan.policies.items():
            if policy.looks_at_load:
                expected = "a policy that looks at the request alone: the deployments' live load is not known here"
                raise InputError(self._where, f"scenario.policy of source {source}", repr(policy), expected)

    def log(self, line: Mapping[str, Any]) -> bool:
        """Append a line to the log, if there is one; whether it stands there. A line that cannot be written is counted."""
        if self._log is None:
            return False
        written = self._log.append(line)
        if not written:
            with self._lock:
                self._counts["lines lost"] += 1
        return written

    def sent(self, deployment: str, calls: int = 1) -> None:
        """So many calls are on their way to a deployment, from now until :meth:`ended`.

        Raises:
            InputError: a deployment that the plan does not have.
        """
        self._way.change(deployment, calls)

    def ended(self, deployment: str, calls: int = 1) -> None:
        """So many calls to a deployment have come to an end, whichever. More than were sent are counted, and are no error.

        Raises:
            InputError: a deployment that the plan does not have.
        """
        if not self._way.change(deployment, -calls):
            with self._lock:
                self._counts["ended without being sent"] += 1

    @property
    def load(self) -> Load:
        """What is on its way now, by deployment."""
        return self._way.at(time.monotonic() - self._began)

    @property
    def counts(self) -> Counter[str]:
        """How many requests were ``routed``, went ``to ARM``, ``fell back``, or were ``explored`` (sent where the policy would not
        have), for how many the ``predictor failed`` or the ``policy failed``, and how many ``lines lost`` the log has."""
        with self._lock:
            return Counter(self._counts)

    # ------------------------------------------------------------------------------------------------ a request

    def _number(self) -> int:
        if os.getpid() != self._process:
            with self._lock:
                if os.getpid() != self._process:
                    self._begin()
        return next(self._numbers)

    def _begin(self) -> None:
        """Numbers and a name of their own for the requests of this process."""
        if not self._seeded:
            self._seed = secrets.randbelow(_MOST_SEED)
        self._token, self._numbers, self._began = secrets.token_hex(6), itertools.count(), time.monotonic()
        self._process = os.getpid()

    def _scored(self, prompt: str) -> tuple[dict[str, float], str | None]:
        """Scores by name, as a table of them has them; or why there are none."""
        if self._predictor is None:
            return {}, self._missing
        try:
            found = self._predictor.score([prompt])
            named = {
                f"{kind}:{model}": float(np.float32(values[0]))
                for kind in PER_MODEL
                for model, values in getattr(found, kind).items()
            }
            first = {name: float(np.float32(getattr(found, name)[0])) for name in _ALWAYS_SAID}
            return {**first, **named}, None
        except Exception as error:  # whatever it is: requests go on
            said = " ".join(f"the predictor failed: {type(error).__name__}: {error}".split())
            self._warn_once("the predictor", said)
            return {}, said

    def _asked(self, scores: Mapping[str, float], source: str, prompt_tokens: int, number: int) -> Asked:
        now_s = time.monotonic() - self._began
        return one_request(scores, source, self.sources, prompt_tokens, now_s, number, self.scenario.responses)

    def _choose(self, source: str, asked: Asked) -> tuple[str, str]:
        policy = self._plan.policies[source]
        load = self.load if policy.looks_at_load else None
        if load is not None:
            self._see_that_load_is_told(asked.number)
        own = isinstance(policy, UserFunction) or not is_shipped(type(policy))
        with self._lock_of_own if own else nullcontext():  # one's own code need not be safe under threads
            index, why = ask(policy, asked, self._names, load, self._plan.begins_at)
        name = self._names[index]
        if name not in self.arms[source]:
            expected = f"an arm that is offered to source {source}: " + ", ".join(self.arms[source])
            raise InputError(self._where, f"scenario.policy of source {source}", name, expected)
        return name, why

    def _explored(self, chosen: str, arms: tuple[str, ...], number: int) -> tuple[str, float]:
        """The arm, and the chance that it was to be that."""
        u, pick = uniforms(self._seed, "explore", 1, 2, start=number)[0]
        arm = arms[int(pick * len(arms))] if u < self._explore else chosen
        return arm, (1 - self._explore) * (arm == chosen) + self._explore / len(arms)

    def _count(self, decision: Decision, failed: str | None) -> None:
        with self._lock:
            self._counts["routed"] += 1
            self._counts[f"to {decision.arm}"] += 1
            if failed is not None:
                self._counts["predictor failed"] += 1
            if decision.fell_back is not None:
                self._counts["fell back"] += 1
                if failed is None:
                    self._counts["policy failed"] += 1
            elif decision.policy_arm != decision.arm:
                self._counts["explored"] += 1

    def _warn_once(self, what: str, said: str) -> None:
        with self._lock:
            first = what not in self._said
            self._said.add(what)
        if first:
            _LOG.warning("%s; requests go to their fallback arm meanwhile", said)

    def _see_that_load_is_told(self, number: int) -> None:
        if number >= _TOLD_BY and not self._way.told:
            with self._lock:
                first = "load" not in self._said
                self._said.add("load")
            if first:
                _LOG.warning("the policy looks at live load, and nobody has called runtime.sent: all looks idle to it")


CARRIED_OUT[SavedPlan] = Runtime

__all__ = ["Runtime"]
