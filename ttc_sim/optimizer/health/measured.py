"""What was measured, beside what the plan makes of it: samples, caps, prompts, thinking, and how few problems decide."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64, columns
from ttc_sim.base.estimates import Z95
from ttc_sim.base.figures import count, number, percent
from ttc_sim.measured.cards import ProfileCard
from ttc_sim.optimizer.health.check import Check, Status
from ttc_sim.optimizer.health.subject import Subject, listed, some
from ttc_sim.optimizer.space import base_arm
from ttc_sim.policies import Banded, Threshold
from ttc_sim.simulation.model import ResolvedArm, trial_of
from ttc_sim.strategies import carry_out, is_attempt
from ttc_sim.strategies.outcomes import Attempts, modelled_share

NO_PROFILE = (
    "no profile stands behind these requests: their lengths come with the traffic, and nothing is known of accuracy"
)
MODELLED_MOST = 0.5
"""Share of an arm's samples above which more of it is modelled than measured."""
NEXT_TO_NOTHING = 0.01
"""Share of the requests below which something is not worth a line."""
STOPPED_MOST, OUTSIDE_MOST, FILLED_MOST = 0.1, 0.25, 0.5
"""Shares of the requests above which stopped attempts, or prompts of other lengths, are a problem."""
WIDE, TOO_WIDE = 0.10, 0.20
"""Half-widths of an accuracy's interval of 95%: of ten points for fewer than about 90 problems, of twenty for fewer than 20."""
_FEW_REQUESTS = 0.05  # of the requests: what is unsure of an arm that gets fewer moves the whole by little
_ROUND = 3  # attempts that end at the very same longest length look like a limit
_OTHER_LENGTHS = 0.25  # relative: a trace's own lengths that are that far off are others


def samples_measured(subject: Subject) -> Check:
    """Whether strategies draw more samples of a problem than attempts were made at it."""
    name = "samples"
    if subject.model.population is None:
        return Check(name, "not applicable", NO_PROFILE, {})
    several = {n: arm for n, arm in subject.arms.items() if not is_attempt(arm.strategy) and arm.attempts is not None}
    if not several:
        says = "every arm in use makes one attempt, and each that it may come to was made"
        return Check(name, "ok", says, {})
    found: dict[str, dict[str, float]] = {}
    for label, arm in several.items():
        rows = subject.problems_of(label)
        if not len(rows):
            continue
        assert arm.attempts is not None
        made = arm.attempts.count[rows]
        found[label] = {
            "share": _modelled(subject, arm, rows),
            "requests": subject.shares.get(label, 0.0),
            "most_attempts": int(made.max()),
            "median_attempts": float(np.median(made)),
        }
    modelled = {label: one for label, one in found.items() if one["share"] > 0}
    figures: dict[str, object] = {"arms": found}
    if not modelled:
        return Check(name, "ok", "no strategy draws more samples of a problem than attempts were made at it", figures)
    worst, one = max(modelled.items(), key=lambda item: item[1]["share"])
    says = f"arm {worst} draws more samples than attempts were made ({one['most_attempts']:.0f} of a problem at most): "
    says += f"{percent(one['share'], 0)} of its samples are modelled, not measured, and "
    says += f"{percent(sum(m['requests'] for m in modelled.values()))} "
    says += "of the requests go to such arms. Measure as many attempts as the strategy makes, or check the model: "
    says += "`ttc-sim profile check`"
    bad = any(one["share"] > MODELLED_MOST and one["requests"] >= _FEW_REQUESTS for one in modelled.values())
    return Check(name, "problem" if bad else "warning", says, figures)


def _modelled(subject: Subject, arm: ResolvedArm, rows: I64) -> float:
    """Share of an arm's samples that were never measured, over the problems that are sent to it."""
    trial = trial_of(subject.model, arm, rows, lambda stream, many: columns(0, f"health/{stream}", len(rows), many))
    return modelled_share(carry_out(arm.strategy, trial), trial)


