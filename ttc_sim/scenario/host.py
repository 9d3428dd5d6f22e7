"""What a server takes beside its GPU: its loop's host, and the processes that hand tokens to clients."""

from __future__ import annotations

from ttc_sim.scenario.base import Model, NonNegative


class Host(Model):
    """Times outside of what is measured on a GPU, instead of those fitted to measured servers (docs/host.md).

    Args:
        step_s: seconds of every iteration in which the GPU waits for the host.
        sequence_s: seconds of each sequence that yields a token: scheduling and sampling, in the server's loop.
        token_s: seconds of one API server for each token that it hands out. It does so behind the loop: an iteration takes as
            long as the slower of both.
    """

    step_s: NonNegative | None = None
    sequence_s: NonNegative | None = None
    token_s: NonNegative | None = None
