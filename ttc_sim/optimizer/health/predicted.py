"""What the policy routes by: how novel the traffic is to the predictor, and whose scores these are."""

from __future__ import annotations

from ttc_sim.base.figures import percent
from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.health.subject import Subject, some
from ttc_sim.policies import Always, LeastLoaded, Overflow

EXPECTED_NOVEL, MOSTLY_NOVEL = 0.06, 0.25
"""Shares of novel requests: so many there are of known kinds (5%, by the definition of novelty), and so many are a problem."""
_UNNAMED = "names no predictor"


def traffic_known(subject: Subject) -> Check:
    """How much of the traffic the predictor has seen nothing like."""
    name, novelty = "novelty", subject.novelty
    if subject.model.population is None:
        return Check(name, "not applicable", "there are no problems, and nothing is predicted of these requests", {})
    if novelty is None:
        return Check(name, "not applicable", "the predictor does not say how novel a prompt is to it", {})
    figures: dict[str, object] = {"share": novelty.share, "kinds": novelty.kinds, "expected": EXPECTED_NOVEL}
    if novelty.share <= EXPECTED_NOVEL:
        says = f"{percent(novelty.share)} of the requests are novel to the predictor, as 5% of known kinds are"
        return Check(name, "ok", says, figures)
    says = f"{percent(novelty.share)} of the requests ({some(novelty.kinds, 'kind')}) are farther from what the "
    says += "predictor was trained on "
    says += "than 95% of new problems of known kinds: its scores say little of them. Train it on such prompts: "
    says += "`ttc-sim predictor train`"
    return Check(name, "problem" if novelty.share > MOSTLY_NOVEL else "warning", says, figures)


def scores_identified(subject: Subject) -> Check:
    """Whether the scores are known to be by the predictor that the plan names."""
    name, population = "predictor", subject.model.population
    if population is None or all(isinstance(one, (Always, LeastLoaded, Overflow)) for one in subject.policies.values()):
        return Check(name, "not applicable", "the policy reads no predictions", {})
    by = population.scored_by
    if by is None:
        return Check(name, "not applicable", "the problems have no scores of a predictor", {})
    figures: dict[str, object] = {"predictor": by.name, "sha256": by.sha256}
    if (unnamed := next((note for note in population.notes if _UNNAMED in note), None)) is not None:
        says = f"{unnamed}: if they are by another one, the plan routes live prompts otherwise than it was planned. "
        says += "Score the prompts "
        return Check(name, "warning", f"{says}again: `ttc-sim predictor score`", figures)
    return Check(name, "ok", f"scores are by {by}, which the plan names", figures)


__all__ = ["scores_identified", "traffic_known"]
