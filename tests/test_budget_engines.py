"""Hard budgets in both engines: that they agree, that nothing is lost, and a ledger of its own for calls that never wait."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from tests.random_budgets import Budgeted, flat_prices, run_both, spending_differs, with_budgets
from tests.random_caches import with_caches
from tests.random_scenarios import TIMES, Times, differences, failing_scenario, scenario, with_lives
from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.times import DAY_S
from ttc_sim.engine import compiled
from ttc_sim.engine.spending import DEGRADE, QUEUE, REFUSE, Budgets, bill_of, prices_at
from ttc_sim.engine.work import COMPLETED, IN_FLIGHT, REJECTED, TIMED_OUT, EngineResult, Work, single_stage
from ttc_sim.scenario import Api, Latency, Price


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree_on_budgets(times: Times) -> None:
    """With stages, closed loops and live policies; with errors, retries, fallbacks; with replicas that come, go and fail."""
    counts = dict.fromkeys(
        ("degraded", "queued", "refused", "exhausted", "several days", "found in a cache", "kept by one"), 0
    )
    for seed in range(70):
        cases = [
            with_budgets(scenario(seed, times), seed, times),
            with_budgets(failing_scenario(seed, times), seed, times),
            with_budgets(with_lives(failing_scenario(seed, times), seed, times), seed, times, days=False),
            with_budgets(with_caches(failing_scenario(seed, times), seed, times), seed, times, days=False),
        ]
        for kind, given in enumerate(cases):
            slow, fast = run_both(given)
            found = differences(slow, fast) + spending_differs(slow, fast)
            assert found == [], f"with_budgets({kind}: {seed}, {times!r})"
            counts["found in a cache"] += kind == 3 and any(one.any() for one in fast.cached_tokens)
            counts["kept by one"] += any(one.any() for one in fast.written_tokens)
            assert fast.spending is not None
            done = fast.spending.done
            for name, bit in (("degraded", DEGRADE), ("queued", QUEUE), ("refused", REFUSE)):
                counts[name] += int((done & bit > 0).sum())
            counts["exhausted"] += int((~np.isnan(fast.spending.exhausted_s)).sum())
            counts["several days"] += len(fast.spending.spent) > 1
    assert counts["refused"] > 5
    seldom = ("refused", "found in a cache", "kept by one")
    assert min(count for name, count in counts.items() if name not in seldom) > 30, counts
    assert min(counts["found in a cache"], counts["kept by one"]) > 5, counts


def test_engines_agree_on_what_is_spent_over_time() -> None:
    for seed in range(12):
        given = with_budgets(scenario(seed, "quarters"), seed, "quarters", days=False)
        slow, fast = run_both(given, interval_s=1.25)
        assert differences(slow, fast) + spending_differs(slow, fast) == []
        assert fast.spending is not None
        assert fast.spending.spent_over is not None
        np.testing.assert_array_equal(fast.spending.spent_over.sum(axis=0), fast.spending.spent.sum(axis=0))


@pytest.mark.parametrize("times", TIMES)
def test_a_budget_that_is_never_spent_changes_nothing(times: Times) -> None:
    """To the last digit, whatever would become of requests."""
    for seed in range(60):
        for case in (scenario(seed, times), failing_scenario(seed, times)):
            given = with_budgets(case, seed, times)
            budgets = given.budgets
            endless = Budgets(np.full_like(budgets.limit, 1 << 60), *list(vars(budgets).values())[1:])
            case = given.case
            same = case.works, case.names, case.deployments, case.rule, case.until_s, case.tables
            rest = {"following": case.following, "outages": case.outages}
            plain = compiled.run(*same, **rest)  # type: ignore[arg-type]
            found = compiled.run(*same, **rest, budgets=endless)  # type: ignore[arg-type]
            assert differences(plain, found) == []
            assert found.spending is not None
            assert not found.spending.done.any()
            assert (found.spending.sent_s == found.arrival_s)[~np.isnan(found.spending.sent_s)].all()


@pytest.mark.parametrize("times", TIMES)
def test_every_request_is_accounted_for_and_every_call_counted(times: Times) -> None:
    looked = 0
    for seed in range(100, 170):
        for case in (scenario(seed, times), failing_scenario(seed, times)):
            given = with_budgets(case, seed, times)
            got = _run(given)
            spending = got.spending
            assert spending is not None
            refused, waited = spending.done & REFUSE > 0, spending.done & QUEUE > 0
            came, sent = ~np.isnan(got.arrival_s), ~np.isnan(spending.sent_s)
            assert (got.status[refused] == REJECTED).all()
            assert not (refused & sent).any()
            # Who came and was not sent on was refused, gave up, or still waits where the clock was stopped.
            kept_back = came & ~sent & ~refused
            assert set(got.status[kept_back].tolist()) <= {TIMED_OUT, IN_FLIGHT}
            if given.case.until_s is None:
                assert waited[kept_back].all()
                assert (got.status[came] != IN_FLIGHT).all()
            assert (spending.sent_s[waited & sent] > got.arrival_s[waited & sent]).all()
            assert (spending.sent_s[~waited & sent] == got.arrival_s[~waited & sent]).all()
            moved = got.arm if got.attempts is None else got.attempts.first
            assert ((moved != spending.chosen) == (spending.done & DEGRADE > 0)).all()
            for index, work in enumerate(given.case.works):
                owner = np.repeat(np.arange(work.requests), np.diff(work.stage_start))
                assert not got.prefilled_tokens[index][~sent[owner]].any()
            # A budget is exhausted on the days on which it was spent to its limit, and on no other.
            exhausted = ~np.isnan(spending.exhausted_s)
            assert (exhausted == (spending.spent >= given.budgets.limit)).all()
            if given.case.until_s is None:
                billed, calls = _billed(given, got)
                least = any(prices[..., 5].any() for prices in given.budgets.prices)
                assert (spending.spent.sum(axis=0) >= billed - calls).all()
                assert least or (spending.spent.sum(axis=0) <= billed + calls).all()
                looked += int((billed > 0).sum())
    assert looked > 50


def _run(given: Budgeted) -> EngineResult:
    case = given.case
    return compiled.run(
        case.works,
        case.names,
        case.deployments,
        case.rule,
        case.until_s,
        case.tables,
        following=case.following,
        outages=case.outages,
        budgets=given.budgets,
    )


def _billed(given: Budgeted, got: EngineResult) -> tuple[F64, int]:
    """Tokens times prices of all requests in each budget, and of how many calls at most each rounded."""
    total, calls = np.zeros(len(given.budgets.limit)), 0
    for index, (work, prices) in enumerate(zip(given.case.works, given.budgets.prices, strict=True)):
        hidden = np.minimum(got.generated_tokens[index], work.reasoning_tokens)
        parts = [hidden, got.generated_tokens[index] - hidden]
        whole = (got.prefilled_tokens[index] > 0).astype(np.float64)
        calls += int(whole.sum())
        if got.attempts is not None:
            lost = got.attempts.lost_generated[index], got.attempts.lost_reasoning[index]
            parts = [parts[0] + lost[1], parts[1] + lost[0] - lost[1]]
            whole += got.attempts.lost_attempts[index]
            calls += int(got.attempts.lost_attempts[index].sum())
        tokens = [np.add.reduceat(one, work.sample_start[:-1]) for one in parts]
        owner = np.repeat(np.arange(work.requests), np.diff(work.stage_start))
        clock = given.budgets.clock
        at = [0 if np.isnan(s) else prices_at(clock, s) for s in got.started_s[owner].tolist()]
        held = prices[np.arange(len(owner)), at]
        usd = whole * held[:, 0] + tokens[0] * held[:, 1] + tokens[1] * held[:, 2]
        for k in range(2):
            budget = given.budgets.of[owner, k]
            np.add.at(total, budget[budget >= 0], usd[budget >= 0])
    return total, calls


# -------------------------------------------------------------------------------------- calls that never wait, by hand

API = Api(
    kind="api",
    price=Price(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0),
    first_token=Latency(median_s=1.0),
    per_token=Latency(median_s=0.1),
)


def _calls(seed: int, n: int, gap_s: float) -> tuple[Work, F64]:
    """Single calls, and the seconds that each takes."""
    u = uniforms(seed, "calls", n, 4)
    work = single_stage(
        np.cumsum(-np.log(u[:, 0])) * gap_s, 1 + (u[:, 1] * 50).astype(np.int64), 1 + (u[:, 2] * 40).astype(np.int64)
    )
    first_s, per_token_s = gap_s * (0.5 + 4 * u[:, 3]), np.full(n, 0.02 * gap_s)
    work = Work(**{**vars(work), "first_token_s": first_s, "per_token_s": per_token_s})
    return work, first_s + (work.visible_tokens - 1) * per_token_s


@pytest.mark.parametrize("rule", [DEGRADE, QUEUE, REFUSE])
@pytest.mark.parametrize("gap_s", [0.5, 4000.0])
def test_calls_that_never_wait_are_counted_as_a_ledger_by_hand_has_them(rule: int, gap_s: float) -> None:
    """Over a few seconds of one day, and over several days; each call's end is known beforehand."""
    befell = 0
    for seed in range(12):
        (work, took_s), (other, other_s) = _calls(seed, 60, gap_s), _calls(seed + 1000, 60, gap_s)
        other = Work(**{**vars(other), "arrival_s": work.arrival_s})
        prices = tuple(
            flat_prices(3 * one.prompt_tokens, np.zeros(60), np.full(60, each))
            for one, each in ((work, 7.0), (other, 1.0))
        )
        limit, first_turn_s = int(60 * 250 * (0.05 + 0.1 * (seed % 4))), 30_000.0
        budgets = Budgets(
            limit=np.array([limit], dtype=np.int64),
            rule=np.array([rule], dtype=np.int64),
            of=np.tile([0, -1], (60, 1)),
            to=np.tile([1, -1], (60, 1)),
            spends=np.ones((2, 60), dtype=np.bool_),
            prices=prices,
            first_turn_s=first_turn_s,
        )
        got = compiled.run([work, other], ["api"], [API], budgets=budgets)
        bills = [
            [bill_of(p[0], 0, False, 0, int(v), 0, 0) for p, v in zip(rows, one.visible_tokens, strict=True)]
            for rows, one in zip(prices, (work, other), strict=True)
        ]
        sent_s, taken, spent = _by_hand(work.arrival_s, (took_s, other_s), bills, limit, rule, first_turn_s)
        np.testing.assert_array_equal(got.spending.sent_s, sent_s)  # type: ignore[union-attr]
        refused = np.isnan(sent_s)
        np.testing.assert_array_equal(got.status, np.where(refused, REJECTED, COMPLETED))
        np.testing.assert_array_equal(got.arm[~refused], np.array(taken)[~refused])
        ends_s = np.where(np.array(taken) == 0, took_s, other_s) + sent_s
        np.testing.assert_allclose(got.finished_s[~refused], ends_s[~refused], rtol=1e-12)
        days = got.spending.spent[:, 0].tolist()  # type: ignore[union-attr]
        assert days == [spent.get(day, 0) for day in range(len(days))]
        assert sum(days) == sum(spent.values())
        befell += int((got.spending.done > 0).sum())  # type: ignore[union-attr]
    assert befell > 30


