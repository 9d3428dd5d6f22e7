"""What is made of each argument of a vLLM server: modelled, without effect on times, or refused.

The names are those of vLLM 0.19 (``EngineArgs``, ``AsyncEngineArgs`` and the front end's, Apache-2.0), and of earlier versions
where recorded runs have them. Nothing is ignored: an argument that is in no table is refused with the nearest name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttc_sim.base.errors import nearest

MODELLED: dict[str, str] = {
    "model": "the pool's model, or what its step_time was measured on",
    "tensor_parallel_size": "tensor_parallel",
    "data_parallel_size": "data_parallel",
    "enable_expert_parallel": "expert_parallel",
    "quantization": "precision, where it says one",
    "dtype": "16 bits, whichever they are",
    "kv_cache_dtype": "kv_cache_dtype: bytes of the KV cache, and what reading it takes",
    "gpu_memory_utilization": "gpu_memory_utilization: tokens that the KV cache holds",
    "num_gpu_blocks_override": "kv_cache_tokens: all blocks but one, which vLLM keeps",
    "block_size": "16, which the KV cache is counted in",
    "max_model_len": "max_model_len: longer prompts are refused, answers end there",
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "enable_chunked_prefill": "chunked_prefill",
    "long_prefill_token_threshold": "long_prefill_token_threshold",
    "enable_prefix_caching": "prefix_caching",
    "scheduling_policy": "scheduling",
    "api_server_count": "api_servers",
}
"""Arguments that have an effect here, and the pool's key that they become."""

_NO_EFFECT: dict[str, str] = {
    "draws are the simulation's own": "seed",
    "names and files of the model; its shape is what counts": (
        "model_weights served_model_name tokenizer hf_config_path tokenizer_mode trust_remote_code revision code_revision "
        "tokenizer_revision hf_token config_format io_processor_plugin allow_deprecated_quantization"
    ),
    "how the weights come onto the GPU; start_up says how long that takes": (
        "download_dir safetensors_load_strategy load_format max_parallel_loading_workers model_loader_extra_config "
        "ignore_patterns use_tqdm_on_load pt_load_map_location enable_ep_weight_filter weight_transfer_config "
        "enable_sleep_mode"
    ),
    "where processes meet": (
        "master_addr master_port data_parallel_address data_parallel_rpc_port data_parallel_backend "
        "distributed_timeout_seconds ray_workers_use_nsight shutdown_timeout fail_on_environ_validation"
    ),
    "it counts only with another argument, which is refused": (
        "dcp_comm_backend dcp_kv_cache_interleave_size cp_kv_cache_interleave_size dbo_decode_token_threshold "
        "dbo_prefill_token_threshold offload_backend kv_offloading_backend max_loras max_lora_rank default_mm_loras "
        "fully_sharded_loras max_cpu_loras lora_dtype lora_target_modules enable_tower_connector_lora "
        "specialize_active_lora lora_extra_vocab_size long_lora_scaling_factors max_prompt_adapters "
        "max_prompt_adapter_token"
    ),
    "of pictures and sound, which requests have none of": (
        "allowed_local_media_path allowed_media_domains language_model_only limit_mm_per_prompt enable_mm_embeds "
        "interleave_mm_strings media_io_kwargs mm_processor_kwargs mm_processor_cache_gb mm_processor_cache_type "
        "mm_shm_cache_max_object_size_mb mm_encoder_only mm_encoder_tp_mode mm_encoder_attn_backend skip_mm_profiling "
        "video_pruning_rate mm_tensor_ipc disable_chunked_mm_input disable_mm_preprocessor_cache enable_mm_processor_stats"
    ),
    "of what a request may ask for, which none does": (
        "max_logprobs logprobs_mode generation_config reasoning_config guided_decoding_backend logits_processor_pattern"
    ),
    "what is logged and counted": (
        "disable_log_stats aggregate_engine_logging show_hidden_metrics_for_version otlp_traces_endpoint kv_cache_metrics "
        "kv_cache_metrics_sample cudagraph_metrics enable_mfu_metrics enable_log_requests disable_log_requests "
        "kv_events_config log_config_file max_log_len enable_log_outputs enable_log_deltas log_error_stack "
        "enable_server_load_tracking"
    ),
    "which hash finds blocks again": "prefix_caching_hash_algo",
    "how text is read and answers are shown": (
        "reasoning_parser reasoning_parser_plugin chat_template chat_template_content_format trust_request_chat_template "
        "default_chat_template_kwargs response_role return_tokens_as_token_ids enable_auto_tool_choice "
        "exclude_tools_when_tool_choice_none tool_call_parser tool_parser_plugin tool_server enable_prompt_tokens_details "
        "enable_force_include_usage enable_tokenizer_info_endpoint"
    ),
    "how the server is reached": (
        "host port uds uvicorn_log_level disable_uvicorn_access_log disable_access_log_for_endpoints allow_credentials "
        "allowed_origins allowed_methods allowed_headers api_key ssl_keyfile ssl_certfile ssl_ca_certs enable_ssl_refresh "
        "ssl_cert_reqs ssl_ciphers root_path enable_request_id_headers disable_fastapi_docs h11_max_incomplete_event_size "
        "h11_max_header_count enable_offline_docs"
    ),
    "of earlier versions, and of no effect in vLLM's present engine": (
        "use_v2_block_manager multi_step_stream_outputs tokenizer_pool_size tokenizer_pool_type tokenizer_pool_extra_config"
    ),
}
NO_EFFECT: dict[str, str] = {name: why for why, names in _NO_EFFECT.items() for name in names.split()}
"""Arguments that change no time, and why."""

