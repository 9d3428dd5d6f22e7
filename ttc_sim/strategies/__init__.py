"""Strategies: how test-time compute is spent on one request.

A strategy is a small frozen dataclass that a user writes as ``BestOfN(n=8, auroc=0.8)``, in YAML, on the command line and in
Python alike: one file each. What they are carried out on, and with, is in :mod:`ttc_sim.strategies.outcomes`.
"""

from ttc_sim.strategies.attempt import BudgetForcing, Single, is_attempt
from ttc_sim.strategies.best_of_n import BestOfN
from ttc_sim.strategies.cascade import Cascade, check_cascades
from ttc_sim.strategies.kind import Strategy, carry_out
from ttc_sim.strategies.majority_vote import MajorityVote
from ttc_sim.strategies.reading import STRATEGIES, StrategyLike, as_strategy, parse_strategy
from ttc_sim.strategies.users_own import UserStrategy

__all__ = [
    "STRATEGIES",
    "BestOfN",
    "BudgetForcing",
    "Cascade",
    "MajorityVote",
    "Single",
    "Strategy",
    "StrategyLike",
    "UserStrategy",
    "as_strategy",
    "carry_out",
    "check_cascades",
    "is_attempt",
    "parse_strategy",
]
