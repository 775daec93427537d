"""Small configurations of every causal architecture of the installed transformers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 320
WINDOW = 16
LAYERS = 4

SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 96,
    "n_positions": 96,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "num_hidden_layers": LAYERS,
    "n_layer": LAYERS,
    "n_layers": LAYERS,
    "num_layers": LAYERS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 48,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "shared_experts_intermediate_size": 24,
    "shared_intermediate_size": 24,
    "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "ffn_dim": 48,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "num_experts_per_token": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 2,
    "topk_group": 1,
    "num_expert_group": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "moe_num_shared_experts": 1,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "index_head_dim": 16,
    "index_n_heads": 16,
    "index_topk": WINDOW,
    "sliding_window": WINDOW,
    "sliding_window_size": WINDOW,
    "sliding_window_pattern": 2,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_chunk_size": 8,
    "mamba_d_ssm": 64,
    "state_size": 8,
    "time_step_rank": 4,
    "mamba_dt_rank": 4,
    "first_k_dense_replace": 1,
    "max_window_layers": 2,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "num_kv_shared_layers": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 2,
    "sep_token_id": 2,
    "cls_token_id": 1,
    "mask_token_id": 3,
    "eod_token_id": 2,
    "forced_eos_token_id": None,
    "chunk_size": 8,
    "num_nextn_predict_layers": 0,
    "layer_types": None,
    "mlp_layer_types": None,
    "image_size": 16,
    "patch_size": 8,
    "max_seq_len": 96,
    "max_target_positions": 96,
    "is_decoder": True,
    "use_cache": False,
}
"""Sizes by the names that most configurations give them."""


def fields(kind: type[PretrainedConfig]) -> set[str]:
    """Return the names of the settings of a kind of configuration."""
    return set(inspect.signature(kind.__init__).parameters) | set(
        getattr(kind, "__dataclass_fields__", {})
    )


def shrunk(kind: type[PretrainedConfig], **edits: Any) -> PretrainedConfig:
    """Return a configuration of a kind with small sizes, and so those inside it.

    Args:
        kind: class of the configuration.
        edits: settings beside those of `SMALL`; None leaves one to the class.
    """
    known = fields(kind)
    values = {name: value for name, value in SMALL.items() if name in known}
    aliases = getattr(kind, "attribute_map", {}) or {}
    for name, alias in aliases.items():
        if name in SMALL and alias in known and alias not in SMALL:
            values[alias] = SMALL[name]
        if name in values and alias in known:
            values.pop(name, None)
            values[alias] = SMALL[name]
    values |= edits
    for name, inner in (kind.sub_configs or {}).items():
        if name in values and not isinstance(values[name], dict):
            continue
        if isinstance(inner, type) and issubclass(inner, PretrainedConfig):
            values[name] = shrunk(inner, **values.get(name, {}))
    unset = {"layer_types", "mlp_layer_types"}
    return kind(**{n: v for n, v in values.items() if v is not None or n not in unset})


LATENT = {"num_key_value_heads": 4}
"""Settings of latent attention, which has no groups of keys."""

QWEN2 = {
    **{name: SMALL[name] for name in ("vocab_size", "hidden_size", "intermediate_size")},
    "model_type": "qwen2",
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
DOTS = {
    **LATENT,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 4,
    "swa_q_lora_rank": 16,
    "swa_kv_lora_rank": 16,
    "swa_head_dim": 16,
    "swa_qk_nope_head_dim": 8,
    "swa_v_head_dim": 8,
    "head_dim": 16,
}
ASSISTANT = {
    **{name: SMALL[name] for name in ("vocab_size", "hidden_size", "intermediate_size")},
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_kv_shared_layers": LAYERS,
}
HALF = ["linear_attention", "hybrid"] * (LAYERS // 2)
BLT = {
    "hidden_size": 32,
    "vocab_size": 260,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "num_key_value_heads": 4,
    "head_dim": 8,
}
PERSIMMON = {
    "model_type": "persimmon",
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 96,
}

EDITS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            "axk1",
            "axk2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "longcat_flash",
            "minicpm3",
            "youtu",
        ),
        LATENT,
    ),
    "blt": {
        "vocab_size": 260,
        "encoder_hash_byte_group_vocab": 64,
        "encoder_hash_byte_group_size": [3, 4],
        "patcher_config": BLT,
        "decoder_config": {**BLT, "hidden_size_global": 64},
        "encoder_config": BLT,
        "global_config": {**BLT, "hidden_size": 64, "head_dim": 16},
        "local_attention_window_len": WINDOW,
    },
    "codegen": {"rotary_dim": 4},
    "gptj": {"rotary_dim": 4},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4}
            for kind in ("full_attention", "sliding_attention")
        },
    },
    "cpmant": {
        "position_bias_max_distance": 64,
        "position_bias_num_buckets": 32,
        "prompt_length": 4,
        "dim_head": 8,
        "dim_ff": 48,
        "prompt_types": 4,
        "segment_types": 4,
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "fuyu": {"text_config": PERSIMMON, "vocab_size": VOCABULARY},
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]], "window_size": WINDOW},
    "got_ocr2": {
        "text_config": QWEN2,
        "vision_config": {
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "mlp_dim": 16,
        },
        "image_token_index": 3,
    },
    "moss_transcribe_diarize": {"text_config": QWEN2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 2},
    "qwen4_exp_text": {
        "indexer_n_heads": 16,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": WINDOW,
        "indexer_compress_ratio": 4,
    },
    "qwen4_exp": {
        "text_config": {
            "indexer_n_heads": 16,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": WINDOW,
            "indexer_compress_ratio": 4,
        }
    },
    "reformer": {
        "axial_pos_embds": False,
        "attention_head_size": 8,
        "feed_forward_size": 48,
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "attn_layers": ["local", "lsh"] * 2,
        "num_buckets": 4,
        "hash_seed": 0,
    },
    "roc_bert": {
        "pronunciation_vocab_size": 8,
        "shape_vocab_size": 8,
        "pronunciation_embed_dim": 8,
        "shape_embed_dim": 8,
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": HALF, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"layers_block_type": HALF, "num_mem_blocks": 1, "adapter_rank": 4},
    "zaya": {
        "num_experts_per_tok": 1,
        "layer_types": ["hybrid", "hybrid_sliding"] * 2,
        "router_hidden_size": 16,
    },
    "xlnet": {"attn_type": "uni"},
    "xlm": {"causal": True},
    "gemma4_assistant": {
        "text_config": {**ASSISTANT, "model_type": "gemma4_text"},
        "backbone_hidden_size": 32,
    },
    "gemma4_unified_assistant": {
        "text_config": {**ASSISTANT, "model_type": "gemma4_unified_text"},
        "backbone_hidden_size": 32,
    },
    "kimi_linear": {"linear_num_heads": 4, "linear_head_dim": 8, "num_key_value_heads": 4},
    "bailing_hybrid": {"linear_num_heads": 4, "linear_head_dim": 8},
    "gemma3": {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
        },
        "mm_tokens_per_image": 4,
    },
    "dots3_note_text": DOTS,
    "dots3_note": {
        "text_config": DOTS,
        "vision_config": {
            "mlp_layer_types": ["dense"] * LAYERS,
            "adapter_in_dim": 32,
            "adapter_out_dim": 32,
        },
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
}
"""Settings of an architecture beside `SMALL`."""


def architectures() -> Iterator[str]:
    """Yield the types of model that have a causal class."""
    yield from MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def configuration(kind: str) -> PretrainedConfig:
    """Return a small configuration of a type of model."""
    return shrunk(CONFIG_MAPPING[kind], **EDITS.get(kind, {}))


def made(config: PretrainedConfig) -> PreTrainedModel:
    """Make a random network, of weights large enough that every token sees its context."""
    torch.manual_seed(0)
    network: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network
