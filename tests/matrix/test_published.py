"""Forms that only some makers have: stacks, joined and sliced matrices, two formats in one model. Each goes to BF16 and to FP8, and the values are those of plain numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weighbridge as wb
from tests.matrix import sources as s
from tests.matrix import values as v

BLOCK = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
COMMON: dict[str, Any] = {"num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 4,
                          "head_dim": 64, "vocab_size": 64, "torch_dtype": "bfloat16", "tie_word_embeddings": False, "max_position_embeddings": 128}


class Maker:
    """Collects tensors and the values that they stand for."""

    def __init__(self) -> None:
        self.tensors: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
        self.values: dict[str, np.ndarray] = {}

    def put(self, stem: str, parts: v.Parts, shape: tuple[int, int] | None = None) -> None:
        s.put(self.tensors, stem, parts)
        if shape:
            self.values[stem] = v.decode(parts, shape)

    def plain(self, listed) -> None:
        for module, kind, shape in listed:
            w = s.weight(module, shape)
            self.put(module, {".weight" if kind == s.PLAIN else "": ("BF16", w.astype(v.KIND["BF16"]))})

    def stack(self, stem: str, makers: list[v.Parts], shape: tuple[int, int]) -> None:
        """Equal parts on top of each other."""
        for suffix, (dtype, _) in makers[0].items():
            arrays = np.stack([parts[suffix][1] for parts in makers])
            self.tensors[stem + suffix] = (dtype, arrays.shape, arrays.tobytes())
        self.values[stem] = np.stack([v.decode(parts, shape) for parts in makers])


def gpt_oss(make: Maker) -> dict[str, Any]:
    """Experts as blocks of sixteen bytes; attention in BF16, with biases."""
    make.plain([*s._ends(256), *s._norms(0, 256)])
    at = "model.layers.0."
    for part, shape in (("q_proj", (256, 256)), ("k_proj", (256, 256)), ("v_proj", (256, 256)), ("o_proj", (256, 256))):
        make.plain([(f"{at}self_attn.{part}", s.PLAIN, shape), (f"{at}self_attn.{part}.bias", s.VECTOR, (shape[0],))])
    make.plain([(at + "self_attn.sinks", s.VECTOR, (4,)), (at + "mlp.router", s.PLAIN, (2, 256)), (at + "mlp.router.bias", s.VECTOR, (2,))])
    for part, shape in (("gate_up_proj", (768, 256)), ("down_proj", (256, 384))):
        stem = f"{at}mlp.experts.{part}"
        parts = [v.mxfp4(s.weight(f"{stem}.{e}", shape), "_blocks", "_scales", ("U8", "U8")) for e in range(2)]
        make.stack(stem, [{"_blocks": ("U8", p["_blocks"][1].reshape(shape[0], -1, 16)), "_scales": p["_scales"]} for p in parts], shape)
        make.values[stem] = make.values[stem].transpose(0, 2, 1)  # plain values stand as [in, out]
        make.plain([(stem + "_bias", s.PLAIN, (2, shape[0]))])
        make.tensors[stem + "_bias"] = make.tensors.pop(stem + "_bias.weight")
    return {**COMMON, "model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "num_local_experts": 2, "num_experts_per_tok": 1,
            "quantization_config": {"quant_method": "mxfp4"}}


def stacked_fp8(make: Maker) -> dict[str, Any]:
    """transformers 5 saves the experts of Qwen3-MoE in two tensors, without `.weight`."""
    at = "model.layers.0."
    make.plain([*s._ends(256), *s._norms(0, 256), (at + "mlp.gate", s.PLAIN, (2, 256)), (at + "self_attn.q_norm.weight", s.VECTOR, (64,)),
                (at + "self_attn.k_norm.weight", s.VECTOR, (64,))])
    for module, _, shape in s._attention(0, 256, 256, 256):
        make.put(module, v.fp8(s.weight(module, shape), ".weight_scale_inv", (128, 128), "F32"), shape)  # type: ignore[arg-type]
    for part, shape in (("gate_up_proj", (256, 256)), ("down_proj", (256, 128))):
        stem = f"{at}mlp.experts.{part}"
        make.stack(stem, [v.fp8(s.weight(f"{stem}.{e}", shape), "_scale_inv", (128, 128), "F32", code="") for e in range(2)], shape)
    return {**COMMON, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "num_experts": 2, "num_experts_per_tok": 1,
            "moe_intermediate_size": 128, "quantization_config": BLOCK}


def phi3(make: Maker) -> dict[str, Any]:
    """q, k and v in one matrix, gate and up in one; two key/value heads, so that v begins at row 384."""
    make.plain([*s._ends(256), *s._norms(0, 256)])
    for name, shape in (("self_attn.qkv_proj", (512, 256)), ("self_attn.o_proj", (256, 256)), ("mlp.gate_up_proj", (768, 256)), ("mlp.down_proj", (256, 384))):
        module = "model.layers.0." + name
        make.put(module, v.ct_int(s.weight(module, shape), 4, 128, False), shape)
    return {**COMMON, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"], "num_key_value_heads": 2,
            "quantization_config": s._ct("pack-quantized", 128, num_bits=4, type="int", strategy="group")}


def deepseek_v4(make: Maker) -> dict[str, Any]:
    """Nobody's family: experts in FP4, the rest in FP8, all scales bytes under `.scale`."""
    at = "layers.0."
    make.plain([("embed", s.PLAIN, (64, 256)), ("head", s.PLAIN, (64, 256)), (at + "ffn_norm.weight", s.VECTOR, (256,))])
    for name, shape in (("attn.wq_a", (128, 256)), ("attn.wo_b", (256, 256)), ("ffn.shared_experts.w1", (128, 256))):
        make.put(at + name, v.fp8(s.weight(name, shape), ".scale", (128, 128), "F8_E8M0"), shape)
    for e in range(2):
        for w, shape in (("w1", (128, 256)), ("w2", (256, 128)), ("w3", (128, 256))):
            name = f"{at}ffn.experts.{e}.{w}"
            make.put(name, v.mxfp4(s.weight(name, shape), ".weight", ".scale", ("I8", "F8_E8M0")), shape)
    return {"model_type": "deepseek_v4", "architectures": ["DeepseekV4ForCausalLM"], "num_hidden_layers": 1, "hidden_size": 256, "torch_dtype": "bfloat16",
            "expert_dtype": "fp4", "quantization_config": {**BLOCK, "scale_fmt": "ue8m0", "fmt": "e4m3"}}


