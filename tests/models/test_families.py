"""The families of the Llama kind: names, sizes and settings from config.json, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weighbridge as wb
from tests.engine.families import COMMON, VARIANTS, config_of, write_model
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.models import inventory
from weighbridge.models.architecture import Rope, Routing, architecture

# Published configs, with what the makers say of them: parameters, and matrices that FP8 touches.
QWEN3_30B = {"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4,
             "head_dim": 128, "moe_intermediate_size": 768, "intermediate_size": 6144, "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True,
             "vocab_size": 151936, "tie_word_embeddings": False, "rope_theta": 1000000.0, "decoder_sparse_step": 1, "mlp_only_layers": [],
             "use_sliding_window": False, "sliding_window": None, "max_window_layers": 48, "max_position_embeddings": 40960, "rms_norm_eps": 1e-6}
QWEN3_32B = {"model_type": "qwen3", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
             "head_dim": 128, "intermediate_size": 25600, "vocab_size": 151936, "tie_word_embeddings": False}
LLAMA31_70B = {"model_type": "llama", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
               "intermediate_size": 28672, "vocab_size": 128256, "tie_word_embeddings": False, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
               "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
                                "rope_type": "llama3"}}
MIXTRAL = {"model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
           "intermediate_size": 14336, "num_local_experts": 8, "num_experts_per_tok": 2, "vocab_size": 32000, "rope_theta": 1000000.0}
SMOLLM2 = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
           "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True, "rope_theta": 100000}
QWEN25_05B = {"model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
              "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True}
MISTRAL_7B = {"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
              "intermediate_size": 14336, "vocab_size": 32000, "sliding_window": 4096}


@pytest.mark.parametrize(("config", "parameters", "linear", "others"), [
    (QWEN3_30B, 30_532_122_624, 48 * (4 + 3 * 128), 48 * 5 + 3),
    (QWEN3_32B, 32_762_123_264, 64 * 7, 64 * 4 + 3),
    (LLAMA31_70B, 70_553_706_496, 80 * 7, 80 * 2 + 3),
    (MIXTRAL, 46_702_792_704, 32 * (4 + 3 * 8), 32 * 3 + 3),
    (SMOLLM2, 134_515_008, 30 * 7, 30 * 2 + 2),
    (QWEN25_05B, 494_032_768, 24 * 7, 24 * 5 + 2),
    (MISTRAL_7B, 7_241_732_096, 32 * 7, 32 * 2 + 3),
])
def test_published_models_in_numbers(config, parameters, linear, others):
    weights = inventory(config).weights.values()
    assert sum(w.parameters for w in weights) == parameters
    assert (sum(w.linear for w in weights), sum(not w.linear for w in weights)) == (linear, others)


def test_names_of_each_kind():
    names = {w.published for w in inventory(config_of("qwen3_moe-dense-layers")).weights.values()}
    assert {"model.layers.0.mlp.gate_proj.weight", "model.layers.1.mlp.experts.5.down_proj.weight", "model.layers.1.mlp.gate.weight",
            "lm_head.weight", "model.layers.3.self_attn.q_norm.weight"} <= names
    assert not any(name.startswith("model.layers.0.mlp.experts") or name == "model.layers.1.mlp.gate_proj.weight" for name in names)
    names = {w.published for w in inventory(config_of("llama-biases-linear")).weights.values()}
    assert {"model.layers.0.self_attn.o_proj.bias", "model.layers.2.mlp.down_proj.bias"} <= names
    names = {w.published for w in inventory(config_of("qwen2-tied-window")).weights.values()}
    assert "model.layers.0.self_attn.v_proj.bias" in names and "model.layers.0.self_attn.o_proj.bias" not in names and "lm_head.weight" not in names
    assert "model.layers.0.block_sparse_moe.experts.4.w2.weight" in {w.published for w in inventory(config_of("mixtral")).weights.values()}


def test_settings_of_each_kind():
    assert architecture(LLAMA31_70B).rope == Rope(128, 500000.0, "llama3", 8.0, 1.0, 4.0, 8192) and architecture(LLAMA31_70B).eps == 1e-5
    assert architecture(MISTRAL_7B).window == (4096,) * 32 == architecture({k: v for k, v in MISTRAL_7B.items() if k != "sliding_window"}).window
    assert architecture(MISTRAL_7B | {"sliding_window": None}).window == (0,) * 32
    assert architecture(MIXTRAL).routing == Routing(8, 2, "softmax", False, True) and architecture(MIXTRAL).eps == 1e-5
    assert architecture(QWEN3_30B).routing == Routing(128, 8, "softmax", False, True)
    assert not architecture({k: v for k, v in QWEN3_30B.items() if k != "norm_topk_prob"}).routing.normalize
    assert architecture(config_of("qwen2-tied-window")).window == (0, 7, 7)
    assert architecture(config_of("qwen3-biases-window")).window == (5, 0, 5)
    assert architecture(config_of("qwen2")).window == (0, 0, 0)
    assert architecture(config_of("qwen3_moe-steps-window")).sparse == (False, True, False, True)
    flat, told = architecture(config_of("minimax_m2")).rope, architecture(config_of("minimax_m2-parameters")).rope
    assert (flat.dims, flat.theta, told.dims, told.theta) == (8, 50000.0, 8, 700.0)


@pytest.mark.parametrize(("model_type", "change", "key", "says"), [
    ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rope_scaling.rope_type", "'yarn'; known are default, linear, llama3"),
    ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.type", "'dynamic'"),
    ("qwen3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "rope_parameters.rope_type", "'longrope'"),
    ("llama", {"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor", "is missing"),
    ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}},
     "rope_scaling.high_freq_factor", "not above"),
    ("llama", {"rope_scaling": [1]}, "rope_scaling", "an object is needed"),
    ("llama", {"rope_theta": "10000"}, "rope_theta", "'10000'"),
    ("llama", {"rope_theta": float("nan")}, "rope_theta", "nan"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act", "'gelu'; known are silu"),
    ("llama", {"rms_norm_eps": 0}, "rms_norm_eps", "is 0"),
    ("llama", {"attention_bias": 1}, "attention_bias", "true or false"),
    ("llama", {"head_dim": 15}, "partial_rotary_factor", "15 of 15"),
    ("llama", {"num_attention_heads": 3, "num_key_value_heads": 3}, "num_attention_heads", "not divisible by 3"),
    ("llama", {"num_key_value_heads": 3}, "num_key_value_heads", "cannot be shared by 3"),
    ("llama", {"max_position_embeddings": -5}, "max_position_embeddings", "-5"),
    ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers", "1000000000"),
    ("mistral", {"sliding_window": -1}, "sliding_window", "-1"),
    ("qwen2", {"layer_types": ["full_attention"]}, "layer_types", "each of 3 layers"),
    ("qwen3", {"layer_types": ["sliding_attention"] * 3}, "sliding_window", "no window is told or switched on"),
    ("qwen3_moe", {"num_experts_per_tok": 7}, "num_experts_per_tok", "7 experts per token, the model has 6"),
    ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step", "is 0"),
    ("mixtral", {"num_local_experts": 60000}, "num_local_experts", "no model that exists"),
    ("minimax_m2", {"scoring_func": "softmax"}, "scoring_func", "'softmax'; known are sigmoid"),
    ("minimax_m2", {"rotary_dim": 17}, "rotary_dim", "17"),
    ("minimax_m2", {"attn_type_list": [1, 0, 1]}, "attn_type_list", "not full"),
    ("minimax_m2", {"use_qk_norm": False}, "use_qk_norm", "is false"),
])
def test_a_wrong_config_names_the_key(model_type, change, key, says):
    with pytest.raises(Refused) as caught:
        architecture(config_of(model_type) | change)
    problem = next(p for p in caught.value.problems if p.where == f"config.json: {key}")
    assert says in problem.message


def test_inventory_and_architecture_refuse_the_same_sizes():
    for model_type in {c["model_type"] for c in VARIANTS.values()}:
        for make in (inventory, architecture):
            with pytest.raises(Refused) as caught:
                make({"model_type": model_type, "hidden_size": 0, "vocab_size": None})
            told = {p.where.removeprefix("config.json: ") for p in caught.value.problems}
            assert {"hidden_size", "vocab_size", "num_hidden_layers"} <= told


@pytest.mark.parametrize("variant", VARIANTS)
def test_bf16_and_fp8_layouts_and_back(variant, tmp_path):
    """Every family is converted and verified; biases and norms stay as they are; the files name what is not quantized."""
    folder = write_model(tmp_path / "in", config_of(variant))
    wb.open(folder).convert(tmp_path / "fp8", "hf-fp8", block=(32, 32))
    graded = wb.open(folder).verify(tmp_path / "fp8")
    matrices = [w for w in inventory(config_of(variant)).weights.values() if w.linear]
    assert graded["ok"] and graded["grades"]["bounded"] == len(matrices) and graded["grades"]["identical"] == graded["weights"] - len(matrices)
    assert wb.open(tmp_path / "fp8").source.problems == []
    wb.open(tmp_path / "fp8").convert(tmp_path / "back", "hf-bf16")
    assert wb.open(tmp_path / "fp8").verify(tmp_path / "back")["ok"]
    claim = json.loads((tmp_path / "fp8" / "config.json").read_text())["quantization_config"]
    stems = {t.removesuffix(".weight_scale_inv") for t in wb.open(tmp_path / "fp8").checkpoint.tensors if t.endswith("_scale_inv")}
    assert "lm_head" in claim["modules_to_not_convert"] and not stems & set(claim["modules_to_not_convert"])


def test_smollm2_has_half_a_block(tmp_path):
    """576 = 4.5 and 192 = 1.5 blocks of 128, and a tied head: no weight of its own."""
    config = COMMON | SMOLLM2 | {"num_hidden_layers": 1, "vocab_size": 64}
    wb.open(write_model(tmp_path / "in", config)).convert(tmp_path / "fp8", "hf-fp8")
    tensors = wb.open(tmp_path / "fp8").checkpoint.tensors
    assert tensors["model.layers.0.self_attn.k_proj.weight_scale_inv"].shape == (2, 5) and "lm_head.weight" not in tensors
    assert wb.open(tmp_path / "in").verify(tmp_path / "fp8")["ok"]


@pytest.mark.parametrize("model_type", sorted({c["model_type"] for c in VARIANTS.values()} - {"minimax_m2"}))
@pytest.mark.parametrize("shards", [False, True])
def test_the_neuron_layout_refuses_other_families_in_words(model_type, shards, tmp_path):
    plan = wb.open(write_model(tmp_path / "in", config_of(model_type))).plan("neuron", shards=shards)
    with pytest.raises(Refused) as caught:
        plan.refuse()
    assert [p.code for p in caught.value.problems] == ["family"]
    assert model_type in str(caught.value) and "minimax_m2 alone" in str(caught.value) and "hf-fp8" in caught.value.first.hint


def test_neuron_names_under_another_family_are_refused_in_words(tmp_path):
    """A config that does not belong to its files must not end in a missing key."""
    demo = Path(wb.__file__).parent / "demo" / "checkpoint"
    for shards in (False, True):
        out = tmp_path / str(shards)
        wb.open(demo).convert(out, "neuron", attention="exact", shards=shards, tp=4)
        (out / "config.json").write_text(json.dumps(config_of("mixtral")))
        with pytest.raises(WeighbridgeError) as caught:
            _ = wb.open(out).source
        assert "mixtral" in str(caught.value) and "minimax_m2 alone" in str(caught.value)
