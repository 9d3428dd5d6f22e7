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
        frontend_s: seconds by which an answer, its first token as its last, is with its client later than the loop has made it
            (HTTP, client).
        prompt_token_s: the same for each token of the prompt, found in a cache or not (tokeniser).
        pipeline_steps: the same in iterations, of the mean length of those in which the answer was decoded; 0 for one of a single
            token, which shows none.
    """

    step_s: NonNegative | None = None
    sequence_s: NonNegative | None = None
    token_s: NonNegative | None = None
    frontend_s: NonNegative | None = None
    prompt_token_s: NonNegative | None = None
    pipeline_steps: NonNegative | None = None

    @property
    def in_loop(self) -> bool:
        """Whether it says anything of what iterations take."""
        return (self.step_s, self.sequence_s, self.token_s) != (None, None, None)