MAKERS = {"gpt-oss": gpt_oss, "stacked FP8": stacked_fp8, "Phi-3 in INT4": phi3, "DeepSeek-V4": deepseek_v4}
TARGETS = {"gpt-oss": ("hf-bf16", "hf-f16", "hf-mxfp4"), "stacked FP8": ("hf-bf16", "ct-fp8-block", "hf-fp8"),
           "Phi-3 in INT4": ("hf-bf16", "hf-f16", "gptq-int4", "awq-int4", "hf-fp8"), "DeepSeek-V4": ("hf-bf16", "hf-fp8", "ct-mxfp8", "ct-fp8-block")}


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, targets in TARGETS.items() for target in targets])
def test_a_makers_own_form_goes_where_it_can(name: str, target: str, tmp_path: Path) -> None:
    make = Maker()
    config = MAKERS[name](make)
    s.written(tmp_path / "from", config, make.tensors)
    model = wb.open(tmp_path / "from")
    assert model.source.problems == []
    model.convert(tmp_path / "to", target)
    report = model.verify(tmp_path / "to")
    assert report["ok"] and report["how"] == "values", report["worst"]
    if target == "hf-bf16":
        written = s.tensors_of(tmp_path / "to")
        for stem, values in make.values.items():
            held = [array for own, (_, array) in written.items() if own in (stem, stem + ".weight")] or _parts(stem, written)
            assert np.array_equal(np.concatenate([a.astype(np.float32) for a in held]), values.astype(v.KIND["BF16"]).astype(np.float32)), stem


