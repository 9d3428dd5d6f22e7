"""What the tokens of arms cost, and what their deployments' caches keep, as policies that follow sessions weigh it."""

from __future__ import annotations

from ttc_sim.policies.costs import ArmCosts, TokenUsd
from ttc_sim.scenario import Api, Scenario
from ttc_sim.serving.prices import LongPrompts, TokenPrices, price_of
from ttc_sim.strategies import is_attempt


def arm_costs(scenario: Scenario) -> dict[str, ArmCosts]:
    """By name, of those arms that make one call of a request: what an arm that votes or goes on elsewhere is billed, its tokens do
    not say.

    Prices are those that hold when nothing else is said: of no hour of the day. Tokens of a pool, which is paid by the hour, cost
    nothing, and it keeps what it was sent: how soon that is evicted is not known beforehand.
    """
    found = {}
    prices = {name: price_of(scenario, name) for name in scenario.deployments}
    for name, arm in scenario.arms.items():
        if is_attempt(scenario.parsed_strategy(name)):
            found[name] = _costs(scenario, arm.deployment, prices[arm.deployment])
    return found


def _costs(scenario: Scenario, deployment: str, prices: TokenPrices | None) -> ArmCosts:
    item = scenario.deployments[deployment]
    if not isinstance(item, Api):
        free = (TokenUsd(0, 0.0, 0.0, 0.0, 0.0),)
        return ArmCosts(deployment, free, keeps="all" if item.prefix_caching else "nothing")
    assert prices is not None
    usd = (_usd(0, prices), *(_usd(one.above, one) for one in prices.long_prompts))
    if item.cache is None:
        return ArmCosts(deployment, usd, prices.call)
    rules = item.cache.rules
    return ArmCosts(
        deployment,
        usd,
        prices.call,
        keeps="all" if rules.keeps_output else "prompt",
        min_tokens=rules.min_tokens,
        step_tokens=rules.step_tokens,
        ttl_s=rules.ttl_s,
    )


def _usd(above: int, prices: TokenPrices | LongPrompts) -> TokenUsd:
    written = getattr(prices, "cache_write", prices.input)
    return TokenUsd(above, prices.input, prices.cached_input, written, prices.output)


__all__ = ["arm_costs"]
