"""What happens to prompts on their way from prefill to decode: they come, or nobody waits for them any more."""

from __future__ import annotations

from ttc_sim.engine.compiled.handing import arrived, drop_coming, free_prompt, wake
from ttc_sim.engine.compiled.heaps import push_event
from ttc_sim.engine.compiled.iterate import cut
from ttc_sim.engine.compiled.jit import compiled, merged
from ttc_sim.engine.compiled.levels import note_replica
from ttc_sim.engine.compiled.state import BOUNDARY, COMING, GONE, INTERVALS, LANDED, NONE, TAKEN_IN, Memory


@merged
def land(m: Memory, number: int, g: int, now_s: float) -> None:
    """A transfer is over."""
    r = m.groups[g].replica
    cut(m, r, now_s)
    if m.replicas[r].place >= 0 and m.replicas[r].phase == BOUNDARY and m.replicas[r].at_s == now_s:
        # An iteration of the leap ends at this instant, and that comes first.
        push_event(m, now_s, LANDED, number, g, NONE)
        return
    arrived(m, r, g, now_s)
    wake(m, r, now_s)
    if m.counters[INTERVALS] > 0:
        note_replica(m, r, now_s)


@compiled
def give_up_prompt(m: Memory, g: int, now_s: float) -> None:
    """The client of a group whose prompt is not where it is answered has given up."""
    group = m.groups[g]
    if group.kv == TAKEN_IN:
        free_prompt(m, g, now_s)
        return
    r = group.replica
    if group.kv == COMING:
        cut(m, r, now_s)  # the next one may find room
        drop_coming(m, r, g, now_s)
    else:
        group.kv = GONE
    wake(m, r, now_s)
    if m.counters[INTERVALS] > 0:
        note_replica(m, r, now_s)