OF_STEP_TIME: dict[str, tuple[Any, ...]] = {
    "enforce_eager": (False,),
    "compilation_config": ({},),
    "cudagraph_capture_sizes": (),
    "cuda_graph_sizes": (),
    "max_cudagraph_capture_size": (),
    "max_seq_len_to_capture": (8192,),
    "optimization_level": (2, 3),
    "attention_config": ({},),
    "attention_backend": (),
    "override_attention_dtype": (),
    "disable_cascade_attn": (True, False),
    "kernel_config": ({},),
    "enable_flashinfer_autotune": (True,),
    "moe_backend": ("auto",),
    "all2all_backend": ("allgather_reducescatter",),
    "expert_placement_strategy": ("linear",),
    "enable_eplb": (False,),
    "eplb_config": ({},),
    "enable_dbo": (False,),
    "ubatch_size": (0,),
    "disable_custom_all_reduce": (False,),
    "disable_nccl_for_dp_synchronization": (True, False),
    "distributed_executor_backend": ("uni", "mp"),
    "async_scheduling": (True,),
    "disable_async_output_proc": (False,),
    "calculate_kv_scales": (False,),
    "gdn_prefill_backend": (),
    "model_impl": ("auto", "vllm"),
    "worker_cls": ("auto",),
    "worker_extension_cls": ("",),
    "additional_config": ({},),
    "logits_processors": ([],),
    "enable_return_routed_experts": (False,),
    "enable_layerwise_nvtx_tracing": (False,),
    "enable_logging_iteration_details": (False,),
    "collect_detailed_traces": ([],),
    "profiler_config": ({},),
    "renderer_num_workers": (1,),
}
"""Arguments that change how long an iteration takes and nothing else, with the values that step times worked out here hold for.
Step times measured on the server itself have them in them, whatever they are."""

REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "pipeline_parallel_size": ((1,), "layers that GPUs take in turns are not modelled"),
    "nnodes": ((1,), "a server on several nodes is not modelled"),
    "node_rank": ((0,), "a server on several nodes is not modelled"),
    "headless": ((False,), "a server on several nodes is not modelled"),
    "prefill_context_parallel_size": ((1,), "prompts shared out among GPUs are not modelled"),
    "decode_context_parallel_size": ((1,), "contexts shared out among GPUs are not modelled"),
    "data_parallel_rank": ((), "each rank behind a balancer outside of vLLM is a replica: give the pool so many"),
    "data_parallel_start_rank": ((), "a server on several nodes is not modelled"),
    "data_parallel_size_local": ((), "a server on several nodes is not modelled"),
    "data_parallel_hybrid_lb": ((False,), "a server on several nodes is not modelled"),
    "data_parallel_external_lb": (
        (False,),
        "each rank behind a balancer outside of vLLM is a replica: give the pool so many",
    ),
    "enable_elastic_ep": ((False,), "experts that come and go are not modelled"),
    "cpu_offload_gb": ((0,), "weights in the host's memory are not modelled"),
    "cpu_offload_params": (([],), "weights in the host's memory are not modelled"),
    "offload_group_size": ((0,), "weights in the host's memory are not modelled"),
    "offload_num_in_group": ((1,), "weights in the host's memory are not modelled"),
    "offload_prefetch_step": ((1,), "weights in the host's memory are not modelled"),
    "offload_params": (([],), "weights in the host's memory are not modelled"),
    "kv_offloading_size": ((0,), "a KV cache in the host's memory is not modelled"),
    "swap_space": ((0, 4), "preempted sequences are computed again, as vLLM does since its engine V1"),
    "preemption_mode": (("recompute",), "preempted sequences are computed again, as vLLM does since its engine V1"),
    "kv_cache_memory_bytes": ((), "kv_cache_tokens of the pool says what the cache holds"),
    "kv_cache_dtype_skip_layers": (([],), "a KV cache of one precision alone is modelled"),
    "kv_sharing_fast_prefill": ((False,), "layers that share keys and values are not modelled"),
    "disable_hybrid_kv_cache_manager": ((False,), "what sliding windows leave of a cache follows from the model alone"),
    "disable_sliding_window": ((False,), "what sliding windows leave of a cache follows from the model alone"),
    "mamba_cache_dtype": (("auto",), "the state of such layers is modelled as vLLM keeps it by default"),
    "mamba_ssm_cache_dtype": (("auto",), "the state of such layers is modelled as vLLM keeps it by default"),
    "mamba_block_size": ((), "the state of such layers is modelled as vLLM keeps it by default"),
    "mamba_cache_mode": (("none",), "the state of such layers is modelled as vLLM keeps it by default"),
    "max_num_partial_prefills": (
        (1,),
        "vLLM 0.19 takes no other number; long_prefill_token_threshold lets prompts pass",
    ),
    "max_long_partial_prefills": ((1,), "vLLM 0.19 takes no other number"),
    "scheduler_reserve_full_isl": ((True,), "a prompt is begun only where all of it fits into the cache"),
    "scheduler_cls": ((), "vLLM's own scheduler is modelled"),
    "num_scheduler_steps": ((1,), "several iterations planned at once are not modelled; vLLM has them no more"),
    "scheduler_delay_factor": ((0,), "prompts that are made to wait are not modelled; vLLM has it no more"),
    "num_lookahead_slots": (
        (0,),
        "speculative of the pool says how many tokens are drafted, and how many are accepted",
    ),
    "stream_interval": ((1,), "each token goes to the client as soon as it is there"),
    "performance_mode": (("balanced",), "max_num_seqs and max_num_batched_tokens say what a batch holds"),
    "speculative_config": (
        ({},),
        "speculative of the pool says how many tokens are drafted, and how many are accepted",
    ),
    "speculative_model": ((), "speculative of the pool says how many tokens are drafted, and how many are accepted"),
    "num_speculative_tokens": (
        (),
        "speculative of the pool says how many tokens are drafted, and how many are accepted",
    ),
    "enable_lora": ((False,), "adapters are not modelled"),
    "lora_modules": (([],), "adapters are not modelled"),
    "enable_lora_bias": ((False,), "adapters are not modelled"),
    "enable_prompt_adapter": ((False,), "adapters are not modelled"),
    "structured_outputs_config": (({},), "answers held to a grammar are not modelled"),
    "kv_transfer_config": (({},), "prefill and kv_transfer of the pool say what is sent from one server to another"),
    "ec_transfer_config": (({},), "encoders on servers of their own are not modelled"),
    "hf_overrides": (({},), "the model's own shape: another one stands in a config.json"),
    "rope_scaling": ((), "the model's own shape: another one stands in a config.json"),
    "rope_theta": ((), "the model's own shape: another one stands in a config.json"),
    "override_generation_config": (({},), "caps on answers stand in the arms' strategies"),
    "runner": (("auto", "generate"), "models that generate text alone are modelled"),
    "task": (("auto", "generate"), "models that generate text alone are modelled"),
    "convert": (("auto", "none"), "models that generate text alone are modelled"),
    "pooler_config": (({},), "models that generate text alone are modelled"),
    "device": (("auto", "cuda"), "NVIDIA GPUs alone are modelled"),
    "enable_prompt_embeds": ((False,), "prompts of tokens alone are modelled"),
    "skip_tokenizer_init": ((False,), "text is read and written, as clients send and get it"),
    "tokens_only": ((False,), "text is read and written, as clients send and get it"),
    "middleware": (([],), "other programs before the server are not modelled"),
    "grpc": ((False,), "the server that speaks OpenAI's protocol is modelled"),
    "config": ((), "the arguments that stand in that file"),
}
"""Arguments that are not modelled: the values that change nothing, and why others are refused."""

