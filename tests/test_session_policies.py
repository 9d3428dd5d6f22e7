"""Policies that follow sessions: worked by hand, beside a plain account of the same, and what must not change anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.policies import (
    ENDED,
    Always,
    Banded,
    Escalate,
    Overflow,
    PerSource,
    Policy,
    Requests,
    SessionBudget,
    Sticky,
    Threshold,
    UserFunction,
    Utility,
    choose_arms,
    parse_policy,
)
from ttc_sim.policies.costs import ArmCosts, TokenUsd
from ttc_sim.policies.turns import Turns
from ttc_sim.reporting.text import policy_in_words
from ttc_sim.testing.examples import in_sessions, requests_of

ARMS = ["opus", "haiku"]
# Anthropic's prices of Claude Opus 4.5 and Haiku 4.5, US dollars per million tokens: input, cached, written, output.
OPUS, HAIKU = (5.0, 0.5, 6.25, 25.0), (1.0, 0.1, 1.25, 5.0)


def costs_of(
    prices: Sequence[float], deployment: str, *, keeps: str = "prompt", ttl_s: float = 300.0, **more: Any
) -> ArmCosts:
    usd = TokenUsd(0, *(1e-6 * price for price in prices))
    return ArmCosts(deployment, (usd,), keeps=keeps, min_tokens=1024, ttl_s=ttl_s, **more)


COSTS = {"opus": costs_of(OPUS, "anthropic/opus"), "haiku": costs_of(HAIKU, "anthropic/haiku")}


def session(
    prompts: Sequence[int],
    asked: Sequence[str],
    *,
    outputs: Sequence[int] | None = None,
    think_s: float = 10.0,
    costs: dict[str, ArmCosts] = COSTS,
    number: int = 0,
) -> Requests:
    """One session, each of whose prompts begins with the one before; ``asked``: whom a threshold at 0.5 asks for."""
    n = len(prompts)
    prompt = np.array(prompts, dtype=np.int64)
    zeros, turn = np.zeros(n, dtype=np.int64), np.arange(n)
    turns = Turns(
        session=zeros + number,
        turn=turn,
        after=turn - 1,
        think_s=np.where(turn > 0, think_s, 0.0),
        reused_tokens=np.concatenate([[0], prompt[:-1]]),
        output_tokens=zeros if outputs is None else np.array(outputs, dtype=np.int64),
    )
    hard = np.array([1.0 if arm == "opus" else 0.0 for arm in asked])
    return Requests(np.zeros(n), zeros, ("all",), prompt, {"difficulty": hard}, turns=turns, costs=costs)


ASKED = Threshold(at=0.5, below="haiku", above="opus")


def arms_of(policy: Policy, requests: Requests, arms: Sequence[str] = ARMS) -> list[str]:
    return [arms[k] if k != ENDED else "-" for k in choose_arms(policy, requests, arms)]


# ------------------------------------------------------------------------------------------------------------- by hand


def test_going_down_to_a_cold_cache_costs_more_than_staying() -> None:
    """100,000 tokens that Opus has cost $0.05 to read there again, and $0.125 to write at Haiku, at a fifth of the price."""
    requests = session([100_000, 100_000], ["opus", "haiku"])
    assert arms_of(Sticky(ASKED), requests) == ["opus", "opus"]
    # $0.075 more this turn, if nothing new comes and nothing is answered.
    assert arms_of(Sticky(ASKED, worth_usd=0.0751), requests) == ["opus", "haiku"]
    assert arms_of(Sticky(ASKED, worth_usd=0.0749), requests) == ["opus", "opus"]
    # From then on Haiku reads them for $0.01, and Opus for $0.05: two turns do not make up for it, three do.
    assert arms_of(Sticky(ASKED, turns=2), requests) == ["opus", "opus"]
    assert arms_of(Sticky(ASKED, turns=3), requests) == ["opus", "haiku"]


def test_going_up_costs_what_the_dearer_arm_does() -> None:
    """100,000 tokens: $0.01 at Haiku, where they are, or $0.625 at Opus, and answers of 1,000 tokens are $0.02 dearer."""
    requests = session([100_000, 100_000], ["haiku", "opus"], outputs=[1_000, 1_000])
    assert arms_of(Sticky(ASKED, worth_usd=0.636), requests) == ["haiku", "opus"]
    assert arms_of(Sticky(ASKED, worth_usd=0.634), requests) == ["haiku", "haiku"]
    # Over ten turns: 0.615 + 9 * 0.04 + 10 * 0.02 = 1.175.
    assert arms_of(Sticky(ASKED, worth_usd=0.118, turns=10), requests) == ["haiku", "opus"]
    assert arms_of(Sticky(ASKED, worth_usd=0.117, turns=10), requests) == ["haiku", "haiku"]


def test_what_has_grown_cold_holds_nobody() -> None:
    """After a pause longer than the time to live nothing is lost: Haiku is cheaper for all of the prompt."""
    for think_s, second in ((300.0, "opus"), (300.1, "haiku")):
        requests = session([100_000, 100_000], ["opus", "haiku"], think_s=think_s)
        assert arms_of(Sticky(ASKED), requests) == ["opus", second]
        assert arms_of(Sticky(ASKED, lost_tokens=0), requests) == ["opus", second]


def test_an_arm_left_for_a_while_is_still_warm() -> None:
    """Opus has 50,000 tokens of the prompt when the session comes back to it, and has them no more after 300 s."""
    for think_s, back in ((100.0, "opus"), (160.0, "haiku")):
        requests = session([50_000] * 3, ["opus", "haiku", "opus"], think_s=think_s)
        policy = Sticky(ASKED, worth_usd=0.05)
        assert arms_of(policy, requests) == ["opus", "haiku", back]


def test_tokens_lost_are_those_that_the_other_arm_lacks() -> None:
    requests = session([40_000, 60_000, 61_000], ["opus", "haiku", "opus"])
    assert arms_of(Sticky(ASKED, lost_tokens=40_000), requests) == ["opus", "haiku", "opus"]
    assert arms_of(Sticky(ASKED, lost_tokens=39_999), requests) == ["opus", "opus", "opus"]
    # Of 60,000 that Haiku then has, Opus has 40,000.
    assert arms_of(Sticky(ASKED, lost_tokens=40_000, moves=1), requests) == ["opus", "haiku", "haiku"]
    two_on_one = {"opus": COSTS["opus"], "haiku": costs_of(HAIKU, "anthropic/opus")}
    assert arms_of(Sticky(ASKED, lost_tokens=0), replace(requests, costs=two_on_one)) == ["opus", "haiku", "opus"]


def test_a_context_that_was_cut_is_not_warm_elsewhere() -> None:
    """Haiku has read a prompt of which only the first 20,000 tokens are left."""
    requests = session([90_000, 90_000, 50_000, 50_000], ["haiku", "opus", "opus", "haiku"])
    assert requests.turns is not None
    turns = replace(requests.turns, reused_tokens=np.array([0, 90_000, 20_000, 50_000]))
    moved = replace(requests, turns=turns)
    assert arms_of(Sticky(ASKED, lost_tokens=90_000), moved) == ["haiku", "opus", "opus", "haiku"]
    assert arms_of(Sticky(ASKED, lost_tokens=30_000), moved)[3] == "haiku"
    policy = SessionBudget(ASKED, usd=0.563, to="opus")
    # 90,000 written at Haiku, at Opus, then 20,000 read and 30,000 written: 0.1125 + 0.5625 + 0.01 + 0.1875.
    assert arms_of(policy, moved)[2:] == ["opus", "opus"]
    # The fourth at Haiku: 20,000 read there, 30,000 written: 0.002 + 0.0375.
    assert arms_of(SessionBudget(ASKED, usd=0.8725, at_end="stop"), moved)[3] == "-"
    assert arms_of(SessionBudget(ASKED, usd=0.8726, at_end="stop"), moved)[3] == "haiku"


def test_patience_and_moves() -> None:
    requests = session([2_000] * 7, ["opus", "haiku", "opus", "haiku", "haiku", "opus", "opus"])
    free = {name: replace(one, usd=(TokenUsd(0, 0, 0, 0, 0),)) for name, one in COSTS.items()}
    requests = replace(requests, costs=free)
    found = arms_of(Sticky(ASKED, patience=2), requests)
    assert found == ["opus", "opus", "opus", "opus", "haiku", "haiku", "opus"]
    assert arms_of(Sticky(ASKED, patience=2, moves=1), requests) == ["opus"] * 4 + ["haiku"] * 3
    assert arms_of(Sticky(ASKED, moves=0), requests) == ["opus"] * 7
    assert arms_of(Sticky(ASKED), requests) == arms_of(ASKED, requests)  # nothing costs anything


def test_a_budget_of_dollars_counts_the_cache() -> None:
    """30,000 tokens written ($0.1875) and 1,000 answered ($0.025) are $0.2125; read again ($0.015) and answered, $0.04 a turn."""
    requests = session([30_000] * 5, ["opus"] * 5, outputs=[1_000] * 5)
    for usd, at_opus in ((0.2, 1), (0.2124, 1), (0.2126, 2), (0.2524, 2), (0.2526, 3), (10.0, 5)):
        found = arms_of(SessionBudget(Always("opus"), usd=usd, to="haiku"), requests)
        assert found == ["opus"] * at_opus + ["haiku"] * (5 - at_opus)
        stopped = arms_of(SessionBudget(Always("opus"), usd=usd, at_end="stop"), requests)
        assert stopped == ["opus"] * at_opus + ["-"] * (5 - at_opus)
    # Without a cache each is $0.15 + $0.025.
    plain = {name: replace(one, keeps="nothing") for name, one in COSTS.items()}
    found = arms_of(SessionBudget(Always("opus"), usd=0.3499, to="haiku"), replace(requests, costs=plain))
    assert found == ["opus"] * 2 + ["haiku"] * 3


def test_a_budget_of_tokens_counts_prompts_and_answers() -> None:
    requests = replace(session([30_000] * 5, ["opus"] * 5, outputs=[1_000] * 5), costs=None)  # which needs no prices
    assert arms_of(SessionBudget(Always("opus"), tokens=62_000, to="haiku"), requests) == ["opus"] * 2 + ["haiku"] * 3
    assert arms_of(SessionBudget(Always("opus"), tokens=62_001, to="haiku"), requests) == ["opus"] * 3 + ["haiku"] * 2


def test_prices_by_length_reprice_the_whole_prompt() -> None:
    """Of a model that is twice as dear beyond 200,000 tokens."""
    above = TokenUsd(200_000, 10e-6, 1e-6, 12.5e-6, 37.5e-6)
    long = {**COSTS, "opus": replace(COSTS["opus"], usd=(*COSTS["opus"].usd, above))}
    requests = session([200_000, 200_001, 200_001], ["opus"] * 3, outputs=[10, 10, 10], costs=long)
    spent = 200_000 * 6.25e-6 + 10 * 25e-6 + (200_000 * 1e-6 + 1 * 12.5e-6 + 10 * 37.5e-6)
    assert arms_of(SessionBudget(Always("opus"), usd=spent - 1e-9, to="haiku"), requests)[2] == "haiku"
    assert arms_of(SessionBudget(Always("opus"), usd=spent + 1e-9, to="haiku"), requests)[2] == "opus"


def test_sub_agents_stay_on_arms_of_their_own_and_share_the_budget() -> None:
    """Main 0, 1, then a sub-agent's 0, 1, then main 2: its cache is where it was left."""
    one = session([50_000, 60_000, 20_000, 21_000, 61_000], ["opus", "opus", "haiku", "opus", "haiku"])
    assert one.turns is not None
    turns = replace(
        one.turns, turn=np.array([0, 1, 0, 1, 2]), reused_tokens=np.array([0, 50_000, 15_000, 20_000, 60_000])
    )
    requests = replace(one, turns=turns)
    # The sub-agent begins with 15,000 tokens that Opus has from its parent: of its 20,000 at Haiku, 5,000 are lost there.
    assert arms_of(Sticky(ASKED, lost_tokens=4_999), requests) == ["opus", "opus", "haiku", "haiku", "opus"]
    assert arms_of(Sticky(ASKED, lost_tokens=5_000), requests) == ["opus", "opus", "haiku", "opus", "opus"]
    assert arms_of(Sticky(ASKED, lost_tokens=59_999), requests)[4] == "opus"
    # All that main has sent and Haiku lacks: the sub-agent's 15,000 tokens there are of another conversation.
    assert arms_of(Sticky(ASKED, lost_tokens=60_000), requests)[4] == "haiku"
    assert arms_of(SessionBudget(ASKED, tokens=130_000, at_end="stop"), requests) == ["opus", "opus", "haiku", "-", "-"]


