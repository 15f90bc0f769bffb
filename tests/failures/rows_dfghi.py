"""Rows D (scale shape, partial block, transposition, packing), F (number formats), G (UE8M0), H (NaN, zero, uncalibrated), I (joined global scales).

Readers: transformers 5.23.0 (integrations/finegrained_fp8.py), compressed-tensors before #873, vllm-ascend#15346, sglang#13960, #28662, #27588, #35111,
vLLM#38083, #42247, TensorRT-LLM#14199, NxD 2.29 (README_rescaling_fp8_for_neuron.md). Formats: OCP FP8 and Microscaling 1.0, ml_dtypes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from pathlib import Path

from tests.failures.quantized import changed, compressed_fp8, compressed_int4, dense, experts, modelopt_nvfp4, shapes_of, written
from tests.failures.rows_bc import kv_scales, same_globals
from tests.failures.tools import Config, Row, Tensors, build, deepseek, floats, fp8, llama, m2, plausible, qwen3_moe

Change = Callable[[Tensors, Config], None]
FILLED = 0x3B  # a usual code


def shaped(ending: str, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Change:
    """Another shape for all tensors whose name ends so."""
    def changing(tensors: Tensors, _: Config) -> None:
        found = [name for name in tensors if name.endswith(ending)]
        assert found
        for name in found:
            tensors[name] = (tensors[name][0], change(tensors[name][1]))
    return changing


def typed(ending: str, dtype: str) -> Change:
    def changing(tensors: Tensors, _: Config) -> None:
        for name in [n for n in tensors if n.endswith(ending)]:
            tensors[name] = (dtype, tensors[name][1])
    return changing


def claiming(**keys: object) -> Change:
    def changing(_: Tensors, config: Config) -> None:
        config["quantization_config"].update(keys)
    return changing


def ragged_llama(columns: int = 384) -> tuple[Tensors, Config]:
    """k and v are 192 rows high: one block and a half."""
    return llama(hidden=columns, heads=6, kv_heads=3)


def narrow(strategy: str) -> Callable[[Path], Path]:
    """Weights one block wide (o_proj [512, 128])."""
    return written(compressed_fp8(lambda: llama(hidden=128, heads=1, kv_heads=1, inter=1024, quantize=False), strategy))


def fused_attention(heads: int = 8, kv_heads: int = 2) -> tuple[Tensors, Config]:
    """MiMo's fused qkv, in groups of 14.5 blocks."""
    tensors, config = llama()
    config.update(model_type="mimo_v2", architectures=["MiMoV2ForCausalLM"], num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=192, v_head_dim=128)
    rows = (heads * 192 + kv_heads * 192 + kv_heads * 128)
    for layer in range(2):
        at = f"model.layers.{layer}.self_attn."
        for part in "qkv":
            del tensors[f"{at}{part}_proj.weight"], tensors[f"{at}{part}_proj.weight_scale_inv"]
        fp8(tensors, at + "qkv_proj", (rows, 512))
        fp8(tensors, at + "o_proj", (512, heads * 128))
    return tensors, config


def shared_by_layer(share: bool) -> Callable[[Tensors], dict[str, bytes]]:
    """Scales of the experts: one for all of a layer, or their own."""
    return lambda tensors: {name: plausible(name.split(".experts.")[0] + name.rpartition(".experts.")[2].split(".", 1)[1] if share else name, *spec)
                            for name, spec in tensors.items() if ".experts." in name and name.endswith(("weight_scale_inv", "weight_scale"))}


def stacked(leading: int) -> Callable[[Path], Path]:
    """Experts as NxD Inference has them: one scale per output channel, of each expert or of all."""
    def write(folder: Path) -> Path:
        tensors, config = qwen3_moe(layers=1, experts=4, quantize=False)
        config["model_type"] = "some_moe"
        out = {name: spec for name, spec in tensors.items() if ".experts." not in name and ".gate." not in name}
        at = "model.layers.0.mlp."
        out |= {at + "router.linear_router.weight": ("BF16", (4, 512)), at + "expert_mlps.mlp_op.gate_up_proj.weight": ("F8_E4M3", (4, 512, 512)),
                at + "expert_mlps.mlp_op.gate_up_proj.scale": ("F32", (leading, 1, 512)), at + "expert_mlps.mlp_op.down_proj.weight": ("F8_E4M3", (4, 256, 512)),
                at + "expert_mlps.mlp_op.down_proj.scale": ("F32", (leading, 1, 512))}
        settings = {"quantized": True, "quantized_checkpoints_path": ".", "quantization_dtype": "f8e4m3", "quantization_type": "per_channel_symmetric",
                    "modules_to_not_convert": ["lm_head", "self_attn"]}
        return build(folder, out, config, files={"neuron_config.json": settings})
    return write


