"""Tokens that a verification step of speculative decoding yields, measured by number of draft tokens.

Origin: ``golden_al_distribution`` of InferenceX (Apache-2.0). All were measured on coding prompts (SPEED-Bench); other prompts are
drafted better or worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Acceptance(NamedTuple):
    """Mean acceptance lengths of one model with one drafter: accepted draft tokens and the one that the model adds itself.

    Attributes:
        model: that was served; measured: where and with what.
        thinking_off, thinking_on: with 1, 2, ... draft tokens; empty if that was not measured.
    """

    model: str
    measured: str
    thinking_off: tuple[float, ...] = ()
    thinking_on: tuple[float, ...] = ()

    @property
    def by_thinking(self) -> Mapping[str, tuple[float, ...]]:
        """What was measured, by ``on`` and ``off``."""
        both = {"off": self.thinking_off, "on": self.thinking_on}
        return {name: lengths for name, lengths in both.items() if lengths}


ACCEPTANCE_LENGTHS: dict[str, Acceptance] = {
    "dsv4-pro-0813-dspark": Acceptance(
        model="deepseek-v4-pro-0813",
        measured="Measured on deepseek-v4-pro-0813 (B300, vLLM DSpark), per num_speculative_tokens.",
        thinking_on=(1.84, 2.51, 3.01, 3.36, 3.61, 3.77, 3.73, 3.47),
    ),
    "dsv4_mtp": Acceptance(
        model="deepseek-v4-pro",
        measured="Measured on deepseek-v4-pro (B300, vLLM MTP), per num_speculative_tokens.",
        thinking_off=(1.92, 2.61, 2.97, 3.0, 3.1, 3.16, 3.0, 3.11),
        thinking_on=(1.79, 2.27, 2.49, 2.54, 2.55, 2.55, 2.54, 2.58),
    ),
    "glm5.2_mtp": Acceptance(
        model="glm-5.2-fp8",
        measured="Measured on glm-5.2-fp8 (B300, vLLM MTP), per num_speculative_tokens.",
        thinking_on=(1.84, 2.5, 2.99, 3.33, 3.61, 3.78, 3.91, 4.06),
    ),
    "kimik2.5_eagle3": Acceptance(
        model="kimi-k2.5-nvfp4",
        measured="Measured on kimi-k2.5-nvfp4 (B300, vLLM EAGLE3), per num_speculative_tokens.",
        thinking_off=(1.8, 2.33, 2.75, 3.06, 3.25, 3.43, 3.46, 3.51),
        thinking_on=(1.83, 2.43, 2.88, 3.24, 3.46, 3.62, 3.71, 3.77),
    ),
    "kimik3_dspark": Acceptance(
        model="kimi-k3",
        measured="Measured on kimi-k3 (B300, vLLM DSpark, draft: Inferact/Kimi-K3-DSpark), per num_speculative_tokens.",
        thinking_on=(1.84, 2.45, 2.87, 3.22, 3.44, 3.54, 3.78, 3.88),
    ),
    "kimik3_dspark_probabilistic_sample_method_block_rejection_sample_method": Acceptance(
        model="kimi-k3",
        measured="Measured on kimi-k3 (B300, vLLM DSpark, draft: Inferact/Kimi-K3-DSpark), per num_speculative_tokens.",
        thinking_on=(1.85, 2.51, 3.0, 3.36, 3.62, 3.75, 3.84, 4.0),
    ),
    "minimaxm3_eagle3": Acceptance(
        model="minimax-m3",
        measured="Measured on minimax-m3 (B300, vLLM EAGLE3), per num_speculative_tokens.",
        thinking_off=(1.84, 2.52, 2.93, 3.41, 3.59, 3.57, 3.85, 4.06),
        thinking_on=(1.78, 2.38, 2.83, 3.11, 3.35, 3.45, 3.53, 3.74),
    ),
    "minimaxm3_eagle3_gqa": Acceptance(
        model="minimax-m3",
        measured="Measured on minimax-m3 (B300, vLLM EAGLE3), per num_speculative_tokens.",
        thinking_off=(1.83, 2.46, 2.97, 3.29, 3.72, 3.76, 3.75, 3.93),
        thinking_on=(1.79, 2.39, 2.78, 3.02, 3.21, 3.3, 3.52, 3.51),
    ),
    "qwen3.5_mtp": Acceptance(
        model="qwen3.5-397b-a17b-nvfp4",
        measured="Measured on qwen3.5-397b-a17b-nvfp4 (B300, vLLM MTP), per num_speculative_tokens.",
        thinking_off=(1.92, 2.7, 3.33, 3.83, 4.2, 4.48, 4.73, 4.71),
        thinking_on=(1.93, 2.73, 3.39, 3.97, 4.41, 4.8, 5.04, 5.21),
    ),
}