def test_utility_counts_what_is_warm() -> None:
    """Equal but for their prices: the cheaper arm on a list is the dearer for a prompt that the other one has."""
    base = requests_of(3, ["all"], ARMS, [])
    assert base.responses is not None
    alike = {
        name: base.responses["opus"].model_copy(update={"api_cost_usd": (math.log(usd), 0.0, 0.0)})
        for name, usd in (("opus", 0.50), ("haiku", 0.10))
    }
    requests = replace(session([100_000] * 3, ["opus"] * 3), responses=alike)
    warm = Utility(price_of_accuracy=0.0)
    assert arms_of(warm, replace(requests, costs=None)) == ["haiku"] * 3
    assert arms_of(warm, requests) == ["haiku"] * 3
    # What it costs there to begin with is no longer what it costs to go on.
    dearer = {**alike, "haiku": alike["haiku"].model_copy(update={"api_cost_usd": (math.log(0.58), 0.0, 0.0)})}
    found = arms_of(warm, replace(requests, responses=dearer))
    # First: opus 0.50 + 0.125 (written), haiku 0.58 + 0.025: haiku; and there it stays, $0.09 below its list price.
    assert found == ["haiku"] * 3
    assert arms_of(warm, replace(requests, responses=dearer, costs=None)) == ["opus"] * 3


