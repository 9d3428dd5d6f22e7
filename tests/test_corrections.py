"""Corrections of operator times: which a deployment gets, and what those of experts change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.test_gpu_operators import small
from ttc_sim.serving.corrections import corrections_for, fitted, of_kind
from ttc_sim.serving.operators import NONE, Corrections, operator_table
from ttc_sim.serving.step_time import step_seconds


def test_experts_of_an_iteration_with_prefill_have_a_factor_of_their_own() -> None:
    """By hand: experts take 1 microsecond a token of such an iteration; decoding is as it was."""
    plain, known = Corrections(prefill=3), Corrections(prefill=3, prefill_experts=5)
    before, after = (operator_table(small(moe=True), one, 2048, 64) for one in (plain, known))

    def mixed_ms(table) -> float:  # type: ignore[no-untyped-def]
        return 1e3 * step_seconds(table, 1024, 1024 * 512.0, 32, 32 * 1024, 33)

    assert mixed_ms(after) - mixed_ms(before) == pytest.approx(3 * (5 - 1) * 0.001 * 1056)
    assert step_seconds(after, 0, 0.0, 32, 32 * 1024, 32) == step_seconds(before, 0, 0.0, 32, 32 * 1024, 32)


def test_kernels_that_nobody_measured_get_what_experts_get_in_the_middle() -> None:
    pytest.importorskip("aiconfigurator_core")
    from ttc_sim.serving.catalogue import Served

    served = Served("Qwen/Qwen3-30B-A3B", "h100_sxm", precision="fp8")
    known = {"dense": NONE, "experts": Corrections(experts=2.0)}
    assert of_kind(known, small(moe=True), served).experts == 2.0
    assert of_kind({**known, "experts, fp8": Corrections(experts=3.0)}, small(moe=True), served).experts == 3.0
    assert of_kind(known, small(moe=False), served) is NONE


@pytest.mark.parametrize(
    ("model", "gpu", "precision", "kernel"),
    [
        ("openai/gpt-oss-120b", "b200_sxm", None, "experts, fp4"),
        ("openai/gpt-oss-120b", "h100_sxm", None, "experts, fp4 widened"),
        ("moonshotai/Kimi-K2.5", "h200_sxm", None, "experts, int4"),
        ("moonshotai/Kimi-K2.5", "b200_sxm", "fp4", "experts, fp4"),
        ("MiniMaxAI/MiniMax-M2.5", "h100_sxm", None, "experts, fp8"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8", "h100_sxm", None, "experts, fp8"),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "h100_sxm", None, "experts, bf16"),
    ],
)
def test_a_deployment_gets_the_corrections_of_its_kernels(
    model: str, gpu: str, precision: str | None, kernel: str
) -> None:
    pytest.importorskip("aiconfigurator_core")
    from ttc_sim.serving.catalogue import Served

    assert corrections_for(small(moe=True), Served(model, gpu, precision=precision)) == fitted()[kernel]


def test_what_sequences_take_is_the_same_of_all_kinds() -> None:
    assert len({(one.greedy_us, one.sampled_us) for one in fitted().values()}) == 1
    assert (
        len(
            {
                replace(one, experts=1, prefill_experts=1, prefill_layer_us=0)
                for kind, one in fitted().items()
                if kind != "dense"
            }
        )
        == 1
    )
