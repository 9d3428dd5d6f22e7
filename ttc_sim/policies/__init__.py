"""Policies: which arm each request is sent to, from what is predicted of it and, if asked for, from live load.

``Always``, ``Threshold`` and ``Banded`` look at one predicted score; ``PerSource`` gives each source of requests its own.
``Utility`` weighs what every arm is expected to make of a request. ``Overflow`` and ``LeastLoaded`` look at live load;
``UserFunction`` calls the user's own Python. ``Sticky``, ``Escalate`` and ``SessionBudget`` follow sessions from turn to turn.
"""

from ttc_sim.policies.followed import ENDED, Followed, ends_sessions, follows_sessions, innermost
from ttc_sim.policies.followed_session import FollowedSession
from ttc_sim.policies.live import LeastLoaded, Overflow
from ttc_sim.policies.per_source import PerSource, check_sources, choose_for
from ttc_sim.policies.policy import Policy, choose_arms, choose_live, rule_of
from ttc_sim.policies.reading import POLICIES, PolicyLike, as_policy, parse_policy
from ttc_sim.policies.requests import DIFFICULTY, NOVEL, NOVELTY, PROMPT_TOKENS, TURN, LiveRule, Load, Request, Requests
from ttc_sim.policies.scored import Always, Banded, Threshold
from ttc_sim.policies.session_budget import SessionBudget
from ttc_sim.policies.sticky import Escalate, Sticky
from ttc_sim.policies.users_own import UserFunction
from ttc_sim.policies.utility import Utility

__all__ = [
    "DIFFICULTY",
    "ENDED",
    "NOVEL",
    "NOVELTY",
    "POLICIES",
    "PROMPT_TOKENS",
    "TURN",
    "Always",
    "Banded",
    "Escalate",
    "Followed",
    "FollowedSession",
    "LeastLoaded",
    "LiveRule",
    "Load",
    "Overflow",
    "PerSource",
    "Policy",
    "PolicyLike",
    "Request",
    "Requests",
    "SessionBudget",
    "Sticky",
    "Threshold",
    "UserFunction",
    "Utility",
    "as_policy",
    "check_sources",
    "choose_arms",
    "choose_for",
    "choose_live",
    "ends_sessions",
    "follows_sessions",
    "innermost",
    "parse_policy",
    "rule_of",
]
