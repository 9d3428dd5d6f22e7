"""What every policy keeps."""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ttc_sim.base import notation, plugins
from ttc_sim.base.draws import I64
from ttc_sim.engine import reference
from ttc_sim.policies import (
    ENDED,
    POLICIES,
    Followed,
    FollowedSession,
    Load,
    PerSource,
    Policy,
    Requests,
    UserFunction,
    choose_arms,
    choose_live,
    rule_of,
)
from ttc_sim.policies.reading import SAID
from ttc_sim.testing.engines import assert_same, run_both
from ttc_sim.testing.examples import in_sessions, pool_of, requests_of, work_of

REQUESTS = 120


class PolicyConformance:
    """Tests of :attr:`policy`, on made-up requests.

    Attributes:
        arms: names of the arms offered; those that the policy names, if left out.
        sources: names of the sources of requests.
        models: whose scores (``p:MODEL``, ``tokens:MODEL``, ...) there are besides difficulty and novelty.

    >>> from ttc_sim.policies import Threshold
    >>> class TestThreshold(PolicyConformance):
    ...     policy = Threshold(at=0.4, below="small", above="large")
    >>> TestThreshold().test_requests_do_not_affect_one_another()
    """

    policy: ClassVar[Policy]
    arms: ClassVar[Sequence[str]] = ()
    sources: ClassVar[Sequence[str]] = ("first", "second")
    models: ClassVar[Sequence[str]] = ("small", "large")

    def test_every_request_gets_an_arm(self) -> None:
        """One index into the arms offered for each request, and, if the policy names its arms, one of those."""
        if self._is_live_alone():
            return
        requests = self._requests()
        named = self.policy.arm_names()
        for some in (requests, _of(requests, np.arange(1)), _of(requests, np.arange(0))):
            chosen = choose_arms(self.policy, some, self._arms())
            assert chosen.shape == (len(some),), f"shape {chosen.shape} for {len(some)} requests"
            assert ((chosen >= 0) & (chosen < len(self._arms()))).all(), f"an index beyond {len(self._arms())} arms"
            for arm in {self._arms()[k] for k in chosen}:
                assert not named or arm in named, f"{arm} was chosen and is not in arm_names"

    def test_it_says_what_it_is(self) -> None:
        """Names of arms and the like are of the kinds that others read."""
        plugins.check_said(self.policy, SAID, where=repr(self.policy), field="policy")
        for source in self.sources:
            assert isinstance(self.policy.for_source(source), Policy), f"for_source({source!r}) is no policy"

    def test_its_notation_makes_it_again(self) -> None:
        """What ``repr`` prints is what scenarios and plans have: read back, it is the same policy."""
        if isinstance(self.policy, (UserFunction, PerSource)):
            return  # not written as calls
        assert copy.deepcopy(self.policy) == self.policy, "a copy is another policy: is it a dataclass?"
        known = ChainMap({type(self.policy).__name__: type(self.policy)}, POLICIES)  # type: ignore[arg-type]
        made = notation.parse(repr(self.policy), known, where="repr", field="policy")
        assert made == self.policy, f"{self.policy!r} reads back as {made!r}"

    def test_same_requests_same_arms(self) -> None:
        """Nothing is random, and nothing is remembered: a plan routes the same prompt to the same arm on every day."""
        if self._is_live_alone():
            return
        first = self._chosen(self._requests())
        assert first == self._chosen(self._requests()), "the same requests were sent elsewhere the second time"

    def test_requests_do_not_affect_one_another(self) -> None:
        """A request's arm does not depend on which others there are, nor on their order: live ones come one at a time."""
        if self._is_live_alone():
            return
        requests = self._requests()
        whole = self._chosen(requests)
        alone = [np.array([k]) for k in (0, REQUESTS // 2)]
        for members in (np.arange(REQUESTS)[::-1], np.arange(3, REQUESTS, 7), *alone):
            part = self._chosen(_of(requests, members))
            for request, arm in zip(members, part, strict=True):
                assert arm == whole[request], f"request {request} goes elsewhere among {len(members)} requests"

    def test_arms_may_stand_in_any_order(self) -> None:
        """A policy that names its arms chooses by name, whatever others are offered."""
        if not self.policy.arm_names() or self._is_live_alone():
            return
        requests, arms = self._requests(), self._arms()
        for offered in (arms[::-1], ("one more", *arms, "and another")):
            assert self._chosen(requests, offered) == self._chosen(requests), f"another choice from {offered}"

    def test_requests_are_left_as_they_are(self) -> None:
        """Other policies are run on the same arrays."""
        if self._is_live_alone():
            return
        requests = self._requests()
        before = copy.deepcopy(vars(requests))
        self._chosen(requests)
        np.testing.assert_equal(vars(requests), before)

    def test_one_at_a_time_is_all_at_once(self) -> None:
        """A policy that does not look at load chooses for one request as for many; it has no rule for live load."""
        if self.policy.looks_at_load:
            return
        requests, arms = _of(self._requests(), np.arange(20)), self._arms()
        assert rule_of(self.policy, requests, arms) is None, "looks_at_load is False, but there is a live_rule"
        no_load = Load(0.0, dict.fromkeys(arms, 0), dict.fromkeys(arms, 0))
        one_by_one = [arms[choose_live(self.policy, requests, k, arms, no_load)] for k in range(len(requests))]
        assert one_by_one == self._chosen(requests), "choose_one chooses otherwise than choose"

    def test_sessions_do_not_affect_one_another(self) -> None:
        """A turn's arm depends on the turns before it in its session, and on nothing else: neither on other sessions nor on what
        comes later."""
        if self._is_live_alone():
            return
        requests = in_sessions(self._requests(), self._arms())
        whole, turns = choose_arms(self.policy, requests, self._arms()), requests.turns
        assert turns is not None
        numbers = np.unique(turns.session)
        some = np.flatnonzero(np.isin(turns.session, numbers[::3]))
        early = np.arange(2 * REQUESTS // 3)
        for members, left_out in ((some, "other sessions"), (early, "what comes later")):
            part = choose_arms(self.policy, requests.taken(members), self._arms())
            assert part.tolist() == whole[members].tolist(), f"another choice without {left_out}"

    def test_turn_by_turn_is_all_at_once(self) -> None:
        """A policy that follows sessions chooses for each turn as it comes, by what it remembers, as for all turns together."""
        policy = self.policy
        if not isinstance(policy, Followed):
            return
        arms = self._arms()
        requests = in_sessions(self._requests(), arms)
        turns, whole = requests.turns, choose_arms(policy, requests, arms)
        assert turns is not None
        sessions: dict[int, FollowedSession] = {}
        for k, session in enumerate(turns.session.tolist()):
            one = requests.taken(np.array([k]))
            assert one.turns is not None
            if session < 0:
                assert choose_arms(policy, one, arms)[0] == whole[k], (
                    f"request {k}, of no session, goes elsewhere alone"
                )
                continue
            mine = sessions.setdefault(session, FollowedSession())
            place = mine.of_turn(int(turns.turn[k]), int(requests.prompt_tokens[k]), int(turns.reused_tokens[k]))
            unanswered = replace(one, turns=replace(one.turns, output_tokens=np.zeros(1, dtype=np.int64)))
            arm = mine.follow(policy, unanswered, arms, place)
            assert arm == whole[k], f"turn {k} goes elsewhere when it comes by itself"
            if arm != ENDED:
                mine.answered(policy, unanswered, arms, place, arm, int(turns.output_tokens[k]))

    def test_both_engines_agree_on_live_load(self) -> None:
        """A rule for live load means the same in both engines; Python alone is run by the reference engine, twice alike."""
        if not self.policy.looks_at_load:
            return
        requests, arms = self._requests(), self._arms()
        works = [work_of(requests.arrival_s / 20, "live") for _ in arms]
        for k, work in enumerate(works):
            work.deployment[:] = k
        pools = [pool_of(max_num_seqs=1 + k % 3) for k in range(len(arms))]
        rule = rule_of(self.policy, requests, arms)
        if rule is not None:
            sent = run_both(works, arms, pools, rule).arm
        else:
            overridden = type(self.policy).choose_one is not Policy.choose_one
            assert overridden, "looks_at_load is True, but there is neither a live_rule nor a choose_one"

            def route(index: int, load: Load) -> int:
                return choose_live(self.policy, requests, index, arms, load)

            result = reference.run(works, arms, pools, route)
            assert_same(result, reference.run(works, arms, pools, route))
            sent = result.arm
        named = self.policy.arm_names()
        for arm in {arms[k] for k in sent}:
            assert not named or arm in named, f"{arm} was chosen and is not in arm_names"

    # -------------------------------------------------------------------------------------------------- what they use

    def _is_live_alone(self) -> bool:
        """Whether it chooses by live load and says nothing of an empty system."""
        unsaid = isinstance(self.policy, UserFunction) or type(self.policy).choose is Policy.choose
        return self.policy.looks_at_load and unsaid

    def _arms(self) -> tuple[str, ...]:
        return tuple(self.arms or self.policy.arm_names() or ("small", "large"))

    def _requests(self) -> Requests:
        return requests_of(REQUESTS, self.sources, self._arms(), self.models)

    def _chosen(self, requests: Requests, arms: Sequence[str] = ()) -> list[str]:
        offered = tuple(arms or self._arms())
        return [offered[k] for k in choose_arms(self.policy, requests, offered)]


def _of(requests: Requests, members: I64) -> Requests:
    return replace(
        requests,
        arrival_s=requests.arrival_s[members],
        source=requests.source[members],
        prompt_tokens=requests.prompt_tokens[members],
        scores={name: values[members] for name, values in requests.scores.items()},
    )


__all__ = ["PolicyConformance"]
