"""What was decided of a live request, carried out: calls, limits, votes, verifiers, retries, fallbacks."""

from ttc_sim.deploying.carrying.carrying import Carrying, DecisionLike
from ttc_sim.deploying.carrying.manner import Manner, Read, final_answer, score_of, verifying_prompt
from ttc_sim.deploying.carrying.records import Call, Reply, Sample

__all__ = [
    "Call",
    "Carrying",
    "DecisionLike",
    "Manner",
    "Read",
    "Reply",
    "Sample",
    "final_answer",
    "score_of",
    "verifying_prompt",
]