# --------------------------------------------------------------------------------------------------- by a plain account


class Account:
    """What one conversation's prompts cost where, kept in plain Python."""

    def __init__(self, costs: dict[str, ArmCosts]) -> None:
        self.costs = costs
        self.had: dict[str, tuple[int, float]] = {}  # by deployment: leading tokens, and when
        self.answers: list[int] = []

    def begin(self, reused: int) -> None:
        self.had = {place: (min(tokens, reused), at) for place, (tokens, at) in self.had.items()}

    def warm(self, arm: str, now_s: float, tokens: int | None = None) -> int:
        one = self.costs[arm]
        if tokens is None:
            tokens, at = self.had.get(one.deployment, (0, now_s))
            if now_s - at > one.ttl_s:
                return 0
        found = tokens // one.step_tokens * one.step_tokens
        return found if one.keeps != "nothing" and found >= one.min_tokens else 0

    def prices(self, arm: str, prompt: int) -> TokenUsd:
        return [usd for k, usd in enumerate(self.costs[arm].usd) if k == 0 or prompt > usd.above][-1]

    def bill(self, arm: str, prompt: int, warm: int) -> float:
        one, usd = self.costs[arm], self.prices(arm, prompt)
        kept = one.keeps != "nothing" and prompt >= one.min_tokens
        return one.usd_per_call + warm * usd.cached + (prompt - warm) * (usd.written if kept else usd.input)

    def send(self, arm: str, prompt: int, output: int, now_s: float) -> None:
        one = self.costs[arm]
        tokens = {"nothing": 0, "prompt": prompt, "all": prompt + output}[one.keeps]
        self.had[one.deployment] = (tokens, now_s)
        if output:
            self.answers.append(output)


