"""Which known model a name stands for, and what precision it says. Skipped in part without ``ttc-sim[gpus]``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.serving import catalogue, operator_store
from ttc_sim.serving import offers as gpus
from ttc_sim.serving.catalogue import Served
from ttc_sim.serving.model_context import context_of_model
from ttc_sim.serving.model_names import _SAME_SHAPE, UNMEASURED, base_of, parsed

needs_catalogue = pytest.mark.skipif(catalogue.installed() is None, reason="needs pip install 'ttc-sim[gpus]'")

KNOWN = (
    *(
        "Qwen/Qwen3-30B-A3B",
        "Qwen/Qwen3-30B-A3B-FP8",
        "Qwen/Qwen3-8B",
        "deepseek-ai/DeepSeek-R1",
        "deepseek-ai/DeepSeek-V3",
    ),
    *(
        "nvidia/DeepSeek-V3.1-NVFP4",
        "meta-llama/Meta-Llama-3.1-8B",
        "meta-llama/Meta-Llama-3.1-70B",
        "openai/gpt-oss-20b",
    ),
    *("Qwen/Qwen2.5-32B-Instruct", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "Qwen/Qwen3-VL-32B-Instruct"),
)


@pytest.mark.parametrize(
    ("name", "model", "precision"),
    [
        ("Qwen3-30B-A3B-Thinking-2507", "Qwen/Qwen3-30B-A3B", None),
        ("qwen/qwen3-30b-a3b-instruct-2507", "Qwen/Qwen3-30B-A3B", None),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-30B-A3B", None),
        # A checkpoint of that precision is preferred: its scales are known.
        ("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8", "Qwen/Qwen3-30B-A3B-FP8", None),
        ("Qwen/Qwen3-8B-FP8", "Qwen/Qwen3-8B", "fp8"),
        ("RedHatAI/Qwen3-8B-FP8-dynamic", "Qwen/Qwen3-8B", "fp8"),
        ("Qwen/Qwen3-8B-AWQ", "Qwen/Qwen3-8B", "int4"),
        ("Qwen3-8B-GPTQ-Int4", "Qwen/Qwen3-8B", "int4"),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16", "meta-llama/Meta-Llama-3.1-70B", "int4"),
        ("nvidia/Llama-3.3-70B-Instruct-FP4", "meta-llama/Meta-Llama-3.1-70B", "fp4"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3", None),
        ("deepseek-ai/DeepSeek-V3.1-Terminus", "deepseek-ai/DeepSeek-V3", None),
        ("someone/DeepSeek-V3.1-NVFP4", "nvidia/DeepSeek-V3.1-NVFP4", None),
        ("DeepSeek-V3-0324", "deepseek-ai/DeepSeek-V3", None),
        ("R1-0528", "deepseek-ai/DeepSeek-R1", None),
        ("unsloth/DeepSeek-R1-BF16", "deepseek-ai/DeepSeek-R1", "bf16"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "Qwen/Qwen3-8B", None),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "meta-llama/Meta-Llama-3.1-70B", None),
        ("Qwen/QwQ-32B", "Qwen/Qwen2.5-32B-Instruct", None),
        ("gpt-oss-20b", "openai/gpt-oss-20b", None),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", None),
        # Known, but in a precision that nobody measured: not to be taken for the 16 bits of its base.
        ("Qwen/Qwen3-8B-GPTQ-Int8", "Qwen/Qwen3-8B", UNMEASURED),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "Qwen/Qwen3-8B", UNMEASURED),
        ("Qwen3-8B-AWQ-FP8", "Qwen/Qwen3-8B", UNMEASURED),
    ],
)
def test_a_variant_has_its_base_and_its_precision(name: str, model: str, precision: str | None) -> None:
    found = base_of(name, KNOWN)
    assert found is not None
    assert (found.model, found.precision) == (model, precision)


@pytest.mark.parametrize(
    "name",
    [
        *("Qwen3-8B-Math", "Qwen3-4B", "Qwen/Qwen3-Next-80B-A3B-Instruct", "8B", "Instruct", "FP8", "", "/", "gpt-oss"),
        *("Qwen3-30B", "Qwen3-8B-dynamic", "DeepSeek-R2", "Qwen3-VL-32B-A3B", "DeepSeek-R1-Distill-Qwen-1.5B"),
    ],
)
def test_what_is_only_like_a_base_is_no_base(name: str) -> None:
    assert base_of(name, KNOWN) is None


def test_a_name_of_the_table_stands_for_a_name_and_not_for_another_row() -> None:
    assert not set(_SAME_SHAPE.values()) & (set(_SAME_SHAPE) - {"deepseek-v3.2"})
    for name in (*_SAME_SHAPE, *_SAME_SHAPE.values()):
        assert parsed(name).stem == name  # else no name would ever be taken apart into it


@needs_catalogue
def test_every_base_of_the_table_is_in_the_catalogue_and_has_the_shape_where_both_are_known() -> None:
    for name, base in _SAME_SHAPE.items():
        assert catalogue.base(base) is not None, base
        known = [one for one in catalogue.models() if parsed(one).stem == name]
        for one in known:
            assert catalogue._dimensions(one) == catalogue._dimensions(catalogue.base_name(base)), (name, base)


@needs_catalogue
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "Qwen/Qwen3-8B-FP8", "precision": "bf16"}, "x.precision: got 'bf16'; expected fp8, as the name of"),
        ({"model": "Qwen3-30B-A3B-Thinking-2507-FP8", "precision": "int4"}, "x.precision: got 'int4'; expected fp8"),
        (
            {"model": "Qwen/Qwen3-8B-GPTQ-Int8"},
            "x.model: got 'Qwen/Qwen3-8B-GPTQ-Int8'; expected a checkpoint in bf16, fp8",
        ),
        ({"model": "Qwen/Qwen3-8B-Math"}, "x.model: got 'Qwen/Qwen3-8B-Math'; expected 'Qwen/Qwen3-8B'"),
    ],
)
def test_what_a_name_contradicts_is_one_line(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error:
        catalogue.checked(Served("", "h100_sxm")._replace(**changes), "s.yaml", "x.")
    assert str(error.value).startswith(f"s.yaml: {says}")


@needs_catalogue
def test_a_variant_takes_the_time_and_the_memory_of_its_base_in_its_precision() -> None:
    served = Served("", "h100_sxm", tensor_parallel=1)
    for variant, model, precision, kept in (
        # Weights in 8 bits say nothing of keys and values, but for NVIDIA's checkpoints.
        ("Qwen3-8B-FP8", "Qwen/Qwen3-8B", "fp8", "bf16"),
        ("nvidia/Qwen3-8B-FP8", "Qwen/Qwen3-8B", "fp8", None),
        ("Qwen3-30B-A3B-Thinking-2507", "Qwen/Qwen3-30B-A3B", None, None),
        ("Qwen3-30B-A3B-Thinking-2507-FP8", "Qwen/Qwen3-30B-A3B-FP8", None, "bf16"),
    ):
        ours = operator_store.operator_times(served._replace(model=variant))
        base = served._replace(model=model, precision=precision, kv_cache_dtype=kept)
        assert ours == operator_store.operator_times(base)
    plain = operator_store.operator_times(served._replace(model="Qwen/Qwen3-8B"))
    eight = operator_store.operator_times(served._replace(model="Qwen3-8B-FP8"))
    assert eight.weight_bytes < 0.7 * plain.weight_bytes
    assert eight.kv_bytes_per_token == plain.kv_bytes_per_token
    asked = operator_store.operator_times(served._replace(model="Qwen3-8B-FP8", kv_cache_dtype="fp8"))
    assert asked.kv_bytes_per_token == plain.kv_bytes_per_token / 2


def test_a_shipped_table_is_not_taken_for_weights_of_another_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "installed", lambda: None)
    catalogue.base.cache_clear()
    served = Served("meta-llama/Llama-3.1-8B-Instruct", "l40s", precision="bf16")
    try:
        assert operator_store._shipped(served) is not None
        assert operator_store._shipped(served._replace(model="RedHatAI/Llama-3.1-8B-Instruct-BF16", precision=None))
        fp8 = served._replace(model="RedHatAI/Llama-3.1-8B-Instruct-FP8")
        assert operator_store._shipped(fp8) is None
        assert operator_store._shipped(fp8._replace(precision=None)) is None
        with pytest.raises(InputError, match="pip install"):
            operator_store.operator_times(fp8)
    finally:
        catalogue.base.cache_clear()


@needs_catalogue
def test_a_fine_tune_is_known_by_the_shape_in_its_config(tmp_path: Path) -> None:
    config = dict(catalogue.SHAPES["Qwen/Qwen3-14B"])
    groups = {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}
    eight = {"quant_method": "compressed-tensors", "config_groups": groups}
    for name, changes, says in (
        ("same", {}, "the shape of Qwen/Qwen3-14B, in bf16"),
        ("longer", {"vocab_size": 152064}, "the shape of Qwen/Qwen3-14B with a vocabulary of 152,064, in bf16"),
        ("eight", {"quantization_config": eight}, "the shape of Qwen/Qwen3-14B, in fp8"),
        ("wider", {"intermediate_size": 17920}, "a shape of its own, in bf16"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config | changes))
        said = catalogue.said_base(str(tmp_path / name))
        assert said == f"{name} is served as its config.json says: {says}"
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text(json.dumps(config | {"architectures": ["RwkvForCausalLM"]}))
    with pytest.raises(InputError, match=r"architectures: got \['RwkvForCausalLM'\]"):
        catalogue.known(str(strange), "s.yaml")


@needs_catalogue
def test_the_context_is_the_variants_own() -> None:
    assert context_of_model("Qwen/Qwen3-30B-A3B") == 40_960
    assert context_of_model("Qwen/Qwen3-30B-A3B-Thinking-2507-FP8") == 262_144
    assert context_of_model("meta-llama/Meta-Llama-3-8B-Instruct") == 8_192
    assert context_of_model("meta-llama/Llama-3.1-8B-Instruct") == 131_072
    assert context_of_model("Qwen3-8B-Math") is None


@needs_catalogue
def test_a_whole_name_is_told_from_a_word_to_look_for() -> None:
    assert gpus.named_model(["R1"]) is None
    assert gpus.named_model(["h100"]) is None
    assert gpus.named_model(["R1-0528"]) == "R1-0528"
    assert gpus.named_model(["qwen/qwen3-32b"]) == "Qwen/Qwen3-32B"