_SETTINGS: dict[str, tuple[tuple[Any, ...], str]] = {
    "block_size": ((16,), "16, which the KV cache is counted in"),
    "dtype": (
        ("auto", "bfloat16", "float16", "half", "torch.bfloat16", "torch.float16"),
        "16 bits: auto, bfloat16 or float16",
    ),
    "kv_cache_dtype": (
        ("auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"),
        "auto, bfloat16, float16 or fp8",
    ),
    "scheduling_policy": (("fcfs", "priority"), "fcfs or priority"),
}
"""Values of arguments that are modelled, where not all are."""


def refusal(name: str, value: object, *, measured: bool) -> str | None:
    """What was expected instead of an argument of a vLLM server; ``None`` if it is modelled, or changes nothing.

    Args:
        name: with underscores. value: ``None`` for what vLLM takes by itself.
        measured: step times were measured on the server itself, and have in them what changes those alone.

    >>> refusal("pipeline_parallel_size", 2, measured=True)
    '1: layers that GPUs take in turns are not modelled'
    >>> refusal("max_num_seq", 8, measured=True)
    "'max_num_seqs' (nearest of max_long_partial_prefills, max_loras, max_num_seqs, ...)"
    """
    if not (name in MODELLED or name in NO_EFFECT or name in OF_STEP_TIME or name in REFUSED):
        return nearest(name, {*MODELLED, *NO_EFFECT, *OF_STEP_TIME, *REFUSED})
    if value is None or name in NO_EFFECT:
        return None
    if name in _SETTINGS:
        usual, why = _SETTINGS[name]
        return None if _is_one_of(value, usual) else why
    if name in MODELLED:
        return None
    if name in OF_STEP_TIME:
        usual = OF_STEP_TIME[name]
        if measured or _is_one_of(value, usual):
            return None
        return _but(
            usual, "step times were worked out for no other; a step_time that was measured with it has it in it"
        )
    usual, why = REFUSED[name]
    return None if _is_one_of(value, usual) else _but(usual, why)


def _is_one_of(value: object, usual: tuple[Any, ...]) -> bool:
    """Whether it is among them, a whole number not being true or false, and an empty list any empty collection."""
    if isinstance(value, (dict, list, tuple, set)) and not value:
        return any(isinstance(one, (dict, list)) for one in usual)
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in usual)


def _but(usual: tuple[Any, ...], why: str) -> str:
    shown = [_shown(one) for one in usual if one not in ({}, [], "")]
    return f"{' or '.join(shown) if shown else 'it left out'}: {why}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def first_refused(given: Mapping[str, Any], *, measured: bool) -> tuple[str, Any, str] | None:
    """The first argument that is refused: its name, its value, and what was expected."""
    for name, value in given.items():
        expected = refusal(name, value, measured=measured)
        if expected is not None:
            return name, value, expected
    return None


__all__ = ["MODELLED", "NO_EFFECT", "OF_STEP_TIME", "REFUSED", "first_refused", "refusal"]