def conversations(requests: Requests) -> list[tuple[int, int] | None]:
    """Session and first request of each request's conversation."""
    turns, lengths = requests.turns, requests.prompt_tokens
    assert turns is not None
    found: list[tuple[int, int] | None] = []
    open_ones: dict[int, list[list[int]]] = {}
    for i, (s, t) in enumerate(zip(turns.session.tolist(), turns.turn.tolist(), strict=True)):
        if s < 0:
            found.append(None)
            continue
        mine = open_ones.setdefault(s, [])  # first request, latest turn, latest request
        latest = max(mine, key=lambda one: one[2], default=None)
        if t == 0 or latest is None:
            one = [i, t, i]
            mine.append(one)
        else:
            fits = [one for one in (latest, *sorted(mine, reverse=True)) if one[1] == t - 1]
            reused = turns.reused_tokens[i]
            one = min(fits, key=lambda one: abs(lengths[one[2]] - reused), default=latest)
        one[1], one[2] = t, i
        found.append((s, one[0]))
    return found


def plain_sticky(policy: Sticky, requests: Requests, arms: Sequence[str]) -> list[str]:
    turns, costs = requests.turns, dict(requests.costs or {})
    assert turns is not None
    asked = [arms[k] for k in choose_arms(policy.policy, requests, arms)]
    clock: dict[int, float] = {}
    accounts: dict[tuple[int, int], Account] = {}
    latest: dict[int, Account] = {}
    state: dict[tuple[int, int], dict[str, Any]] = {}
    found = []
    for i, key in enumerate(conversations(requests)):
        if key is None:
            found.append(asked[i])
            continue
        s, prompt, output = key[0], int(requests.prompt_tokens[i]), int(turns.output_tokens[i])
        clock[s] = now_s = clock.get(s, 0.0) + float(turns.think_s[i])
        if key not in accounts:
            accounts[key] = Account(costs)
            accounts[key].had = dict(latest[s].had) if s in latest else {}
        mine = latest[s] = accounts[key]
        mine.begin(int(turns.reused_tokens[i]))
        known = state.setdefault(key, {"arm": None, "moves": 0, "run": []})
        stay, go = known["arm"], asked[i]
        if stay is None or stay == go:
            arm, known["run"] = go, []
        else:
            known["run"] = [*(known["run"] if known["run"][-1:] == [go] else []), go]
            here, there = mine.warm(stay, now_s), mine.warm(go, now_s)
            answer = sum(mine.answers) / len(mine.answers) if mine.answers else 0.0
            usd = {}
            for arm, warm in ((go, there), (stay, here)):
                usd[arm] = mine.bill(arm, prompt, warm)
                usd[arm] += (policy.turns - 1) * mine.bill(arm, prompt, mine.warm(arm, now_s, prompt))
                usd[arm] += policy.turns * answer * mine.prices(arm, prompt).output
            moves = len(known["run"]) >= policy.patience
            moves = moves and (policy.moves is None or known["moves"] < policy.moves)
            if policy.lost_tokens is not None:
                moves = moves and here - there <= policy.lost_tokens
            if policy.worth_usd is not None or policy.lost_tokens is None:
                moves = moves and usd[go] - usd[stay] <= policy.turns * (policy.worth_usd or 0.0)
            arm = go if moves else stay
            if moves:
                known["moves"], known["run"] = known["moves"] + 1, []
        known["arm"] = arm
        mine.send(arm, prompt, output, now_s)
        found.append(arm)
    return found


