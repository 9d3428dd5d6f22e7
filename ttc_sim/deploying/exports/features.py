"""All that a plan asks of whoever carries it out, and what of it a consumer cannot do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from ttc_sim.base.errors import InputError
from ttc_sim.base.plugins import is_shipped
from ttc_sim.deploying.exports.bands import arms_in_use, bands_of, deployments_in_use, policy_of, sources_of
from ttc_sim.measured.agents import profile_card
from ttc_sim.measured.cards import AgentCard, ProfileCard
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import TURN, Always, UserFunction, Utility, follows_sessions
from ttc_sim.scenario.deployments import Api, GpuPool
from ttc_sim.scenario.sessions import may_have_sessions
from ttc_sim.scenario.tiers import chosen_of
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy

Kind = Literal[
    "sources",
    "prompt length",
    "score",
    "utility",
    "session policy",
    "live load",
    "own policy",
    "cap",
    "effort",
    "effort not known",
    "vote",
    "best of n",
    "verifier",
    "cascade",
    "judge",
    "forced answer",
    "budget forcing",
    "own strategy",
    "fallback",
    "timeout",
    "deadline",
    "retry",
    "retry waits",
    "rate limit",
    "prompt cache",
    "concurrency",
    "tier",
    "daily budget",
    "server",
    "replicas",
    "autoscaling",
    "batch limits",
    "queue limit",
    "speculative decoding",
    "priority",
    "load balancer",
    "sessions",
    "prefill apart",
]
"""What a consumer may be able to do."""


@dataclass(frozen=True)
class Feature:
    """One thing that the plan asks for.

    Attributes:
        kind: of thing; of: the source, arm or deployment that has it, as it is named there; ``""`` of the plan as a whole.
        said: what it is, in words that stand after the name.
    """

    kind: Kind
    of: str
    said: str

    @property
    def line(self) -> str:
        """In a sentence."""
        return self.said if not self.of else f"{self.of}: {self.said}"


def features_of(plan: SavedPlan) -> tuple[Feature, ...]:
    """All that the plan asks of whoever carries it out, as far as its requests may come to it."""
    scenario = plan.scenario
    found = list(_policy(plan))
    for name in arms_in_use(plan):
        found += _strategy(f"arm {name}", scenario.parsed_strategy(name))
        found += _effort(plan, name)
        if fallbacks := scenario.path_of(name)[1:]:
            said = f"goes on to {' and then '.join(fallbacks)} when it does not answer"
            found.append(Feature("fallback", f"arm {name}", said))
    chosen = chosen_of(scenario.search.tiers, scenario.search.concurrency, scenario.deployments)
    for name in deployments_in_use(plan):
        item, of = scenario.deployments[name], f"deployment {name}"
        found += _client(of, item)
        found += _endpoint(of, item) if isinstance(item, Api) else _pool(of, item)
        if (tier := chosen.get(name, {}).get("tier")) is not None:
            found.append(Feature("tier", of, f"tier {tier}, to be had from its provider"))
    if len(dict.fromkeys(source.priority for source in scenario.workload.sources.values())) > 1:
        said = ", ".join(f"{name} {source.priority}" for name, source in scenario.workload.sources.items())
        pools = [scenario.deployments[name] for name in deployments_in_use(plan)]
        if any(isinstance(pool, GpuPool) and pool.scheduling == "priority" for pool in pools):
            found.append(Feature("priority", "", f"priorities of sources: {said}"))
    found += _budgets(plan)
    return tuple(found)


def not_expressed(
    plan: SavedPlan,
    does: Collection[Kind],
    *,
    unless: Callable[[Feature], bool] = lambda feature: False,
    except_of: Collection[str] = (),
) -> tuple[str, ...]:
    """Lines of what the plan asks for and a consumer cannot do.

    Args:
        does: kinds that it can do.
        unless: says of a feature of another kind whether this one is done all the same.
        except_of: arms and deployments, as features name them (``arm r1``), for which it does nothing.
    """
    return tuple(
        one.line for one in features_of(plan) if (one.kind not in does or one.of in except_of) and not unless(one)
    )


def _policy(plan: SavedPlan) -> Iterator[Feature]:
    policies = {source: policy_of(plan, source) for source in sources_of(plan)}
    if any(policy != next(iter(policies.values())) for policy in policies.values()):
        yield Feature("sources", "", f"a policy for each source of requests: {', '.join(policies)}")
    elif len(policies) > 1 and any(policy.uses_responses for policy in policies.values()):
        yield Feature("sources", "", f"arms are offered, and judged, by source of requests: {', '.join(policies)}")
    bands = bands_of(plan)
    for source, policy in policies.items():
        of, mine = f"source {source}", bands[source]
        if mine is not None:
            if mine.score is not None:
                kind: Kind = "score" if mine.needs_predictor else "prompt length"
                edges = ", ".join(f"{edge:.4g}" for edge in mine.edges)
                yield Feature(kind, of, f"arms {', '.join(mine.arms)} by {mine.score}, divided at {edges}")
        elif follows_sessions(policy) or getattr(policy, "score", None) == TURN:
            yield Feature(
                "session policy", of, f"arms are chosen by {policy!r}, which follows each session from turn to turn"
            )
        elif isinstance(policy, UserFunction) or not is_shipped(type(policy)):
            yield Feature("own policy", of, f"arms are chosen by {policy!r}, which is Python of your own")
        elif policy.uses_responses:
            said = f"{policy!r} weighs what every arm is expected to make of a request, which no bands of one score are"
            yield Feature("utility", of, said)
            if isinstance(policy, Utility) and may_have_sessions(plan.scenario.workload):
                said = f"{policy!r} counts what of a prompt is warm where, by what its session sent there before"
                yield Feature("session policy", of, said)
        elif policy.looks_at_load:
            yield Feature("live load", of, f"{policy!r} looks at what is on its way to every deployment")
        elif not isinstance(policy, Always):
            yield Feature("own policy", of, f"arms are chosen by {policy!r}")


def _strategy(of: str, strategy: Strategy) -> Iterator[Feature]:
    if not is_shipped(type(strategy)) or not isinstance(
        strategy, (Single, BudgetForcing, MajorityVote, BestOfN, Cascade)
    ):
        yield Feature("own strategy", of, f"{strategy!r} is Python of your own")
        return
    if isinstance(strategy, Cascade):
        yield Feature("cascade", of, f"{strategy!r}: one stage after another until an answer is accepted")
        judge = "a judge of yours" if strategy.judge is None else f"the judge {strategy.judge}"
        yield Feature("judge", of, f"answers are accepted by {judge}")
        for stage in strategy.own_stages:
            yield from _strategy(of, stage)
        return
    if isinstance(strategy, MajorityVote) and strategy.n > 1:
        early = ", and the rest is cancelled once it is decided" if strategy.stop_early else ""
        yield Feature("vote", of, f"{strategy.n} attempts, of which the most frequent answer is taken{early}")
    if isinstance(strategy, BestOfN) and strategy.n > 1:
        verifier = "a verifier of yours" if strategy.verifier is None else f"the verifier {strategy.verifier}"
        yield Feature("best of n", of, f"{strategy.n} attempts, of which one is taken")
        yield Feature("verifier", of, f"attempts are read by {verifier}")
    attempt = strategy.attempt if isinstance(strategy, (MajorityVote, BestOfN)) else strategy
    forced = isinstance(attempt, BudgetForcing) or attempt.on_cap == "force_answer"
    if attempt.cap is not None and not forced:
        yield Feature("cap", of, f"at most {attempt.cap:,} output tokens an attempt, thinking and answer together")
    if attempt.cap is not None and forced:
        yield Feature("forced answer", of, f"thinking ends at {attempt.cap:,} tokens and the answer is forced")
    if isinstance(attempt, BudgetForcing) and attempt.min_tokens and attempt.extensions:
        said = f"thinking is made to go on up to {attempt.extensions} times before {attempt.min_tokens:,} tokens"
        yield Feature("budget forcing", of, said)


def _effort(plan: SavedPlan, arm: str) -> Iterator[Feature]:
    profile = plan.scenario.arms[arm].profile
    if profile is None:
        return
    card = card_of(plan, arm)
    if card is None:
        said = f"its profile {profile} is not to be found, so that the effort it was measured at is not known"
        yield Feature("effort not known", f"arm {arm}", said)
    elif card.effort is not None:
        yield Feature("effort", f"arm {arm}", f"was measured at effort {card.effort}")


def card_of(plan: SavedPlan, arm: str) -> ProfileCard | AgentCard | None:
    """Card of the profile that an arm was planned with; ``None`` where it has none, or that is not to be found here."""
    profile = plan.scenario.arms[arm].profile
    if profile is None:
        return None
    try:
        return profile_card(profile, plan.scenario.folder)
    except InputError:
        return None


def _client(of: str, item: Api | GpuPool) -> Iterator[Feature]:
    if item.timeout_s is not None:
        yield Feature("timeout", of, f"given up after {item.timeout_s:g} s")
    if item.deadline_s is not None:
        yield Feature("deadline", of, f"given up for good {item.deadline_s:g} s after the request was made")
    if item.retry is not None and item.retry.retries:
        yield Feature("retry", of, f"asked again up to {item.retry.retries} times ({', '.join(item.retry.reasons)})")
        said = f"asked again after {item.retry.base_s:g} s, twice as long each time, at most {item.retry.max_s:g} s"
        yield Feature("retry waits", of, said)


def _endpoint(of: str, item: Api) -> Iterator[Feature]:
    limits = [
        f"{limit:,.10g} {key.removesuffix('_per_minute').replace('_', ' ')}" for key, limit in item.rate_limits.items()
    ]
    if said := " and ".join(limits):
        window = "" if item.limit_window_s == 60 else f", in windows of {item.limit_window_s} s"
        yield Feature("rate limit", of, f"at most {said} a minute{window}")
    if item.cache_rules is not None and (marks := item.cache_rules.breakpoints):
        places = "its end" if marks == 1 else f"up to {marks} places"
        yield Feature("prompt cache", of, f"each prompt is marked at {places}, for the provider to keep it")
    if item.concurrency is not None:
        yield Feature("concurrency", of, f"at most {item.concurrency:,} calls at once")


def replicas_of(number: int, kind: str = "") -> str:
    """So many, in words.

    >>> replicas_of(1), replicas_of(1200, "other ")
    ('1 replica', '1,200 other replicas')
    """
    return f"{number:,} {kind}replica{'s' if number != 1 else ''}"


def _pool(of: str, item: GpuPool) -> Iterator[Feature]:
    if item.model is not None:
        gpus = f"{item.gpus} {item.gpu} a replica"
        gpus += f", in {item.data_parallel} data-parallel ranks" if item.data_parallel > 1 else ""
        precision = "" if item.precision is None else f" in {item.precision}"
        yield Feature("server", of, f"{item.model}{precision} on {gpus}")
    yield Feature("replicas", of, replicas_of(item.replicas))
    if item.prefill is not None:
        yield Feature("prefill apart", of, f"prompts are taken in on {replicas_of(item.prefill.replicas, 'other ')}")
    if item.autoscaling is not None:
        scaled = item.autoscaling
        yield Feature("autoscaling", of, f"from {scaled.least:,} to {scaled.most:,} replicas")
    said = f"at most {item.max_num_seqs:,} sequences and {item.max_num_batched_tokens:,} tokens in a batch"
    yield Feature("batch limits", of, said)
    if item.speculative is not None and item.speculative.draft_tokens:
        said = f"{item.speculative.draft_tokens} draft tokens are verified of each sequence and step, by a drafter that yields "
        said += f"{item.speculative.length:g} tokens a step in the mean (vLLM: --speculative-config)"
        yield Feature("speculative decoding", of, said)
    if item.queue_limit is not None:
        yield Feature("queue limit", of, f"more than {item.queue_limit:,} waiting sequences are turned away")
    if item.scheduling == "priority":
        yield Feature("priority", of, "the most urgent waits first")
    if item.most_replicas > 1:
        kind: Kind = "sessions" if item.load_balancer == "session" else "load balancer"
        yield Feature(kind, of, f"replicas are chosen by {item.load_balancer}")


def _budgets(plan: SavedPlan) -> Iterator[Feature]:
    budget = plan.scenario.budget
    for source, one in (budget.of_all if budget is not None else {}).items():
        of = "" if source is None else f"source {source}"
        end = (
            f"requests go to {one.to}"
            if one.to is not None
            else {"queue": "requests wait", "refuse": "requests are refused"}[str(one.at_end)]
        )
        said = f"at most {one.usd_per_day:,.10g} US dollars of API calls a day, then {end}"
        yield Feature("daily budget", of, said)


__all__ = ["Feature", "Kind", "card_of", "features_of", "not_expressed"]
