"""A saved plan at work on live requests: each goes where it would go in a simulation of the plan."""

from __future__ import annotations

import datetime
import itertools
import os
import secrets
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ttc_sim.base.arguments import count, share
from ttc_sim.base.display import in_short
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_REQUESTS, MOST_TOKENS
from ttc_sim.base.live import CARRIED_OUT
from ttc_sim.base.plugins import is_shipped
from ttc_sim.deploying.arms import check_single_calls
from ttc_sim.deploying.asking import Asked, ask, one_request
from ttc_sim.deploying.carrying import Carrying, Manner, Reply
from ttc_sim.deploying.carrying.messages import Messages
from ttc_sim.deploying.decisions import PLAN_DIGITS, Decision, Outcome
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.load import OnItsWay
from ttc_sim.deploying.log_file import LogFile
from ttc_sim.deploying.preparing import endpoints_of, prepare
from ttc_sim.deploying.scoring import WHOLE, Scorer
from ttc_sim.deploying.sessions import CompactFirstError, LiveSessions, SessionEndedError, Turn, of_no_session, turn_of
from ttc_sim.deploying.tally import Tally
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import Followed, Load, Policy, UserFunction, follows_sessions
from ttc_sim.policies.costs import ArmCosts
from ttc_sim.scenario.sessions import may_have_sessions
from ttc_sim.serving.arm_costs import arm_costs

_MOST_SEED = 2**63 - 1
_TOLD_BY = 100  # decisions of a policy that looks at live load, after which something should have been sent