@pytest.mark.parametrize("case", range(12))
def test_sticky_is_what_a_plain_account_says(case: int) -> None:
    u = uniforms(0, f"sticky {case}", 1, 8)[0]
    arms = ["a", "b", "c", "d", "e"][: 2 + case % 4]
    requests = in_sessions(requests_of(400, ["one", "two"], arms, ["m"]), arms)
    asked = Banded(edges=np.linspace(0, 1, len(arms) + 1)[1:-1].tolist(), arms=arms)
    policy = Sticky(
        asked,
        worth_usd=None if u[0] < 0.3 else float(0.02 * u[1]),
        lost_tokens=None if u[2] < 0.6 else int(4_000 * u[3]),
        turns=1 if u[0] < 0.3 else 1 + int(8 * u[4]),
        patience=1 + int(2.5 * u[5]),
        moves=None if u[6] < 0.7 else int(3 * u[7]),
    )
    mine = arms_of(policy, requests, arms)
    assert mine == plain_sticky(policy, requests, arms)
    if policy.moves != 0:
        freely, never = arms_of(asked, requests, arms), arms_of(Sticky(asked, moves=0), requests, arms)
        assert mine != freely or mine != never


# ------------------------------------------------------------------------------------------- what must hold of itself


def some_requests(arms: Sequence[str] = ARMS) -> Requests:
    return in_sessions(requests_of(300, ["all"], arms, []), arms)


def test_what_costs_nothing_or_is_worth_everything_changes_nothing() -> None:
    requests = some_requests()
    asked = arms_of(ASKED, requests)
    assert arms_of(Sticky(ASKED, worth_usd=1e6), requests) == asked
    assert arms_of(Sticky(ASKED, lost_tokens=10**8), requests) == asked
    assert arms_of(SessionBudget(ASKED, usd=1e9, at_end="stop"), requests) == asked
    assert arms_of(SessionBudget(ASKED, tokens=1, to="haiku"), requests) != asked