def caps_measured(subject: Subject) -> Check:
    """Whether attempts were stopped by a limit before the plan's caps, so that what they would have come to is unknown."""
    name = "caps"
    if subject.model.population is None:
        return Check(name, "not applicable", NO_PROFILE, {})
    found: dict[str, dict[str, object]] = {}
    affected, looks = 0.0, []
    for label, arm in subject.arms.items():
        if arm.attempts is None or not len(arm.attempts.correct):
            continue
        stopped = max((arm.attempts.stopped_before(cap) for cap in arm.strategy.attempt_caps), default=0.0)
        tokens = arm.attempts.reasoning_tokens + arm.attempts.visible_tokens
        longest = int(tokens.max())
        caps = [cap for cap in arm.strategy.attempt_caps if cap is not None]
        found[label] = {
            "caps": caps,
            "longest": longest,
            "stopped": stopped,
            "requests": subject.shares.get(label, 0.0),
        }
        affected += stopped * subject.shares.get(label, 0.0)
        if stopped == 0 and _looks_limited(arm.attempts, tokens, longest, caps):
            looks.append(f"{label} ({count(longest)} tokens)")
    figures: dict[str, object] = {"arms": found, "requests_affected": affected, "looks_limited": looks}
    if affected > NEXT_TO_NOTHING:
        worst = max(found, key=lambda label: float(str(found[label]["stopped"])) * float(str(found[label]["requests"])))
        says = f"{percent(affected)} of the requests are answered as attempts were that a limit stopped before the "
        says += "plan's cap would, "
        says += f"most of them by {worst}: what more tokens would have brought is unknown. Measure with a higher "
        says += "limit, or cap below it"
        return Check(name, "problem" if affected > STOPPED_MOST else "warning", says, figures)
    if looks:
        says = f"attempts of {listed(looks)} end again and again at the same longest length, which looks like a "
        says += "limit that was "
        says += "not recorded: what lies beyond it is unknown"
        return Check(name, "warning", says, figures)
    return Check(name, "ok", "hardly an attempt was stopped by a limit before the plan's caps would stop it", figures)


def _looks_limited(attempts: Attempts, tokens: I64, longest: int, caps: list[int]) -> bool:
    """Whether attempts end at one longest length more often than by chance, below the caps."""
    at = int((tokens == longest).sum())
    unrecorded = attempts.truncated is None or not attempts.truncated.any()
    return unrecorded and at >= _ROUND and at > NEXT_TO_NOTHING * len(tokens) and (not caps or max(caps) > longest)


def prompts_measured(subject: Subject) -> Check:
    """Whether a trace that says lengths of its own has requests such as the problems that stand for them."""
    name, population = "prompts", subject.model.population
    if population is None:
        return Check(name, "not applicable", NO_PROFILE, {})
    kept = [run.draws.traffic for run in subject.pooled.runs]
    if any(one.prompt_tokens is None or one.visible_tokens is None for one in kept):
        says = "requests come with no lengths of their own: they are those of the problems, which were measured"
        return Check(name, "ok", says, {})
    prompts = np.concatenate([one.prompt_tokens for one in kept if one.prompt_tokens is not None])
    outputs = np.concatenate([one.visible_tokens for one in kept if one.visible_tokens is not None]).astype(np.float64)
    if all(one.reasoning_tokens is not None for one in kept):
        outputs += np.concatenate([one.reasoning_tokens for one in kept if one.reasoning_tokens is not None])
    least, most = int(population.prompt_tokens.min()), int(population.prompt_tokens.max())
    outside = float(((prompts < least) | (prompts > most)).mean())
    planned = subject.pooled.planned_tokens.mean(axis=1)
    own = float(prompts.mean()), float(outputs.mean())
    measured = float(planned[0]), float(planned[1] + planned[2])
    apart = max(abs(math.log(max(a, 1.0) / max(b, 1.0))) for a, b in zip(own, measured, strict=True))
    figures: dict[str, object] = {
        "outside": outside,
        "measured_prompts": [least, most],
        "traffic": {"prompt_tokens": own[0], "output_tokens": own[1]},
        "simulated": {"prompt_tokens": measured[0], "output_tokens": measured[1]},
    }
    if outside > NEXT_TO_NOTHING:
        says = f"{percent(outside)} of the trace's prompts are longer or shorter than any measured one ({least:,} to {most:,} "
        says += (
            "tokens): how accuracy goes with them, and what they cost, is unknown. Measure problems like the traffic's"
        )
        return Check(name, "problem" if outside > OUTSIDE_MOST else "warning", says, figures)
    if math.expm1(apart) > _OTHER_LENGTHS:
        says = f"requests of the trace have {count(own[0])} prompt and {count(own[1])} output tokens in the mean, the problems "
        says += f"that stand for them {count(measured[0])} and {count(measured[1])}: costs and times are those of the problems. "
        return Check(name, "warning", f"{says}Measure problems like the traffic's", figures)
    return Check(name, "ok", "requests of the trace are as long as the problems that stand for them", figures)


def thinking_measured(subject: Subject) -> Check:
    """Whether the lengths of thinking are the models' own."""
    name = "thinking lengths"
    if subject.model.population is None:
        return Check(name, "not applicable", NO_PROFILE, {})
    filled = {
        label: subject.shares.get(label, 0.0)
        for label in subject.arms
        if isinstance(card := subject.cards.get(str(subject.model.scenario.arms[label].profile)), ProfileCard)
        and card.reasoning == "filled"
    }
    share = sum(filled.values())
    figures: dict[str, object] = {"arms": filled, "requests": share}
    if not filled:
        return Check(name, "ok", "no arm in use has its lengths of thinking from another model", figures)
    names = listed(sorted({base_arm(label) for label in filled}))
    says = f"how long {names} thinks was not recorded, and is another model's: the cost and the times of {percent(share)} of the "
    says += "requests rest on that. Measure it"
    return Check(name, "warning" if share > NEXT_TO_NOTHING else "ok", says, figures)