def _parts(stem: str, written: dict[str, tuple[str, np.ndarray]]) -> list[np.ndarray]:
    """The experts of a stack, which are written one by one."""
    before, _, part = stem.rpartition(".")
    words = ("gate_proj", "up_proj") if part == "gate_up_proj" else (part,)
    return [np.stack([np.concatenate([written[f"{before}.{e}.{w}.weight"][1] for w in words]) for e in range(2)])]


def test_deepseek_v4_in_fp8_alone_says_so(tmp_path: Path) -> None:
    """To `hf-fp8` its FP4 experts become FP8 codes of equal values, and `expert_dtype` says it: vLLM takes an absent word as fp4."""
    make = Maker()
    s.written(tmp_path / "from", deepseek_v4(make), make.tensors)
    wb.open(tmp_path / "from").convert(tmp_path / "to", "hf-fp8")
    written = s.tensors_of(tmp_path / "to")
    assert {dtype for name, (dtype, _) in written.items() if name.endswith(("w1.weight", "w2.weight"))} == {"F8_E4M3"}
    assert wb.open(tmp_path / "to").checkpoint.config["expert_dtype"] == "fp8"
    assert wb.open(tmp_path / "from").verify(tmp_path / "to")["grades"]["bounded"] == 0


@pytest.mark.parametrize(("wrap", "says"), [(True, "a zero point is stored as 15"), (False, "")])
def test_a_zero_point_that_may_have_wrapped_is_refused(wrap: bool, says: str, tmp_path: Path) -> None:
    """GPTQ v1 stores zeros less one: 15 was 0 for one tool and 16 for another. No option opens that."""
    made = s.write(tmp_path / "from", "dense", "gptq-int4 v1 asymmetric")
    if wrap:
        path = made.folder / "model.safetensors"
        tensors = {n: (d, a.shape, a.tobytes()) for n, (d, a) in s.tensors_of(made.folder).items()}
        name = "model.layers.0.mlp.up_proj.qzeros"
        dtype, shape, raw = tensors[name]
        tensors[name] = (dtype, shape, bytes([raw[0] | 15]) + raw[1:])
        path.unlink()
        s.written(made.folder, {**s.dense()[0], "quantization_config": made.form.claim}, tensors)
    for target, options in (("hf-bf16", {}), ("awq-int4", {"inexact": True})):
        plan = wb.open(made.folder).plan(target, **options)
        assert [p.message for p in plan.open_problems if says and says in p.message] or not wrap and not plan.open_problems


@pytest.mark.parametrize("target", ["ct-int4", "awq-int4", "gptq-int4"])
def test_an_order_of_channels_is_never_dropped(target: str, tmp_path: Path) -> None:
    made = s.write(tmp_path / "from", "dense", "gptq-int4 v2 desc_act")
    with pytest.raises(wb.WeighbridgeError, match="an order of their own"):
        wb.open(made.folder).convert(tmp_path / "to", target)


@pytest.mark.parametrize("form", ["ct-nvfp4 unequal", "modelopt-nvfp4 unequal"])
def test_joined_weights_share_the_scale_of_the_tensor(form: str, tmp_path: Path) -> None:
    """Refused as they are; with --inexact q, k and v get one."""
    made = s.write(tmp_path / "from", "dense", form)
    with pytest.raises(wb.WeighbridgeError, match="readers take one for all"):
        wb.open(made.folder).convert(tmp_path / "to", "modelopt-nvfp4")
    wb.open(made.folder).convert(tmp_path / "to", "modelopt-nvfp4", inexact=True)
    written = s.tensors_of(tmp_path / "to")
    assert len({written[f"model.layers.0.self_attn.{part}_proj.weight_scale_2"][1].tobytes() for part in "qkv"}) == 1