def _by_hand(
    arrival_s: F64, took_s: tuple[F64, F64], bills: list[list[int]], limit: int, rule: int, first_turn_s: float
) -> tuple[F64, list[int], dict[int, int]]:
    """When each request is sent on, what it is carried out by, and what is spent by day."""
    due = [(at_s, 1, i, 0) for i, at_s in enumerate(arrival_s.tolist())]  # ends (0) before what clients do (1)
    heapq.heapify(due)
    sent_s, taken, spent = np.full(len(arrival_s), np.nan), [0] * len(arrival_s), dict[int, int]()
    while due:
        now_s, kind, i, nanos = heapq.heappop(due)
        day = 0 if now_s < first_turn_s else 1 + int((now_s - first_turn_s) // DAY_S)
        if kind == 0:
            spent[day] = spent.get(day, 0) + nanos
            continue
        if spent.get(day, 0) >= limit:
            if rule == REFUSE:
                continue
            if rule == QUEUE:
                heapq.heappush(due, (first_turn_s + day * DAY_S, 1, i, 0))
                continue
            taken[i] = 1
        sent_s[i] = now_s
        heapq.heappush(due, (now_s + float(took_s[taken[i]][i]), 0, i, bills[taken[i]][i]))
    return sent_s, taken, spent


def test_a_larger_budget_never_refuses_more() -> None:
    """Of one day, where nothing else keeps requests from being answered."""
    for seed in range(8):
        work, _ = _calls(seed, 80, 0.5)
        before = 80
        for limit in (1, 500, 1500, 4000, 9000, 1 << 60):
            budgets = Budgets(
                limit=np.array([limit], dtype=np.int64),
                rule=np.array([REFUSE], dtype=np.int64),
                of=np.tile([0, -1], (80, 1)),
                to=np.full((80, 2), -1, dtype=np.int64),
                spends=np.ones((1, 80), dtype=np.bool_),
                prices=(flat_prices(3 * work.prompt_tokens, np.zeros(80), np.full(80, 5.0)),),
            )
            got = compiled.run([work], ["api"], [API], budgets=budgets)
            refused = int((got.status == REJECTED).sum())
            assert refused <= before
            before = refused
        assert before == 0
