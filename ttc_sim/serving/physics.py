"""Step times from a model's architecture and a GPU's data sheet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_sim.draws import F64


@dataclass(frozen=True)
class Architecture:
    """Shape of a decoder-only transformer.

    Attributes:
        layers, hidden, heads, kv_heads, head_dim, vocab: as published in its ``config.json``.
        ffn: width of a dense feed-forward block, or of the experts' layers without experts.
        experts: experts of a layer; 0 for a dense model.
        experts_per_token: experts that a token is routed to.
        expert_ffn: width of one expert.
        shared_ffn: width of the expert that every token passes, 0 if there is none.
        moe_every: one layer in so many has experts.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    ffn: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    moe_every: int = 1

    def moe_layers(self, layers: int | None = None) -> int:
        """Layers with experts, among all or the first so many."""
        return (self.layers if layers is None else layers) // self.moe_every if self.experts else 0


ARCHITECTURES: dict[str, Architecture] = {
    "meta-llama/Llama-3.1-8B": Architecture(32, 4096, 32, 8, 128, 128256, ffn=14336),
    "Qwen/Qwen3-32B": Architecture(64, 5120, 64, 8, 128, 151936, ffn=25600),
    "Qwen/Qwen3-30B-A3B-Instruct-2507": Architecture(
        48, 2048, 32, 4, 128, 151936, experts=128, experts_per_token=8, expert_ffn=768
    ),
    "meta-llama/Llama-3.1-70B-Instruct": Architecture(80, 8192, 64, 8, 128, 128256, ffn=28672),
}

ROUTING_SKEW = 0.8


def activated_experts(tokens: F64, shape: Architecture, skew: float = ROUTING_SKEW) -> F64:
    """Mean number of experts of a layer that so many tokens activate, if an expert's popularity falls as ``rank ** -skew``."""
    share = np.arange(1, shape.experts + 1, dtype=np.float64) ** -skew
    share *= shape.experts_per_token / share.sum()
    for _ in range(64):
        # No expert is picked by more than every token: what is over goes to the others.
        over = share > 1
        if not over.any():
            break
        share[over] = 1.0
        rest = share < 1
        share[rest] *= (shape.experts_per_token - (~rest).sum()) / share[rest].sum()
    chance: F64 = 1 - (1 - share[None, :]) ** tokens[:, None]
    active: F64 = chance.sum(axis=1)
    return active