def codes(peak: Callable[[int], int], odd: int = 0, part: str = "_proj.weight") -> Callable[[Tensors], dict[str, bytes]]:
    """Codes of all FP8 weights: one of `peak(block number)` in each block of 128 columns, `odd` once in all of them."""
    def filled(tensors: Tensors) -> dict[str, bytes]:
        out = {}
        for name, (dtype, shape) in tensors.items():
            if dtype == "F8_E4M3" and name.endswith(part):
                row = b"".join(bytes([peak(block)]) + bytes([min(FILLED, peak(block))]) * (min(128, shape[1] - 128 * block) - 1) for block in range(-(-shape[1] // 128)))
                out[name] = row * shape[0]
                if odd:
                    out[name] = out[name][:5] + bytes([odd]) + out[name][6:]
        return out
    return filled


def with_scales(value: Callable[[int], float], more: Callable[[Tensors], dict[str, bytes]] | None = None, endings: tuple[str, ...] = ("weight_scale_inv",)
                ) -> Callable[[Tensors], dict[str, bytes]]:
    """Scales of which the i-th value is `value(i)`."""
    def filled(tensors: Tensors) -> dict[str, bytes]:
        found = {name: floats([value(i) for i in range(prod(shape))], dtype) for name, (dtype, shape) in tensors.items() if name.endswith(endings)}
        assert found
        return found | (more(tensors) if more else {})
    return filled


def only(ending: str, values: list[float]) -> Callable[[Tensors], dict[str, bytes]]:
    """The bytes of one tensor, all of whose values are `values` in turn."""
    def filled(tensors: Tensors) -> dict[str, bytes]:
        name = next(n for n in tensors if n.endswith(ending))
        dtype, shape = tensors[name]
        return {name: floats([values[i % len(values)] for i in range(prod(shape))], dtype)}
    return filled


def joined(leaf: str, factor: float, parts: tuple[str, ...] = ("up_proj", "v_proj")) -> Callable[[Tensors], dict[str, bytes]]:
    """Equal second scales, but `factor` times larger in some parts."""
    def filled(tensors: Tensors) -> dict[str, bytes]:
        same = same_globals(tensors)
        return same | {name: floats([factor * (3e-4 if leaf == "weight_scale_2" else 0.01)]) for name in same if name.endswith(tuple(f"{p}.{leaf}" for p in parts))}
    return filled


def int4_bytes(tensors: Tensors, config: Config) -> None:
    """Eight codes in I32 become four pairs in U8: the container alone differs."""
    for name in [n for n in tensors if n.endswith("weight_packed")]:
        rows, columns = tensors[name][1]
        tensors[name] = ("U8", (rows, columns * 4))


def neuron_block(peak: int) -> Callable[[Path], Path]:
    """Dense weights in the Neuron layout with one scale per 128 columns, as converted from block FP8."""
    def write(folder: Path) -> Path:
        tensors, config = llama(quantize=False)
        out: Tensors = {}
        for name, (kind, shape) in tensors.items():
            out[name] = ("F8_E4M3", shape) if name.endswith("_proj.weight") else (kind, shape)
            if name.endswith("_proj.weight"):
                out[name.removesuffix(".weight") + ".scale"] = ("F32", (shape[0], shape[1] // 128))
        settings = {"quantized": True, "quantized_checkpoints_path": ".", "quantization_dtype": "f8e4m3", "quantization_type": "blockwise_symmetric",
                    "quantization_block_axis": [-2, -1], "quantization_block_size": [1, 128], "modules_to_not_convert": ["lm_head"]}
        return build(folder, out, config, data=codes(lambda _: peak)(out), files={"neuron_config.json": settings})
    return write


def retyped(write: Callable[[Path], Path], old: str, new: str) -> Callable[[Path], Path]:
    """The same bytes under another dtype in the header."""
    def writing(folder: Path) -> Path:
        write(folder)
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = raw[8 : 8 + length].replace(f'"{old}"'.encode(), f'"{new}"'.encode())
        path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
        return folder
    return writing


def unpacked(name: str, dtype: str, shape: tuple[int, ...]) -> tuple[float, ...]:
    """The plausible values of an F32 scale."""
    return struct.unpack(f"<{prod(shape)}f", plausible(name, dtype, shape))


def power(i: int) -> float:
    return 2.0 ** (-13 - i % 3)


MI300, B200 = {"device": "mi300x"}, {"device": "b200"}
PEAKS = (0x77, 0x7A, 0x7E, 0x79)
ROWS = [
    Row("D1", "WB410", narrow("block"), narrow("channel"), "transformers", "[8, 1]", "warning"),
    Row("D3", "WB417", written(deepseek), written(lambda: deepseek()), "vllm", "5 are in the files", settings={"device": "ascend-910b"}, good_settings={"device": "h100"}),
    Row("D3", "WB408", written(changed(deepseek, shaped("kv_a_proj_with_mqa.weight_scale_inv", lambda s: (4, s[1])))), written(deepseek), "", "floor division",
        variant="in-the-files"),
    Row("D8", "WB416", written(changed(compressed_int4(experts()), int4_bytes)), written(compressed_int4(experts()), shapes_of), "", "I32"),
    Row("D9", "WB507", written(compressed_int4(dense()), shapes_of), written(compressed_int4(dense()), shapes_of), "transformers", "weight_shape", settings={"tp": 2},
        good_settings={}),
    Row("D11", "WB409", written(ragged_llama), written(llama), "transformers", "wrong scale", "warning"),
    Row("D11", "WB409", written(ragged_llama), written(llama), "transformers", "wrong scale", settings={"device": "cpu"}, variant="cpu"),
    Row("D11", "WB409", written(deepseek), written(llama), "transformers", "not divisible by scale grid (5, ", "warning", variant="refused"),
    Row("D12", "WB428", stacked(1), stacked(4), "neuron", "one scale"),
    Row("D12", "WB428", written(qwen3_moe, shared_by_layer(True)), written(qwen3_moe, shared_by_layer(False)), "", "equal scales", variant="apart"),
    Row("D12", "WB428", written(m2, shared_by_layer(True)), written(m2, shared_by_layer(False)), "", "equal scales", variant="m2"),
    Row("D+", "WB408", written(changed(llama, shaped("up_proj.weight_scale_inv", lambda s: s[::-1]))), written(llama), "", "transposed", variant="transposed"),
    Row("D+", "WB408", written(changed(m2, shaped("w2.weight_scale_inv", lambda s: s[::-1]))), written(m2), "", "transposed", variant="transposed-experts"),
    Row("F1", "WB603", written(compressed_fp8(dense())), written(compressed_fp8(dense())), "sglang", "HIPBLAS_STATUS_NOT_SUPPORTED", "warning", MI300, {"device": "h100"}),
    Row("F2", "WB603", written(changed(llama, typed("weight_scale_inv", "F8_E8M0"))), written(llama), "vllm", "mul_cpu_reduced_float", settings=MI300),
    Row("F5", "WB431", neuron_block(0x77), neuron_block(0x76), "", "448/240", "warning"),
    Row("F6", "WB431", written(modelopt_nvfp4(dense()), joined("input_scale", 448 / 240, ("k_proj", "up_proj"))), written(modelopt_nvfp4(dense()), same_globals), "",
        "448/240"),
    Row("F6", "WB431", written(llama, lambda t: codes(lambda _: 0x7E)(t) | codes(lambda _: 0x77, part="down_proj.weight")(t)), written(llama, codes(lambda _: 0x7E)), "",
        "down_proj", "warning", variant="codes"),
    Row("F8", "WB606", written(changed(llama, lambda t, c: t.update({n: ("U8", s) for n, (d, s) in t.items() if d == "F8_E4M3"}))), written(llama), "", "F8_E4M3"),
    Row("F9", "WB603", written(llama, codes(lambda b: PEAKS[b % 4], 0x80)), written(llama, codes(lambda b: PEAKS[b % 4])), "vllm", "0x80", "note", MI300),
    Row("F+", "WB601", neuron_block(0x7E), neuron_block(0x76), "neuron", "0x78", variant="above-240"),
    Row("F+", "WB602", retyped(written(llama), "F8_E4M3", "F8_E4M3FNUZ"), written(llama), "vllm", "F8_E4M3FNUZ", "warning", variant="fnuz"),
    Row("F+", "WB604", written(changed(llama, typed("_proj.weight", "F8_E5M2"))), written(llama), "vllm", "F8_E5M2", "warning", variant="e5m2"),
    Row("F+", "WB407", written(changed(llama, typed("weight_scale_inv", "U8"))), written(llama), "vllm", "exponent bytes", variant="u8-scales"),
    Row("G1", "WB430", written(llama, with_scales(power, codes(lambda _: 0x7E))), written(llama, with_scales(power, codes(lambda b: PEAKS[b % 4]))), "", "448"),
    Row("G4", "WB427", written(qwen3_moe), written(qwen3_moe, with_scales(power)), "vllm", "GSM8K", "warning", B200),
    Row("G5", "WB427", written(qwen3_moe), written(qwen3_moe, with_scales(power)), "sglang", "accuracy 0.00", "warning", {"device": "gb200"}),
    Row("G6", "WB427", written(compressed_fp8(dense(), "block")), written(compressed_fp8(dense(), "block"), with_scales(power, endings=("weight_scale",))), "sglang",
        "NaN or empty", "warning", B200),
    Row("G+", "WB427", written(changed(llama, claiming(scale_fmt="ue8m0"))), written(changed(llama, claiming(scale_fmt="ue8m0")), with_scales(power)), "vllm", "ue8m0",
        "warning", variant="claim"),
    Row("G7", "WB430", written(llama, with_scales(lambda i: power(i) * 64, codes(lambda b: 0x3A + b % 6))), written(llama, with_scales(power, codes(lambda b: PEAKS[b % 4]))),
        "", "never used", "warning"),
    Row("H2", "WB605", written(m2, codes(lambda b: PEAKS[b % 4], 0x7F, "layers.1.block_sparse_moe.experts.3.w1.weight")), written(m2), "", "experts.3.w1"),
    Row("H2", "WB605", written(llama, codes(lambda b: PEAKS[b % 4], 0xFF, "down_proj.weight")), written(llama), "vllm", "down_proj", variant="negative"),
    Row("H2", "WB421", written(m2, only("layers.1.block_sparse_moe.experts.3.w2.weight_scale_inv", [1e-4, float("nan")])), written(m2), "", "experts.3.w2", variant="scale"),
    Row("H4", "WB421", written(changed(compressed_fp8(dense()), kv_scales("k_scale", "v_scale")), only("k_scale", [float("inf")])),
        written(changed(compressed_fp8(dense()), kv_scales("k_scale", "v_scale"))), "sglang", "k_scale"),
    Row("H4", "WB421", written(changed(compressed_fp8(dense()), kv_scales("k_scale", "v_scale")), only("layers.1.self_attn.v_scale", [float("nan")])),
        written(changed(compressed_fp8(dense()), kv_scales("k_scale", "v_scale"))), "vllm", "v_scale", variant="nan"),
    Row("H+", "WB422", written(llama, lambda t: codes(lambda b: PEAKS[b % 4])(t) | only("layers.1.mlp.up_proj.weight_scale_inv", [1e-4, 0.0])(t)),
        written(llama, only("layers.1.mlp.up_proj.weight_scale_inv", [1e-4, 0.0])), "", "up_proj", variant="zero"),
    Row("H+", "WB422", written(qwen3_moe, only("layers.1.mlp.experts.2.up_proj.weight_scale_inv", [1e-4, -1e-4])), written(qwen3_moe), "", "negative", variant="negative"),
    Row("H+", "WB424", written(changed(compressed_fp8(dense()), kv_scales("k_scale", "v_scale")), with_scales(lambda _: 1.0, endings=("k_scale", "v_scale"))),
        written(changed(compressed_fp8(dense()), kv_scales("k_scale", "v_scale"))), "", "1.0", "warning", variant="kv-ones"),
    Row("H+", "WB424", written(compressed_fp8(dense(), "tensor", True), with_scales(lambda _: 1.0, endings=("input_scale",))), written(compressed_fp8(dense(), "tensor", True)),
        "", "1.0", "warning", variant="input-ones"),
    Row("I2", "WB426", written(modelopt_nvfp4(experts()), joined("weight_scale_2", 1 / 1.25)), written(modelopt_nvfp4(experts()), same_globals), "tensorrt-llm", "1.25"),
    Row("H+", "WB423", written(m2, lambda t: {n: floats([v * 1e-7 for v in unpacked(n, *t[n])]) for n in t if n.endswith("weight_scale_inv")}), written(m2), "", "smaller", "warning", variant="small"),
    Row("I2", "WB426", written(modelopt_nvfp4(dense()), joined("weight_scale_2", 1.1, ("k_proj",))), written(modelopt_nvfp4(dense()), same_globals), "vllm", "k_proj",
        variant="attention"),
    Row("I3", "WB426", written(modelopt_nvfp4(experts()), joined("weight_scale_2", 2.0)), written(modelopt_nvfp4(experts()), same_globals), "sglang", "up_proj"),
    Row("I5", "WB402", written(changed(modelopt_nvfp4(experts()), lambda t, c: [t.pop(n) for n in list(t) if n.endswith("up_proj.weight_scale_2")] and None), same_globals),
        written(modelopt_nvfp4(experts()), same_globals), "sglang", "up_proj.weight_scale_2"),
]

UNDECIDED = {
    "D5": "rows are permuted when the reader loads; the files are right",
    "D6": "a square matrix may be stored either way; only the source tells",
    "F4": "cause not stated",
    "G3": "the reader's own call made no powers of two; the files are right",
}