class Runtime:
    """A saved plan's policy, its arms' strategies and caps, and its predictor, for requests as they come.

    It may be used from any number of threads, and from coroutines: :meth:`route` takes about a millisecond and waits for nothing.
    Processes need one each; forked ones may go on with their parent's. Money is not counted: a hard budget of the plan's scenario
    is for the caller to keep.

    A policy that follows sessions is told which session a request is a turn of, and remembers it: each process for itself, so that
    the turns of a session are to come to the same one. A session that was forgotten, as others came since, begins anew. Other
    policies note the session in the decision, and nothing more.

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
        most_sessions: that are remembered, of a policy that follows them: those that had a turn last.
        manner: a :class:`ttc_sim.deploying.carrying.Manner`: how :meth:`run` does what the plan says nothing of.

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
        most_sessions: int = 20_000,
        manner: Manner | None = None,
    ) -> None:
        if plan.file is None or plan.sha256 is None:
            raise InputError("runtime", "plan", repr(plan), "a plan that was read from its file, by ttc.load_plan")
        share("runtime", "explore", explore)
        seed = None if seed is None else count("runtime", "seed", seed, 0, _MOST_SEED)
        self._most_sessions = count("runtime", "most_sessions", most_sessions, 1, MOST_REQUESTS, "sessions")
        self.plan, self.scenario = plan, plan.scenario
        self._where, self._digest = plan.file, plan.sha256[:PLAN_DIGITS]
        self._scorer = Scorer(self.scenario, predictor, other=other_predictor, may_fail=fallback_arm is not None)
        self._plan = prepare(plan, plan.file, explore=explore > 0, fallback_arm=fallback_arm)
        self.sources, self.arms = self._plan.sources, self._plan.arms
        self.fallback_arms = self._plan.fallback_arms
        self.strategies = {name: arm.strategy for name, arm in self._plan.live.items()}
        self.notes = tuple(dict.fromkeys([*self._plan.notes, *self._scorer.notes]))
        self.endpoints: Mapping[str, Endpoint] = endpoints_of(endpoints, plan)
        self._names, self._manner = list(self.scenario.arms), manner
        self._log = None if log is None else LogFile(log)
        self._explore, self._seed = float(explore), seed
        self._in_sessions = may_have_sessions(self.scenario.workload)
        for source, policy in self._plan.policies.items():
            if explore > 0 and self._follows(policy):
                expected = "0: an arm that is tried on purpose loses what a session has in its cache elsewhere, which "
                expected += f"{in_short(policy)}, the policy of source {source}, is to keep"
                raise InputError("runtime", "explore", explore, expected)
        self._begin()
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: None if (it := me()) is None else it._begin())
        if self._scorer.missing is None:
            self._try_out(fallback_arm is not None)

    def _begin(self) -> None:
        """Names, counts and locks of this process's own: nobody releases, in a forked one, what another thread held."""
        self._token, self._numbers, self._began = secrets.token_hex(6), itertools.count(), time.monotonic()
        self._drawn_by = secrets.randbelow(_MOST_SEED) if self._seed is None else self._seed
        self._tally, self._lock_of_own = Tally(), threading.Lock()
        self._way = OnItsWay(self.scenario.deployments)
        self._sessions, self._told = LiveSessions(self._most_sessions, lambda: self._costs), False
        if self._log is not None:
            self._log.begin()

    def _try_out(self, may_fail: bool) -> None:
        """Route a prompt of each source, so that what no request could be routed by is refused before the first comes."""
        for source in self.sources:
            scores, failed = self._scorer.score("")
            if failed is not None and may_fail:
                continue
            if failed is not None:
                raise InputError(self._where, "predictor", failed, "a predictor that scores an empty prompt")
            self._choose(source, self._asked(scores, source, 1, 0))

    def _follows(self, policy: Policy) -> bool:
        """Whether a policy's choice for a turn depends on those before it."""
        return follows_sessions(policy) or (isinstance(policy, Followed) and self._in_sessions)

    @cached_property
    def _costs(self) -> Mapping[str, ArmCosts]:
        return arm_costs(self.scenario)

    def __repr__(self) -> str:
        arms = ", ".join(dict.fromkeys(arm for arms in self.arms.values() for arm in arms))
        return f"<Runtime of {self._where}: {arms}>"

    # ------------------------------------------------------------------------------------------------ at work

    def route(
        self,
        prompt: str,
        source: str | None = None,
        session: str | None = None,
        prompt_tokens: int | None = None,
        *,
        agent: str = "",
        reused_tokens: int | None = None,
        think_s: float | None = None,
        summary: bool = False,
        head_tokens: int | None = None,
    ) -> Decision:
        """Where a request goes.

        Args:
            prompt: its text.
            source: that it comes from; may be left out where the plan has one only.
            session: that it is a turn of, by any name.
            prompt_tokens: as the model counts them; about four characters each if left out.
            agent: whose conversation within the session it goes on with, if not the main one's.
            reused_tokens: leading tokens of the prompt that the session has sent, or had answered, before; all of the turn before
                of its conversation, and what :meth:`answered` told of it, if left out.
            think_s: seconds since the session's turn before was answered, tools or a person; as they have passed, if left out.
            summary: whether it asks for a summary of its conversation, which takes the place of that in the next turn's prompt.
            head_tokens: leading tokens of the prompt that stay then, tools and system prompt, if any.

        Raises:
            SessionEndedError: the session has spent its budget, and the policy ends it.
            CompactFirstError: it has, and the policy has its context made shorter first: the turn has not come, and may again.
            InputError: a source that the plan does not know, or none where it has several; or an argument of another kind.
        """
        if not isinstance(prompt, str):
            raise InputError("route", "prompt", prompt, "text")
        if source is None and len(self.sources) == 1:
            source = self.sources[0]
        if not isinstance(source, str) or source not in self.sources:
            raise InputError(self._where, "source", source, nearest(str(source), self.sources))
        if prompt_tokens is None:
            prompt_tokens = len(prompt) // 4 + 1
        else:
            prompt_tokens = count("route", "prompt_tokens", prompt_tokens, 0, MOST_TOKENS, "tokens")
        turn = turn_of(session, agent, reused_tokens, think_s, prompt_tokens, summary, head_tokens)
        number = next(self._numbers)
        scores, failed = self._scorer.score(prompt)
        asked = self._asked(scores, source, prompt_tokens, number)
        try:
            chosen, why = self._choose(source, asked, turn)
            fell_back = None
        except SessionEndedError:
            self._tally.add("session ended")
            raise
        except CompactFirstError:
            self._tally.add("context to be made shorter")
            raise
        except InputError as error:
            fell_back = failed or str(error)
            chosen, why = self.fallback_arms[source], "the arm to fall back on"
        if failed is not None and failed != self._scorer.missing:
            self._tally.warn_once(
                "predictor", f"{failed}; requests that need scores go to their fallback arm meanwhile"
            )
        elif fell_back is not None and failed is None:
            self._tally.warn_once("policy", f"{fell_back}; such requests go to their fallback arm")
        # What is tried on purpose is for judging other plans by, which may look at any score.
        logged = scores if self._explore else dict.fromkeys((*asked.looked, *WHOLE))
        looked = {name: scores[name] for name in logged if name in scores}
        arm, propensity = chosen, 1.0
        arms: tuple[str, ...] = ()
        if self._explore and fell_back is None:
            arms = self._plan.tried[source]
            arm, propensity = self._explored(chosen, arms, number)
            if arm != chosen:
                why = f"tried on purpose, instead of {chosen} ({why})"
        made = self._plan.live[arm]
        decision = Decision(
            request=self._name(number),
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
        self._tally.decided(decision, failed)
        if self._log is not None:
            self.log(decision.as_line())
        return decision

    def run(
        self,
        prompt: str,
        client: Any = None,
        *,
        source: str | None = None,
        session: str | None = None,
        prompt_tokens: int | None = None,
        messages: Messages | None = None,
        summary: bool = False,
    ) -> tuple[Outcome, Reply]:
        """Route a request and carry out what is decided of it; both stand in the log, if there is one. See docs/run.md.

        Args:
            prompt, source, session, prompt_tokens, summary: as for :meth:`route`.
            client: of OpenAI's kind, for all deployments or by their names; over HTTP from here where there is none.
            messages: that are sent, if they are more than the prompt.

        Raises:
            InputError: as for :meth:`route`; an arm of the plan that cannot be carried out where its deployments stand; something
                else than a client. What goes wrong on the way is told by the outcome.
        """
        carrying = self.carrying
        decision = self.route(prompt, source, session, prompt_tokens, summary=summary)
        sent = prompt if messages is None else messages
        outcome, reply = carrying.run(decision, sent, client, left=self._log_outcome)
        self._log_outcome(outcome)
        self.answered(decision, outcome.output_tokens)
        return outcome, reply

    async def run_async(
        self,
        prompt: str,
        client: Any = None,
        *,
        source: str | None = None,
        session: str | None = None,
        prompt_tokens: int | None = None,
        messages: Messages | None = None,
        summary: bool = False,
    ) -> tuple[Outcome, Reply]:
        """The same in the caller's event loop; cancelled, it closes what is on its way, and logs what had become of it."""
        carrying = self.carrying
        decision = self.route(prompt, source, session, prompt_tokens, summary=summary)
        sent = prompt if messages is None else messages
        outcome, reply = await carrying.carry_out(decision, sent, client, left=self._log_outcome)
        self._log_outcome(outcome)
        self.answered(decision, outcome.output_tokens)
        return outcome, reply

    @cached_property
    def carrying(self) -> Carrying:
        """What carries decisions out, of every arm that may be used.

        Raises:
            InputError: an arm that cannot be carried out at the endpoints that were given.
        """
        told = {"sent": self.sent, "ended": self.ended}
        return Carrying(self.scenario, self.endpoints, self._manner, arms=self.strategies, **told)

    def _log_outcome(self, outcome: Outcome) -> None:
        self.log(outcome.as_line())

    def check_plain_calls(self, *, falls_back: bool = True) -> None:
        """For a caller that makes one call with ``max_tokens`` of each decision, and says nothing of when it ends.

        Args:
            falls_back: whether the caller goes on to the decision's fallbacks.

        Raises:
            InputError: an arm that may be used takes more (votes, verifiers, forced answers), or a policy looks at live load; or an
                arm has a fallback that the caller does not go to.
        """
        for name in self.strategies if not falls_back else ():
            if fallback := self.scenario.arms[name].fallback:
                expected = "no arm to fall back on: that is left to the caller's own settings here"
                raise InputError(self._where, f"scenario.arms.{name}.fallback", fallback, expected)
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
            self._tally.add("lines lost")
        return written

    def sent(self, deployment: str, calls: int = 1) -> None:
        """So many calls are on their way to a deployment, from now until :meth:`ended`.

        Raises:
            InputError: a deployment that the plan does not have, or no number of calls.
        """
        self._way.change(deployment, calls, 1)

    def ended(self, deployment: str, calls: int = 1) -> None:
        """So many calls to a deployment have come to an end, whichever. More than were sent are counted, and are no error.

        Raises:
            InputError: a deployment that the plan does not have, or no number of calls.
        """
        if not self._way.change(deployment, calls, -1):
            self._tally.add("ended without being sent")

    def answered(self, decision: Decision, output_tokens: int) -> None:
        """A request was answered with so many tokens, reasoning and visible together: what its session may still spend, and what is
        warm where, goes by it. :meth:`run` says so itself. Of a request of no session, or under another policy, nothing follows.

        Raises:
            InputError: no number of tokens.
        """
        output_tokens = count("answered", "output_tokens", output_tokens, 0, MOST_TOKENS, "tokens")
        policy = self._plan.policies[decision.source]
        if decision.session is not None and self._follows(policy):
            self._told = self._told or output_tokens > 0
            names = decision.source, decision.session, decision.request
            self._sessions.answered(policy, *names, self._names, output_tokens)

    @property
    def load(self) -> Load:
        """What is on its way now, by deployment."""
        return self._way.at(time.monotonic() - self._began)

    @property
    def counts(self) -> Counter[str]:
        """How many requests were ``routed``, went ``to ARM``, ``fell back``, or were ``explored`` (sent where the policy would not
        have), for how many the ``predictor failed`` or the ``policy failed``, for how many the ``session ended`` or their
        ``context`` was ``to be made shorter``, how many
        ``lines lost`` the log has, and how many ``sessions forgotten`` there are."""
        return self._tally.counts + Counter({"sessions forgotten": self._sessions.forgotten})

    # ------------------------------------------------------------------------------------------------ a request

    def _asked(self, scores: Mapping[str, float], source: str, prompt_tokens: int, number: int) -> Asked:
        now_s = time.monotonic() - self._began
        return one_request(scores, source, self.sources, prompt_tokens, now_s, number, self.scenario.responses)

    def _name(self, number: int) -> str:
        return f"{self._token}-{number}"

    def _choose(self, source: str, asked: Asked, turn: Turn | None = None) -> tuple[str, str]:
        policy = self._plan.policies[source]
        follows = self._follows(policy)
        if turn is not None and (self._in_sessions or follows):
            if follows and asked.number >= _TOLD_BY and not self._told:
                said = "the policy follows sessions, and nobody has called runtime.answered: answers count as nothing to it"
                self._tally.warn_once("answers", said)
            request, alone = self._name(asked.number), partial(self._ask, policy)
            index, why = self._sessions.next_turn(policy, asked, self._names, turn, request, alone)
        else:
            index, why = self._ask(policy, of_no_session(asked) if self._in_sessions else asked)
        name = self._names[index]
        if name not in self.arms[source]:
            expected = f"an arm that is offered to source {source}: " + ", ".join(self.arms[source])
            raise InputError(self._where, f"scenario.policy of source {source}", name, expected)
        return name, why

    def _ask(self, policy: Policy, asked: Asked) -> tuple[int, str]:
        load = self.load if policy.looks_at_load else None
        if load is not None and asked.number >= _TOLD_BY and not self._way.told:
            said = "the policy looks at live load, and nobody has called runtime.sent: all looks idle to it"
            self._tally.warn_once("load", said)
        own = isinstance(policy, UserFunction) or not is_shipped(type(policy))
        with self._lock_of_own if own else nullcontext():  # one's own code need not be safe under threads
            return ask(policy, asked, self._names, load, self._plan.begins_at)

    def _explored(self, chosen: str, arms: tuple[str, ...], number: int) -> tuple[str, float]:
        """The arm, and the chance that it was to be that."""
        u, pick = uniforms(self._drawn_by, "explore", 1, 2, start=number)[0]
        arm = arms[int(pick * len(arms))] if u < self._explore else chosen
        return arm, (1 - self._explore) * (arm == chosen) + self._explore / len(arms)


CARRIED_OUT[SavedPlan] = Runtime

__all__ = ["Runtime"]