def test_a_session_of_one_turn_is_a_request() -> None:
    """So are requests of no session, and those of which no session is known."""
    requests = some_requests()
    assert requests.turns is not None
    n = len(requests)
    each = replace(requests.turns, session=np.arange(n), turn=np.zeros(n, dtype=np.int64), after=np.full(n, -1))
    nobody = replace(each, session=np.full(n, -1))
    for policy in (Sticky(ASKED), Escalate(ASKED), SessionBudget(ASKED, usd=1e-9, to="haiku"), Sticky(Escalate(ASKED))):
        for turns in (each, nobody, None):
            assert arms_of(policy, replace(requests, turns=turns)) == arms_of(ASKED, requests)


def test_escalation_is_the_highest_so_far() -> None:
    requests = some_requests(["low", "middle", "high"])
    policy = Escalate(Banded(edges=[0.6, 0.9], arms=["low", "middle", "high"]))
    arms = ["high", "low", "middle"]
    asked, found = arms_of(policy.policy, requests, arms), arms_of(policy, requests, arms)
    assert requests.turns is not None
    rank = {name: k for k, name in enumerate(policy.order)}
    highest: dict[object, int] = {}
    for key, before, after in zip(conversations(requests), asked, found, strict=True):
        if key is None:
            assert before == after
        else:
            highest[key] = max(highest.get(key, 0), rank[before])
            assert rank[after] == highest[key]
    assert asked != found


def test_caches_that_keep_nothing_leave_utility_as_it_is() -> None:
    requests = some_requests()
    assert requests.responses is not None
    one, weights = requests.responses["opus"], (("opus", (0.0, -1.0, 0.0)), ("haiku", (0.0, 1.0, 0.0)))
    responses = {name: one.model_copy(update={"correct": correct}) for name, correct in weights}
    requests = replace(requests, responses=responses)
    nothing = {name: replace(one, keeps="nothing") for name, one in (requests.costs or {}).items()}
    policy = Utility(price_of_accuracy=0.01)
    plain = arms_of(policy, replace(requests, costs=None))
    assert arms_of(policy, replace(requests, costs=nothing)) == plain
    warm = {name: costs_of((4000.0, 1.0, 4000.0, 1.0), name, ttl_s=1e9) for name in ARMS}
    found = arms_of(policy, replace(requests, costs=warm))
    assert found != plain
    # Where all that counts is the cache, a conversation stays where it began.
    assert requests.turns is not None
    by_conversation: dict[object, list[str]] = {}
    for key, arm in zip(conversations(requests), found, strict=True):
        by_conversation.setdefault(key, []).append(arm)
    held = [one == other for key, arms in by_conversation.items() if key for one, other in pairwise(arms)]
    assert np.mean(held) > 0.8


def test_sources_have_sessions_of_their_own() -> None:
    """A policy for each source follows the turns of that source alone, whatever else the session sends."""
    requests = in_sessions(requests_of(300, ["one", "two"], ARMS, []), ARMS)
    policy = PerSource({"one": Sticky(ASKED), "two": Sticky(ASKED)})
    whole = np.array(arms_of(policy, requests))
    for source in (0, 1):
        here = np.flatnonzero(requests.source == source)
        assert whole[here].tolist() == arms_of(Sticky(ASKED), requests.taken(here))


def test_the_turn_is_a_score() -> None:
    requests = session([5_000] * 4, ["opus"] * 4)
    policy = Threshold(at=2, below="opus", above="haiku", score="turn")
    assert arms_of(policy, requests) == ["opus", "opus", "haiku", "haiku"]
    with pytest.raises(InputError, match="score: got 'turn'"):
        choose_arms(policy, replace(requests, turns=None), ARMS)


def test_policies_read_as_sentences() -> None:
    inside = "Escalate(Threshold(at=5, below='a', above='b', score='turn'))"
    lines = policy_in_words(
        parse_policy(f"SessionBudget(Sticky({inside}, worth_usd=0.02, turns=8, patience=2), usd=3, to='a')")
    )
    assert lines == [
        "turn of its session below 5: a",
        "turn of its session 5 and above: b",
        "a session stays at the highest of these that it has come to, of a < b",
        "a session stays where it is, unless to move costs at most $0.02 more each of 8 turns than to stay, and the policy asks "
        "for it 2 turns in a row",
        "once a session has spent $3, all its turns go to a",
    ]


