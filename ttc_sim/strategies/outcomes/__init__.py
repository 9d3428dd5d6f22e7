"""What a strategy does to tokens and correctness, vectorised over requests, from measured attempts.

Accuracy and tokens need no queue: they follow from the problem, the strategy and the draws of the request. The basis is
the joint empirical distribution: a request's samples are attempts that the model really made on the request's problem.
"""

from ttc_sim.strategies.outcomes.attempts import LIMITED, MODELLED, Attempts, Bools, Outcome, Samples, Stage, reading
from ttc_sim.strategies.outcomes.behaviour import behaviour
from ttc_sim.strategies.outcomes.choosing import chance_by_auroc, chance_by_rates, enough, pick_attempts, vote
from ttc_sim.strategies.outcomes.trial import CarriedOut, OnCap, Trial, modelled_share, seeded_trial

__all__ = [
    "LIMITED",
    "MODELLED",
    "Attempts",
    "Bools",
    "CarriedOut",
    "OnCap",
    "Outcome",
    "Samples",
    "Stage",
    "Trial",
    "behaviour",
    "chance_by_auroc",
    "chance_by_rates",
    "enough",
    "modelled_share",
    "pick_attempts",
    "reading",
    "seeded_trial",
    "vote",
]