def problems_behind_arms(subject: Subject) -> Check:
    """How sure the problems leave each arm's accuracy, in the band in which it was chosen."""
    name, population = "problems", subject.model.population
    if population is None:
        return Check(name, "not applicable", NO_PROFILE, {})
    expected = subject.pooled.expected
    if expected is None or subject.arm_of_problem is None:
        return Check(
            name, "not applicable", "which problems an arm answers follows from the run, not from the problem", {}
        )
    rows = [_decided(subject, label, members, expected["correct"][members]) for label, members in _bands(subject)]
    figures: dict[str, object] = {"bands": [asdict(row) for row in rows], "wide": WIDE, "too_wide": TOO_WIDE}
    wide = [row for row in rows if row.half_width > WIDE and row.requests > NEXT_TO_NOTHING]
    if not wide:
        fewest = min(rows, key=lambda row: (row.requests <= NEXT_TO_NOTHING, row.problems))
        says = (
            f"the fewest problems behind an arm are the {fewest.problems:,} of {fewest.arm}: its accuracy is known by "
        )
        return Check(name, "ok", f"{says}{number(100 * fewest.half_width, 1)} points either way", figures)
    worst = max(wide, key=lambda row: row.half_width * min(row.requests, _FEW_REQUESTS))
    says = f"{worst.arm} was chosen on {some(worst.problems, 'problem')}: its accuracy there, "
    says += f"{percent(worst.accuracy, 0)}, is "
    says += f"known by {number(100 * worst.half_width, 0)} points either way, and {percent(worst.requests)} of "
    says += "requests go there"
    says += f" ({some(len(wide) - 1, 'other')} like it)" if len(wide) > 1 else ""
    bad = any(row.half_width > TOO_WIDE and row.requests >= _FEW_REQUESTS for row in wide)
    status: Status = "problem" if bad else "warning"
    return Check(name, status, f"{says}. Measure more problems like those", figures)


@dataclass(frozen=True)
class _Decided:
    """What an arm was chosen on in a band of a source: share of the requests, problems and kinds of them, its accuracy there."""

    arm: str
    requests: float
    problems: int
    kinds: int
    accuracy: float
    half_width: float


def _decided(subject: Subject, label: str, members: I64, correct: F64) -> _Decided:
    population = subject.model.population
    assert population is not None
    problems, kinds = (len(np.unique(names[members])) for names in (population.problem, population.group))
    right = float(np.clip(correct.mean(), 0.0, 1.0))
    return _Decided(label, float(population.weight[members].sum()), problems, kinds, right, half_width(right, problems))


def _bands(subject: Subject) -> list[tuple[str, I64]]:
    """Problems by source, arm and, where the policy has any, band."""
    population, arm = subject.model.population, subject.arm_of_problem
    assert population is not None
    assert arm is not None
    found = []
    for s, source in enumerate(population.sources):
        here = (population.source == s) & (population.weight > 0)
        policy = subject.policy.for_source(source) if "" not in subject.policies else subject.policies[""]
        band = _band(policy, population.scores)
        of = f" for {source}" if len(population.sources) > 1 else ""
        for a in np.unique(arm[here]).tolist():
            for b in [None] if band is None else np.unique(band[here & (arm == a)]).tolist():
                members = here & (arm == a) & (True if band is None else band == b)
                where = "" if b is None else f" in band {b + 1}"
                found.append((f"{subject.model.arms[a].name}{where}{of}", np.flatnonzero(members)))
    return found


def _band(policy: object, scores: object) -> I64 | None:
    if isinstance(policy, Threshold):
        policy = Banded(edges=[policy.at], arms=[policy.below, policy.above], score=policy.score)
    if not isinstance(policy, Banded) or policy.score not in scores:  # type: ignore[operator]
        return None
    values: F64 = scores[policy.score]  # type: ignore[index]
    return np.searchsorted(np.asarray(policy.edges), values, side="right").astype(np.int64)


def half_width(share: float, count: int) -> float:
    """Half of E. B. Wilson's interval of 95% of a share of so many.

    >>> round(half_width(0.5, 92), 3), round(half_width(0.5, 20), 3), half_width(1.0, 1) > 0.3
    (0.1, 0.2, True)
    """
    n = max(count, 1)
    return Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)


__all__ = [
    "caps_measured",
    "half_width",
    "problems_behind_arms",
    "prompts_measured",
    "samples_measured",
    "thinking_measured",
]