@pytest.mark.parametrize(
    "said",
    [
        "Sticky(policy=Threshold(at=0.5, below='haiku', above='opus', score='turn'), worth_usd=0.02, turns=10)",
        "Sticky(policy=Escalate(policy=Always(arm='opus'), arms=['opus']))",
        "SessionBudget(policy=Sticky(policy=Always(arm='opus'), moves=0), usd=2.0, tokens=5, to='haiku')",
        "SessionBudget(policy=Always(arm='opus'), tokens=5, at_end='stop')",
    ],
)
def test_notation_is_read_back(said: str) -> None:
    if "arms=['opus']" in said:  # one arm is no escalation
        with pytest.raises(InputError, match="at least two arms"):
            parse_policy(said)
        return
    policy = parse_policy(said)
    assert parse_policy(repr(policy)) == policy


SAID: dict[str, Any] = {"opus": "opus", "half": 1.5, "three": 3, "on": "go on"}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sticky(SAID["opus"]), "Sticky: policy: got 'opus'; expected a policy that looks at the request alone"),
        (lambda: Sticky(Sticky(ASKED)), r"or Escalate\(\.\.\.\)"),
        (lambda: Sticky(Overflow(ARMS, 3)), "looks at the request alone"),
        (lambda: Sticky(UserFunction("f", lambda request: "opus")), "looks at the request alone"),
        (lambda: Escalate(PerSource({"all": ASKED})), "looks at the request alone"),
        (lambda: Escalate(Sticky(ASKED)), "looks at the request alone"),
        (lambda: SessionBudget(SessionBudget(ASKED, usd=1, to="opus"), usd=1, to="opus"), "Sticky"),
        (lambda: Sticky(ASKED, worth_usd=math.nan), "worth_usd: got nan"),
        (lambda: Sticky(ASKED, worth_usd=-1), "worth_usd: got -1"),
        (lambda: Sticky(ASKED, lost_tokens=-1), "lost_tokens: got -1"),
        (lambda: Sticky(ASKED, lost_tokens=5, turns=2), "turns: got 2"),
        (lambda: Sticky(ASKED, turns=0), "turns: got 0"),
        (lambda: Sticky(ASKED, patience=SAID["half"]), "patience: got 1.5"),
        (lambda: Sticky(ASKED, moves=True), "moves: got True"),
        (lambda: Escalate(Utility(1.0)), "at least two arms"),
        (lambda: Escalate(ASKED, arms=["opus", "opus"]), "different arms"),
        (lambda: Escalate(ASKED, arms=["opus", "r1"]), "haiku too"),
        (lambda: Escalate(ASKED, arms=["opus", "haiku", "r1"]), "may ask for"),
        (lambda: SessionBudget(ASKED), "usd: got None"),
        (lambda: SessionBudget(ASKED, usd=0, to="opus"), "usd: got 0"),
        (lambda: SessionBudget(ASKED, usd=math.inf, to="opus"), "usd: got inf"),
        (lambda: SessionBudget(ASKED, tokens=0, to="opus"), "tokens: got 0"),
        (lambda: SessionBudget(ASKED, usd=1), "one of them"),
        (lambda: SessionBudget(ASKED, usd=1, to="opus", at_end="stop"), "one of them"),
        (lambda: SessionBudget(ASKED, usd=1, to=SAID["three"]), "to: got 3"),
        (lambda: SessionBudget(ASKED, usd=1, at_end=SAID["on"]), "at_end: got 'go on'"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_the_arm_at_the_end_must_be_there() -> None:
    """Also beside a policy that names no arms, so that a scenario cannot look before."""
    with pytest.raises(InputError, match="SessionBudget: to: got 'haiko'; expected 'haiku'"):
        choose_arms(SessionBudget(Utility(1.0), tokens=5, to="haiko"), some_requests(), ARMS)


def test_prices_that_are_not_known_are_refused_where_they_are_needed() -> None:
    requests = session([2_000] * 2, ["opus", "haiku"], costs={"opus": COSTS["opus"]})
    for policy in (Sticky(ASKED), SessionBudget(ASKED, usd=1, to="haiku")):
        with pytest.raises(
            InputError, match="got 'haiku'; expected an arm of one call a request, whose price is known"
        ):
            choose_arms(policy, requests, ARMS)
    assert arms_of(Sticky(ASKED, moves=0), requests) == ["opus", "opus"]
    assert arms_of(SessionBudget(ASKED, tokens=1, to="haiku"), requests) == ["opus", "haiku"]
