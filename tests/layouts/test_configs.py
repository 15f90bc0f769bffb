"""What is written for each layout, key by key, as its readers want it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest

from tests.layouts.families import CONFIGS, encoding, facts, modules
from weighbridge.errors import WeighbridgeError
from weighbridge.formats.scheme import filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.configs import Facts, Held, written
from weighbridge.layouts.configs.base import claim_of
from weighbridge.layouts.configs.reading import unexplained
from weighbridge.layouts.rows import ROWS
from weighbridge.runtimes.list_rules import RULE_OF

TOKEN = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token", "dynamic": True}
STATIC = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}


def claim(layout: str, family: str = "dense", scheme: str = "", **more) -> dict:
    about = facts(family, ROWS[layout], **more)
    if scheme:
        about = replace(about, held=(Held(encoding(ROWS[layout], scheme), about.held[0].modules),))
    return written(about).config["quantization_config"]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("family", CONFIGS)
def test_the_source_stays_and_the_same_facts_give_the_same_bytes(name: str, family: str) -> None:
    about = facts(family, ROWS[name])
    before = copy.deepcopy(about.config)
    one, two = written(about), written(replace(about, plain=dict(reversed(about.plain.items()))))
    assert about.config == before
    assert json.dumps([one.config, one.files]) == json.dumps([two.config, two.files])
    for document in (one.config.get("quantization_config", {}), *one.files.values()):
        assert json.dumps(document) == json.dumps(document, sort_keys=True)


@pytest.mark.parametrize(("layout", "dtype"), [("hf-bf16", "bfloat16"), ("hf-f16", "float16")])
def test_a_plain_layout_claims_nothing_and_names_its_dtype(layout: str, dtype: str) -> None:
    config = {"quantization_config": {"quant_method": "fp8"}, "compression_config": {}, "expert_dtype": "fp4", "dtype": "float32",
              "text_config": {"quantization_config": {"quant_method": "fp8"}, "torch_dtype": "bfloat16"}, "vision_config": {"dtype": "float32"}}
    made = written(facts("dense", ROWS[layout], config=config)).config
    assert "quantization_config" not in made and "compression_config" not in made and "expert_dtype" not in made
    assert made["text_config"] == {"torch_dtype": dtype}
    assert made["dtype"] == made["torch_dtype"] == dtype and made["vision_config"] == {"dtype": "float32"}


def test_a_dtype_is_named_where_the_source_named_none() -> None:
    about = facts("dense", ROWS["awq-int4"])
    config = {k: v for k, v in about.config.items() if k != "torch_dtype"}
    assert written(replace(about, config=config, dtype="F16")).config["torch_dtype"] == "float16"
    with pytest.raises(WeighbridgeError, match="F8_E4M3 is no dtype"):
        written(replace(about, dtype="F8_E4M3"))


def test_a_claim_stands_where_the_old_one_stood() -> None:
    old = {"quantization_config": {"quant_method": "compressed-tensors"}}
    made = written(facts("dense", ROWS["hf-fp8"], config={"text_config": dict(old)})).config
    assert "quantization_config" not in made and made["text_config"]["quantization_config"]["quant_method"] == "fp8"
    made = written(facts("dense", ROWS["hf-fp8"], config={"text_config": {}})).config
    assert made["quantization_config"]["quant_method"] == "fp8" and made["text_config"] == {}
    made = written(facts("dense", ROWS["hf-fp8"], config={**old, "text_config": dict(old)})).config
    assert made["quantization_config"] == made["text_config"]["quantization_config"] == claim_of(made)


def test_a_claim_below_text_config_is_read_with_and_without_the_prefix() -> None:
    linear, plain = modules("latent")
    about = facts("latent", ROWS["ct-int4"], config={"text_config": {"quantization_config": {"quant_method": "compressed-tensors"}}, "model_type": "kimi_k25"})
    about = replace(about, held=(Held(about.held[0].encoding, tuple(f"language_model.{m}" for m in linear)),), plain={f"language_model.{m}": r for m, r in plain.items()})
    made = written(about)
    assert unexplained(made, about, "vllm") == unexplained(made, about, "sglang") == ()
    assert claim_of(made.config)["ignore"]


@pytest.mark.parametrize("architecture", ["Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"])
@pytest.mark.parametrize("layout", ["hf-fp8", "ct-int4", "modelopt-nvfp4", "gptq-int4", "awq-int4"])
def test_towers_and_draft_layers_of_a_nested_model_are_named(layout: str, architecture: str) -> None:
    """vLLM puts the towers first and renames the list; the class of the language model alone has neither prefix nor towers."""
    inner = "model.language_model.layers"
    linear = tuple(f"{inner}.{n}.{m}" for n in range(12) for m in (
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "linear_attn.out_proj", "mlp.experts.0.gate_proj", "mlp.experts.0.up_proj",
        "mlp.experts.0.down_proj"))
    plain = {f"{inner}.{n}.{m}": "" for n in range(12) for m in ("linear_attn.in_proj_a", "mlp.shared_expert_gate", "mlp.gate")}
    plain |= {f"model.visual.blocks.{n}.attn.{m}": "vision" for n in range(3) for m in ("qkv", "proj")}
    plain |= {"lm_head": "lm_head", "mtp.fc": "mtp", "mtp.layers.0.self_attn.q_proj": "mtp", "mtp.layers.0.mlp.experts.0.gate_proj": "mtp"}
    config = {"model_type": "qwen3_5_moe", "architectures": [architecture], "text_config": {}}
    about = Facts("qwen3_5_moe", config, layout, (Held(encoding(ROWS[layout]), linear),), plain)
    made = written(about)
    for reader in ("vllm", "sglang", "transformers", "tensorrt-llm"):
        if (reader, ROWS[layout].family) in RULE_OF:
            assert unexplained(made, about, reader) == ()


@pytest.mark.parametrize("name", ROWS)
def test_files_of_the_source_that_would_lie_are_named(name: str) -> None:
    made = written(facts("dense", ROWS[name]))
    files = {"modelopt": {"hf_quant_config.json"}, "gptq": {"quantize_config.json"}}.get(ROWS[name].family, set())
    assert set(made.files) == files
    assert {"hf_quant_config.json", "quantize_config.json", "quant_model_description*.json"} - files <= set(made.stale) and not files & set(made.stale)


def test_fp8_says_its_block_and_its_activations() -> None:
    assert claim("hf-fp8") == {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
                               "modules_to_not_convert": ["lm_head"]}
    about = facts("dense", ROWS["hf-fp8"])
    powers = replace(about, held=(Held(filled(SCHEMES["fp8-block"], (32, 32), dtypes={".weight_scale_inv": "F8_E8M0"}), about.held[0].modules),))
    made = written(powers).config["quantization_config"]
    assert (made["weight_block_size"], made["scale_fmt"]) == ([32, 32], "ue8m0")
    with pytest.raises(WeighbridgeError, match="go with activations that are quantized as they come"):
        written(replace(about, static=True))
    with pytest.raises(WeighbridgeError, match="32x32, 128x128"):
        written(replace(about, held=(*powers.held, Held(about.held[0].encoding, ("model.layers.9.mlp.down_proj",)))))


def test_scales_that_are_powers_of_two_stay_said_as_the_source_said_it() -> None:
    config = {"quantization_config": {"quant_method": "fp8", "scale_fmt": "ue8m0"}}
    assert claim("hf-fp8", config=config, powers=True)["scale_fmt"] == "ue8m0"
    assert "scale_fmt" not in claim("hf-fp8", config=config)
    assert "scale_fmt" not in claim("hf-fp8", powers=True)


@pytest.mark.parametrize(("experts", "said"), [("mxfp4-dot", "fp4"), ("fp8-block-dot", "fp8")])
def test_deepseek_v4_says_the_dtype_of_its_experts(experts: str, said: str) -> None:
    """vLLM takes an absent `expert_dtype` as fp4, so an output in FP8 says so."""
    config = {"model_type": "deepseek_v4", "expert_dtype": "fp4", "quantization_config": {"quant_method": "fp8"}}
    held = (Held(filled(SCHEMES["fp8-block-dot"], (128, 128)), ("layers.0.attn.wq_a",)),
            Held(filled(SCHEMES[experts], (128, 128), 32), ("layers.0.ffn.experts.0.w1", "layers.0.ffn.experts.1.w1")))
    made = written(Facts("deepseek_v4", config, "hf-fp8", held, {"head": "lm_head", "layers.0.ffn.gate": "router"})).config
    assert made["expert_dtype"] == said and "expert_dtype" not in made["quantization_config"]
    inside = {**config, "quantization_config": {"quant_method": "fp8", "expert_dtype": "fp4"}}
    made = written(Facts("deepseek_v4", inside, "hf-fp8", held)).config
    assert made["quantization_config"]["expert_dtype"] == said and "expert_dtype" not in made
    assert "expert_dtype" not in written(facts("dense", ROWS["hf-fp8"])).config


@pytest.mark.parametrize(("layout", "static", "fmt", "weights", "activations"), [
    ("ct-fp8-tensor", True, "float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}, STATIC),
    ("ct-fp8-tensor", False, "float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}, TOKEN),
    ("ct-fp8-channel", False, "float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, TOKEN),
    ("ct-fp8-block", False, "float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]},
     {**TOKEN, "strategy": "group", "group_size": 128}),
    ("ct-int8", False, "int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}, {**TOKEN, "type": "int"}),
    ("ct-int8", True, "int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}, {**STATIC, "type": "int"}),
    ("ct-int4", False, "pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}, None),
    ("ct-nvfp4", False, "nvfp4-pack-quantized",
     {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"}, None),
    ("ct-nvfp4", True, "nvfp4-pack-quantized",
     {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"},
     {"num_bits": 4, "type": "float", "symmetric": True, "strategy": "tensor_group", "group_size": 16, "dynamic": "local", "scale_dtype": "torch.float8_e4m3fn"}),
    ("ct-mxfp4", False, "mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}, None),
    ("ct-mxfp8", False, "mxfp8-quantized", {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"},
     {**TOKEN, "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}),
])
def test_compressed_tensors_says_exactly_these_args(layout, static, fmt, weights, activations) -> None:
    made = claim(layout, static=static)
    assert made == {
        "quant_method": "compressed-tensors", "quantization_status": "compressed", "format": fmt, "ignore": ["lm_head"], "kv_cache_scheme": None,
        "global_compression_ratio": None,
        "config_groups": {"group_0": {"targets": ["Linear"], "format": fmt, "output_activations": None, "input_activations": activations,
                                      "weights": {**weights, "symmetric": True, "dynamic": False}}}}


def test_zero_points_are_said() -> None:
    assert claim("ct-int4", scheme="ct-int4-zeros")["config_groups"]["group_0"]["weights"]["symmetric"] is False


def test_routers_are_always_in_ignore() -> None:
    for family in ("moe", "latent", "renamed"):
        listed = claim("ct-int4", family)["ignore"]
        assert any("gate$" in entry for entry in listed), listed


def test_groups_of_compressed_tensors_never_overlap() -> None:
    linear, plain = modules("moe")
    attention = tuple(m for m in linear if ".self_attn." in m)
    rest = tuple(m for m in linear if ".self_attn." not in m)
    row = ROWS["ct-int4"]
    about = replace(facts("moe", row), held=(Held(encoding(row), rest), Held(encoding(ROWS["ct-fp8-channel"]), attention)))
    made = written(about)
    said = made.config["quantization_config"]
    assert said["format"] == "mixed-precision" and [g["format"] for g in said["config_groups"].values()] == ["pack-quantized", "float-quantized"]
    assert said["config_groups"]["group_1"]["targets"] == [f"re:.*self_attn\\.{p}_proj$" for p in "koqv"]
    assert not any(target.endswith("*") for g in said["config_groups"].values() for target in g["targets"]), "norms stand below self_attn, too"
    assert sum(len(g["targets"]) for g in said["config_groups"].values()) <= 12
    assert unexplained(made, about, "vllm") == unexplained(made, about, "transformers") == ()
    with pytest.raises(WeighbridgeError, match="several groups is not known"):
        unexplained(made, about, "tensorrt-llm")
    said["config_groups"]["group_0"]["targets"] += ["re:.*self_attn.q_proj$"]
    assert len(unexplained(made, about, "vllm")) == 12


@pytest.mark.parametrize(("layout", "suffix"), [("ct-fp8-channel", ".weight_scale"), ("modelopt-fp8-channel", ".weight_scale"), ("gptq-int4", ".scales"),
                                                ("awq-int4", ".scales"), ("hf-fp8", ".weight_scale_inv")])
def test_encodings_that_the_claim_says_alike_are_one(layout: str, suffix: str) -> None:
    """Some scales in F32, some in BF16: the files tell them apart, the claim does not."""
    about = facts("dense", ROWS[layout])
    encodings = [filled(SCHEMES[ROWS[layout].schemes[0]], (128, 128), 128, {suffix: dtype}) for dtype in ("F32", "BF16")]
    mixed = replace(about, held=tuple(Held(e, about.held[0].modules[n::2]) for n, e in enumerate(encodings)))
    assert written(mixed).config == written(about).config
    assert unexplained(written(mixed), mixed, "vllm") == unexplained(written(mixed), mixed, "sglang") == ()


@pytest.mark.parametrize(("layout", "static", "algo", "group"), [
    ("modelopt-fp8", True, "FP8", None), ("modelopt-fp8-channel", False, "FP8_PER_CHANNEL_PER_TOKEN", None), ("modelopt-fp8-block", False, "FP8_PB_WO", None),
    ("modelopt-nvfp4", True, "NVFP4", 16), ("modelopt-nvfp4", False, "W4A16_NVFP4", 16), ("modelopt-mxfp8", False, "MXFP8", 32)])
def test_modelopt_says_the_same_in_both_places(layout, static, algo, group) -> None:
    made = written(facts("moe", ROWS[layout], static=static, kv_cache=True))
    outer, inner = made.config["quantization_config"], made.files["hf_quant_config.json"]["quantization"]
    assert outer["quant_method"] == "modelopt" and outer["quant_algo"] == inner["quant_algo"] == algo
    assert outer["ignore"] == inner["exclude_modules"] and "lm_head" in outer["ignore"]
    assert inner.get("group_size") == group and "group_size" not in outer
    assert inner["kv_cache_quant_algo"] == "FP8" and outer["kv_cache_scheme"] == {"dynamic": False, "num_bits": 8, "type": "float"}
    assert outer["producer"] == made.files["hf_quant_config.json"]["producer"] and outer["producer"]["name"] == "modelopt"
    if group:
        args = outer["config_groups"]["group_0"]
        assert args["weights"]["group_size"] == group and ("input_activations" in args) == (algo != "W4A16_NVFP4")
    assert written(facts("moe", ROWS[layout], static=static)).files["hf_quant_config.json"]["quantization"]["kv_cache_quant_algo"] is None


@pytest.mark.parametrize(("layout", "static", "says"), [
    ("modelopt-fp8", False, "needs a static scale"), ("modelopt-fp8-channel", True, "takes no static"), ("modelopt-mxfp8", True, "takes no static"),
    ("gptq-int4", True, "weights alone"), ("awq-int4", True, "weights alone"), ("ct-fp8-block", True, "no reader takes a static scale"),
    ("ct-int4", True, "no reader takes a static scale"), ("ct-mxfp4", True, "no reader takes a static scale")])
def test_activations_that_a_claim_cannot_say_are_refused(layout, static, says) -> None:
    with pytest.raises(WeighbridgeError, match=says):
        written(facts("dense", ROWS[layout], static=static))


def test_a_group_of_integers_stands_beside_static_activations() -> None:
    linear, _ = modules("moe")
    attention, rest = (tuple(m for m in linear if (".self_attn." in m) is inside) for inside in (True, False))
    row = ROWS["ct-fp8-tensor"]
    about = replace(facts("moe", row, static=True), held=(Held(encoding(row), attention), Held(encoding(ROWS["ct-int4"]), rest)))
    groups = written(about).config["quantization_config"]["config_groups"]
    assert groups["group_0"]["input_activations"] == STATIC and groups["group_1"]["input_activations"] is None


def test_modelopt_mixed_is_a_table_of_layers() -> None:
    linear, _ = modules("moe")
    attention = tuple(m for m in linear if ".self_attn." in m)
    rest = tuple(m for m in linear if ".self_attn." not in m)
    row = ROWS["modelopt-nvfp4"]
    about = replace(facts("moe", row, static=True), held=(Held(encoding(row), rest), Held(encoding(ROWS["modelopt-fp8"]), attention)))
    made = written(about)
    outer, inner = made.config["quantization_config"], made.files["hf_quant_config.json"]["quantization"]
    assert outer["quant_algo"] == inner["quant_algo"] == "MIXED_PRECISION" and outer["quantized_layers"] == inner["quantized_layers"]
    assert inner["quantized_layers"]["model.layers.3.mlp.experts"] == {"quant_algo": "NVFP4", "group_size": 16}
    assert inner["quantized_layers"]["model.layers.3.self_attn.q_proj"] == {"quant_algo": "FP8"}
    assert not any(".experts." in name for name in inner["quantized_layers"])
    assert unexplained(made, about, "vllm") == unexplained(made, about, "tensorrt-llm") == ()


def test_a_block_that_modelopt_does_not_have_is_refused() -> None:
    about = facts("dense", ROWS["modelopt-fp8-block"])
    with pytest.raises(WeighbridgeError, match="128x128, the plan has 64x64"):
        written(replace(about, held=(Held(filled(SCHEMES["modelopt-fp8-block"], (64, 64)), about.held[0].modules),)))


def test_gptq_says_version_two_in_both_files() -> None:
    made = written(facts("dense", ROWS["gptq-int4"], symmetric=False, desc_act=True))
    said = made.config["quantization_config"]
    assert said == made.files["quantize_config.json"]
    assert {k: said[k] for k in ("quant_method", "bits", "group_size", "sym", "desc_act", "checkpoint_format", "lm_head")} == {
        "quant_method": "gptq", "bits": 4, "group_size": 128, "sym": False, "desc_act": True, "checkpoint_format": "gptq_v2", "lm_head": False}


def test_awq_says_gemm_and_has_no_order() -> None:
    assert claim("awq-int4") == {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm", "modules_to_not_convert": ["lm_head"]}
    with pytest.raises(WeighbridgeError, match="desc_act"):
        written(facts("dense", ROWS["awq-int4"], desc_act=True))


def test_gpt_oss_keeps_the_published_list() -> None:
    experts = tuple(f"model.layers.{n}.mlp.experts.{p}_proj" for n in range(4) for p in ("gate_up", "down"))
    plain = {f"model.layers.{n}.{m}": "router" if "router" in m else "" for n in range(4) for m in ("self_attn.q_proj", "self_attn.o_proj", "mlp.router")}
    row = ROWS["hf-mxfp4"]
    about = Facts("gpt_oss", {"model_type": "gpt_oss"}, "hf-mxfp4", (Held(encoding(row), experts),), {**plain, "lm_head": "lm_head"})
    made = written(about)
    assert made.config["quantization_config"] == {"quant_method": "mxfp4", "modules_to_not_convert": [
        "lm_head", "model.embed_tokens", "model.layers.*.mlp.router", "model.layers.*.self_attn"]}
    for reader in ("vllm", "sglang", "transformers", "tensorrt-llm"):
        assert unexplained(made, about, reader) == ()


def test_a_claim_without_a_quantized_module_is_refused() -> None:
    for layout in ("ct-int4", "modelopt-nvfp4", "gptq-int4", "hf-fp8"):
        with pytest.raises(WeighbridgeError, match="the plan has"):
            written(replace(facts("dense", ROWS[layout]), held=()))
