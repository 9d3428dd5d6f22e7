"""Another plan on the logs of one: what it would have chosen, and what that would have come to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.logs import STATUSES, Logs
from ttc_sim.deploying.logs.joined import Flags
from ttc_sim.deploying.off_policy.choosing import FIGURES, by_function, chosen_by, on_pools, same_arms
from ttc_sim.deploying.off_policy.estimators import METHODS, Terms, Tried, compare, mean, terms
from ttc_sim.deploying.off_policy.models import chance_known, cross_fitted, features
from ttc_sim.deploying.off_policy.notes import notes_of
from ttc_sim.deploying.off_policy.result import Bounds, Figure, OffPolicy, WantedArm
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario import Scenario


def estimate_instead(
    logs: Logs, plan: SavedPlan, other: SavedPlan, *, name: str = "the other plan", plan_name: str = "the plan"
) -> OffPolicy:
    """What another plan would have come to on the requests that a plan's runtime logged.

    Only what the logs can tell is said: where the other plan wants an arm that a request had no chance to be sent to, its figures
    are of the other requests, and those of all lie between bounds.

    Args:
        logs: of the plan, as :func:`~ttc_sim.deploying.logs.read_logs` reads them.
        plan: that was carried out; other: with its policy and arms.
        name: of the other plan; plan_name: of the one that was carried out.

    Raises:
        InputError: a policy that looks at live load, at scores that were not logged, or at those of another predictor.
    """
    rows = ~logs.fell_back
    if not rows.any():
        raise InputError(
            plan_name, "logs", "a predictor that failed for every request", "decisions of the plan's policy"
        )
    own = chosen_by(other, name, logs, rows, plan)
    same = same_arms(other.scenario, plan.scenario, logs.arms)
    seen = _Seen(logs, rows)
    wanted = {figure: same[figure][own] for figure in FIGURES}
    figures = {figure: _figure(seen, figure, wanted[figure]) for figure in FIGURES}
    anyhow = wanted[FIGURES[0]]
    arms = tuple(
        _wanted_arm(seen, list(other.scenario.arms)[k], int(same[FIGURES[0]][k]), own == k)
        for k in np.unique(own).tolist()
    )
    return OffPolicy(
        plan=plan_name,
        instead=name,
        requests=int(rows.sum()),
        same=float((anyhow == seen.policy_arm).mean()),
        explored=float((seen.others > 0).mean()),
        arms=arms,
        figures=figures,
        notes=notes_of(
            logs,
            name,
            arms,
            figures,
            pooled=(
                _pooled(plan.scenario, [logs.arms[k] for k in seen.policy_arm]),
                _pooled(other.scenario, [list(other.scenario.arms)[k] for k in own]),
            ),
            function=by_function(other),
        ),
    )


def _pooled(scenario: Scenario, chosen: Sequence[str]) -> float:
    """Share of requests on arms that may call a GPU pool."""
    pools = {name for name in set(chosen) if on_pools(scenario, name)}
    return sum(name in pools for name in chosen) / len(chosen)


class _Seen:
    """The requests that are looked at, (n,): where they were sent, and where they might have been."""

    def __init__(self, logs: Logs, rows: Flags) -> None:
        self.logs, self.rows = logs, rows
        self.arm, self.policy_arm = logs.arm[rows], logs.policy_arm[rows]
        self.propensity = logs.propensity[rows]
        n, arms = len(self.arm), len(logs.arms)
        chosen = np.zeros((n, arms), dtype=np.bool_)
        chosen[np.arange(n), self.arm] = True
        self.had_a_chance = chosen | (logs.offered[rows] & (self.propensity < 1)[:, None])
        self.others = self.had_a_chance.sum(axis=1) - 1
        turn = logs.session[rows]
        alone = np.where(turn < 0, turn.max(initial=0) + 1 + np.arange(n), turn)
        self.cluster = np.unique(alone, return_inverse=True)[1].astype(np.int64)
        scores = {score: values[rows] for score, values in logs.scores.items()}
        self.table = features(scores, logs.prompt_tokens[rows], logs.source[rows], len(logs.sources))
        difficulty = scores.get("difficulty")
        hard = difficulty is not None and not np.isnan(difficulty).any()
        self.by = difficulty if hard and difficulty is not None else logs.prompt_tokens[rows].astype(np.float64)

    def tried(self, figure: str) -> tuple[Tried, Flags]:
        """With what became of the requests, in one figure; and the arms of which anything is known that is not known of itself."""
        logs, rows, known = self.logs, self.rows, self.logs.has_outcome[self.rows]
        values = {
            "accuracy": logs.correct,
            "api_usd_per_request": logs.usd,
            "latency_mean_s": logs.latency_s,
            "output_tokens_per_request": logs.output_tokens,
        }
        reward = np.where(known, values[figure][rows], np.nan)
        arms = len(logs.arms)
        chance = chance_known(known, self.arm, self.by, np.ones_like(known))
        told = np.bincount(self.arm[~np.isnan(reward)], minlength=arms) > 0
        if figure == "accuracy":
            answered = known & (logs.status[rows] == STATUSES.index("answered"))
            chance = chance * chance_known(~np.isnan(reward), self.arm, self.by, answered)
            # That what was not answered was wrong says nothing of answers that nobody graded.
            graded = np.bincount(self.arm[answered & ~np.isnan(reward)], minlength=arms) > 0
            told &= graded | (np.bincount(self.arm[answered], minlength=arms) == 0)
        tried = Tried(
            arm=self.arm,
            propensity=self.propensity,
            others=self.others,
            policy_arm=self.policy_arm,
            reward=reward,
            known=chance,
            model=cross_fitted(self.table, self.arm, arms, reward, self.cluster),
            cluster=self.cluster,
            most=1.0 if figure == "accuracy" else math.inf,
        )
        return tried, told

    def able(self, wanted: I64, told: Flags) -> Flags:
        """Which requests had a chance to be sent where they are wanted, to an arm of which something is told."""
        found: Flags = (wanted >= 0) & self.had_a_chance[np.arange(len(wanted)), wanted] & told[wanted]
        return found


def _figure(seen: _Seen, figure: str, wanted: I64) -> Figure:
    tried, told = seen.tried(figure)
    theirs, ours = seen.able(wanted, told), seen.able(seen.policy_arm, told)
    both = theirs & ours
    whole = bool(both.all())
    elsewhere = both & (wanted != seen.policy_arm)
    by_method = compare(tried.taken(both), seen.policy_arm[both], wanted[both]) if both.any() else {}
    tried_there = terms(tried.taken(elsewhere), wanted[elsewhere], "inverse propensity")
    return Figure(
        told=float(both.mean()),
        by_method=by_method,
        instead=None if whole else _instead_within(tried, wanted, theirs),
        difference=None
        if whole or math.isinf(tried.most)
        else _difference_within(tried, seen.policy_arm, ours, wanted, theirs),
        elsewhere=int(elsewhere.sum()),
        matched=int((tried_there.weight > 0).sum()),
        effective=tried_there.effective,
        largest=float(tried_there.weight.max(initial=0.0)),
    )


def _over_all(tried: Tried, wanted: I64, able: Flags) -> Terms:
    """Doubly robust terms of the requests that are able, 0 of the others."""
    whole = Terms(*(np.zeros(len(able)) for _ in range(3)))
    found = terms(tried.taken(able), wanted[able], METHODS[0])
    for name, values in vars(found).items():
        getattr(whole, name)[able] = values
    return whole


def _end(found: Terms, added: F64, tried: Tried, least: float, *, high: bool) -> float:
    """An end of the interval of the terms with the worst or the best that the requests not told of may add."""
    whole = Terms(found.value + added, found.unseen, found.weight)
    if not found.unseen.any():  # nothing is told of any request, or nothing differs: the ends are what is possible
        return float(whole.value.mean())
    made = mean(whole, tried.cluster, least, tried.most)
    return made.high if high else made.low


def _instead_within(tried: Tried, wanted: I64, able: Flags) -> Bounds:
    found = _over_all(tried, wanted, able)
    low = _end(found, np.zeros(len(able)), tried, 0.0, high=False)
    if math.isinf(tried.most):
        return Bounds(low, math.inf)
    return Bounds(low, _end(found, np.where(able, 0.0, tried.most), tried, 0.0, high=True))


def _difference_within(tried: Tried, logged: I64, ours: Flags, wanted: I64, theirs: Flags) -> Bounds:
    one, other = _over_all(tried, wanted, theirs), _over_all(tried, logged, ours)
    differ = wanted != logged
    apart = Terms(
        np.where(differ, one.value - other.value, 0.0),
        np.where(differ, one.unseen + other.unseen, 0.0),
        one.weight if one.effective < other.effective else other.weight,
    )
    worst = np.where(differ & ~ours, -tried.most, 0.0)
    best = np.where(differ & ~theirs, tried.most, 0.0)
    return Bounds(_end(apart, worst, tried, -tried.most, high=False), _end(apart, best, tried, -tried.most, high=True))


def _wanted_arm(seen: _Seen, name: str, same: int, wanted: Flags) -> WantedArm:
    return WantedArm(
        name=name,
        same_as=seen.logs.arms[same] if same >= 0 else None,
        share=float(wanted.mean()),
        told=float(seen.had_a_chance[wanted, same].mean()) if same >= 0 else 0.0,
        matched=int((seen.arm[wanted] == same).sum()),
    )


__all__ = ["estimate_instead"]
