"""Formats against ModelOpt, bitsandbytes, AutoAWQ, transformers and torch on the CPU, bit for bit on random data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from weighbridge.encoding import codec as fp8
from weighbridge.formats import codec
from weighbridge.formats.quantize import quantize
from weighbridge.formats.scheme import filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

SHAPE = (64, 256)
RNG = np.random.default_rng(21)
VALUES = {
    "gaussian": RNG.standard_normal(SHAPE),
    "weights": RNG.standard_normal(SHAPE) * 0.02,
    "wide": RNG.standard_normal(SHAPE) * np.exp2(RNG.uniform(-12, 12, SHAPE)),
    "ties": RNG.integers(-14, 15, SHAPE) / 4,
    "sparse": RNG.standard_normal(SHAPE) * (RNG.random(SHAPE) < 0.02),
    "powers": np.exp2(RNG.integers(-20, 20, SHAPE)) * (1 + RNG.integers(0, 3, SHAPE) * 2.0**-23),
}
VALUES = {kind: value.astype(np.float32) for kind, value in VALUES.items()}
KINDS = pytest.mark.parametrize("kind", VALUES)


def raw(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def encoding_of(name: str, group: int = 64, **dtypes: str):
    return filled(SCHEMES[name], (64, 64), group, {f".{suffix}": dtype for suffix, dtype in dtypes.items()})


def packed(q) -> np.ndarray:
    return codec.pack(q.codes_RC, q.encoding.code.packing).reshape(-1)


# ModelOpt

@pytest.fixture(scope="module")
def modelopt():
    return pytest.importorskip("modelopt.torch.quantization.qtensor")


@KINDS
def test_modelopt_nvfp4(modelopt, kind: str) -> None:
    value = VALUES[kind]
    made, scale, second = modelopt.NVFP4QTensor.quantize(torch.from_numpy(value.copy()), 16)
    q, _ = quantize(value, encoding_of("modelopt-nvfp4"))
    assert np.array_equal(packed(q), raw(made._quantized_data))
    assert np.array_equal(codec.to_dtype(q.scale.own, "F8_E4M3").reshape(-1), raw(scale))
    assert np.array_equal(codec.to_dtype(q.scale.inner[0].own, "F32").reshape(-1), raw(second))
    want = made.dequantize(torch.float32, scale=scale, double_scale=second, block_sizes={-1: 16}).numpy()
    fields = {".weight": raw(made._quantized_data), ".weight_scale": raw(scale), ".weight_scale_2": raw(second)}
    assert np.array_equal(read(encoding_of("modelopt-nvfp4"), SHAPE, fields.get).decode(), want)


@KINDS
def test_modelopt_mxfp8(modelopt, kind: str) -> None:
    value = VALUES[kind]
    made, scale = modelopt.MXFP8QTensor.quantize(torch.from_numpy(value.copy()))
    q, _ = quantize(value, encoding_of("modelopt-mxfp8"))
    assert np.array_equal(codec.encode(q.scale.own, "e8m0").reshape(-1), raw(scale))
    assert np.array_equal(q.codes_RC.reshape(-1), raw(made._quantized_data))
    fields = {".weight": raw(made._quantized_data), ".weight_scale": raw(scale)}
    assert np.array_equal(read(encoding_of("modelopt-mxfp8"), SHAPE, fields.get).decode(), made.dequantize(torch.float32, scale=scale).numpy())


@KINDS
def test_modelopt_mxfp4_decodes(modelopt, kind: str) -> None:
    made, scale = modelopt.MXFP4QTensor.quantize(torch.from_numpy(VALUES[kind].copy()), 32)
    want = made.dequantize(torch.float32, scale=scale, block_sizes={-1: 32}).numpy()
    fields = {".weight": raw(made._quantized_data), ".weight_scale": raw(scale)}
    assert np.array_equal(read(encoding_of("modelopt-mxfp4"), SHAPE, fields.get).decode(), want)


@KINDS
@pytest.mark.parametrize(("name", "options"), [
    ("modelopt-fp8", {}), ("modelopt-fp8-channel", {"axis": 0}), ("modelopt-fp8-block", {"block_sizes": {-1: 64, -2: 64}})])
def test_modelopt_fp8(modelopt, name: str, options: dict, kind: str) -> None:
    value = VALUES[kind]
    made, scale = modelopt.FP8QTensor.quantize(torch.from_numpy(value.copy()), **options)
    q, _ = quantize(value, encoding_of(name))
    theirs = scale.numpy().reshape(q.scale.own.shape)
    assert np.array_equal(q.scale.own, np.where(theirs == 0, 1, theirs))  # zeros over a scale of zero are NaN there
    there = q.factor_at(q.scale, np.arange(SHAPE[0]), np.arange(SHAPE[1])) != 1
    assert np.array_equal(q.codes_RC[there], raw(made._quantized_data).reshape(SHAPE)[there]) and there.mean() > 0.9


def test_modelopt_int4_decodes(modelopt) -> None:
    export = pytest.importorskip("modelopt.torch.export.quant_utils")
    value, scale = torch.from_numpy(VALUES["gaussian"].copy()), torch.rand(SHAPE[0], SHAPE[1] // 64) + 0.5
    stored = export.pack_int4_in_uint8(value, scale, 64)
    fields = {".weight": raw(stored), ".weight_scale": raw(scale)}
    ours = read(encoding_of("modelopt-int4", weight_scale="F32"), SHAPE, fields.get)
    wide = scale.repeat_interleave(64, 1)
    assert np.array_equal(ours.decode(), ((value / wide).round().clamp(-8, 7) * wide).numpy())


# bitsandbytes

@pytest.mark.parametrize("shape", [(64, 256), (37, 100), (5, 63)])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("book", ["nf4", "fp4"])
def test_bitsandbytes(book: str, nested: bool, shape: tuple[int, int]) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    value = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    stored, state = functional.quantize_4bit(value, blocksize=64, quant_type=book, compress_statistics=nested)
    fields = {f".weight.{name}": raw(part) for name, part in state.as_dict(packed=True).items()}
    fields[".weight"] = raw(stored)
    encoding = encoding_of(f"bnb-{book}" + ("-nested" if nested else ""))
    assert np.array_equal(fields[".weight.quant_map"].view("<f4"), codec.table(book))
    if nested:
        assert np.array_equal(fields[".weight.nested_quant_map"].view("<f4"), codec.table("dynamic8"))
    want = functional.dequantize_4bit(stored, state).numpy()
    whole = read(encoding, shape, fields.get)
    assert np.array_equal(whole.decode(), want)
    assert np.array_equal(read(encoding, shape, fields.get, (2, 5)).decode(), want[2:5])


def test_bitsandbytes_int8() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    codes, scale, _ = functional.int8_vectorwise_quant(torch.from_numpy(VALUES["gaussian"]).half())
    fields = {".weight": raw(codes), ".SCB": raw(scale)}
    ours = read(encoding_of("bnb-int8"), SHAPE, fields.get).decode()
    assert np.allclose(ours, functional.int8_vectorwise_dequant(codes, scale).float().numpy(), rtol=2.0**-22, atol=0)  # its scale is times 1/127


# AutoAWQ and GPTQ, restated: their packages do not import without a GPU

def awq_pseudo_quantize(value: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """autoawq 0.2.9 `quantize/quantizer.py`, pseudo_quantize_tensor: codes, scales, zeros of [out, in]."""
    groups = value.reshape(-1, group)
    high, low = groups.amax(1, keepdim=True), groups.amin(1, keepdim=True)
    scales = (high - low).clamp(min=1e-5) / 15
    zeros = (-torch.round(low / scales)).clamp_(0, 15)
    codes = torch.clamp(torch.round(groups / scales) + zeros, 0, 15)
    return codes.reshape(value.shape), scales.reshape(value.shape[0], -1), zeros.reshape(value.shape[0], -1)


def awq_pack(codes: torch.Tensor) -> torch.Tensor:
    """autoawq 0.2.9 `modules/linear/gemm.py`, from_linear."""
    words = torch.zeros(codes.shape[0], codes.shape[1] // 8, dtype=torch.int32)
    for place, column in enumerate([0, 2, 4, 6, 1, 3, 5, 7]):
        words |= codes[:, column::8].int() << place * 4
    return words


@pytest.mark.parametrize("kind", ["gaussian", "weights", "wide", "ties"])
def test_awq(kind: str) -> None:
    value = VALUES[kind].T.copy()  # [out, in] = [256, 64]
    codes, scales, zeros = awq_pseudo_quantize(torch.from_numpy(value), 32)
    encoding = encoding_of("awq-int4", 32, scales="F32")
    q, refused = quantize(value.T, encoding)
    assert refused == 0 and np.array_equal(q.codes_RC, codes.T.numpy())
    assert np.array_equal(q.scale.own, scales.T.numpy())
    words, zero_words = awq_pack(codes.T.contiguous()), awq_pack(zeros.T.contiguous())
    assert np.array_equal(packed(q), raw(words))
    zero = next(g for g in q.grids if g.field.suffix == ".qzeros")
    assert np.array_equal(codec.pack(codec.encode(zero.own, "uint4"), zero.field.packing).reshape(-1), raw(zero_words))
    half = scales.T.half()
    fields = {".qweight": raw(words), ".qzeros": raw(zero_words), ".scales": raw(half)}
    want = (codes.T.half() - zeros.T.half().repeat_interleave(32, 0)) * half.repeat_interleave(32, 0)
    ours = read(encoding_of("awq-int4", 32, scales="F16"), (64, 256), fields.get).decode()
    assert np.array_equal(codec.rounded(ours, "F16"), want.float().numpy())


def gptq_find(value: torch.Tensor, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """gptqmodel `quantization/quantizer.py`, find_params: scale and zero of groups [n, group]."""
    low, high = torch.minimum(value.min(1)[0], torch.zeros(len(value))), torch.maximum(value.max(1)[0], torch.zeros(len(value)))
    if symmetric:
        high = torch.maximum(low.abs(), high)
        low[low < 0] = -high[low < 0]
    empty = (low == 0) & (high == 0)
    low[empty], high[empty] = -1, 1
    scale = (high - low) / 15
    return scale, torch.full_like(scale, 8) if symmetric else torch.round(-low / scale)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("kind", ["gaussian", "weights", "wide", "ties"])
def test_gptq(kind: str, symmetric: bool) -> None:
    value = torch.from_numpy(VALUES[kind].T.copy())
    groups = value.reshape(-1, 32)
    scale, zero = gptq_find(groups, symmetric)
    codes = torch.clamp(torch.round(groups / scale[:, None]) + zero[:, None], 0, 15).reshape(value.shape)
    q, refused = quantize(value.T.numpy(), encoding_of("gptq-int4", 32, scales="F32"), rule="" if symmetric else "gptq-zeros")
    assert refused == 0 and np.array_equal(q.codes_RC, codes.T.numpy())
    assert np.array_equal(q.scale.own, scale.reshape(len(value), -1).T.numpy())


# transformers

@pytest.mark.parametrize("kind", ["gaussian", "weights", "wide", "ties", "sparse"])
def test_gpt_oss_decodes_as_transformers_does(kind: str) -> None:
    convert = pytest.importorskip("transformers.integrations.mxfp4").convert_moe_packed_tensors
    q, _ = quantize(VALUES[kind], encoding_of("mxfp4-blocks"))
    stored, scales = packed(q), codec.encode(q.scale.own, "e8m0")
    blocks = torch.from_numpy(stored.reshape(1, 64, 8, 16).copy())
    want = convert(blocks, torch.from_numpy(scales[None].copy()))[0]
    fields = {"_blocks": stored, "_scales": scales}
    ours = read(encoding_of("mxfp4-blocks"), SHAPE, fields.get).decode()
    assert np.array_equal(codec.to_dtype(ours, "BF16").reshape(-1), raw(want.T.contiguous()))


def triton_downcast(value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """triton_kernels `numerics_details/mxfp.py`, downcast_to_mxfp_torch with its default, ROUND_UP: codes and scale bytes of groups of 32."""
    groups = value.unflatten(1, (-1, 32))
    bits = ((groups.abs().amax(2, keepdim=True) / 6.0).view(torch.int32) + 0x007FFFFF) & 0x7F800000
    scale = bits.view(torch.float32)
    bits_of_quotient = (groups * torch.where(scale == 0, torch.tensor(0.0), 1.0 / scale)).contiguous().view(torch.int32)
    sign, exponent, mantissa = (bits_of_quotient >> 28) & 8, (bits_of_quotient >> 23) & 0xFF, bits_of_quotient & 0x7FFFFF
    mantissa = torch.where(exponent < 127, (0x400000 | mantissa >> 1) >> (126 - exponent).clamp(0, 31), mantissa)
    exponent = exponent.clamp(min=126) - 126
    code = ((((exponent << 2) | (mantissa >> 21)) + 1) >> 1).clamp(max=7)
    return (sign | code).to(torch.uint8).flatten(1), (bits >> 23).to(torch.uint8).flatten(1)


@KINDS
def test_gpt_oss_quantizes_as_transformers_does(kind: str) -> None:
    codes, scales = triton_downcast(torch.from_numpy(VALUES[kind]))
    q, _ = quantize(VALUES[kind], encoding_of("mxfp4-blocks"))
    assert np.array_equal(codec.encode(q.scale.own, "e8m0"), scales.numpy())
    assert np.array_equal(q.codes_RC, codes.numpy())


def transformers_fp8():
    module = pytest.importorskip("transformers.integrations.finegrained_fp8")

    class Quantizer:
        class quantization_config:  # noqa: N801 - the name that the library reads
            weight_block_size, scale_fmt = [64, 64], "float"

            @staticmethod
            def get(name):
                return [64, 64]

    return module.Fp8Quantize(Quantizer), module.Fp8Dequantize(Quantizer)


@pytest.mark.parametrize("kind", ["gaussian", "weights", "ties"])
def test_fp8_blocks_decode_as_transformers_does(kind: str) -> None:
    quantizer, dequantizer = transformers_fp8()
    made = quantizer._quantize_one("a.weight", torch.from_numpy(VALUES[kind]))
    fields = {".weight": raw(made["a.weight"]), ".weight_scale_inv": raw(made["a.weight_scale_inv"])}
    want = dequantizer._dequantize_one(made["a.weight"], made["a.weight_scale_inv"], torch.float32)
    ours = read(encoding_of("fp8-block"), SHAPE, fields.get).decode()
    assert np.array_equal(ours, want.float().numpy())
    q, _ = quantize(VALUES[kind], encoding_of("fp8-block"))  # its scale is 1 / (448 / amax): as near, and sometimes the next float32
    assert np.allclose(q.scale.own.reshape(-1), fields[".weight_scale_inv"].view("<f4"), rtol=2.0**-22, atol=0)


def test_deepseek_v4_decodes_as_transformers_does() -> None:
    _, dequantizer = transformers_fp8()
    q, _ = quantize(VALUES["gaussian"], encoding_of("ct-mxfp4"))
    stored = packed(q)
    want = dequantizer._dequantize_one(torch.from_numpy(stored.view(np.int8).reshape(64, 128)), torch.from_numpy(q.scale.own.copy()), torch.float32)
    fields = {".weight": stored, ".scale": codec.encode(q.scale.own, "e8m0")}
    assert np.array_equal(read(encoding_of("mxfp4-dot"), SHAPE, fields.get).decode(), want.float().numpy())


# MLX: its bytes are those of compressed-tensors

@pytest.mark.parametrize(("mode", "name", "group", "suffix"), [
    ("mxfp4", "ct-mxfp4", 32, ".weight_packed"), ("mxfp8", "ct-mxfp8", 32, ".weight"), ("nvfp4", "modelopt-nvfp4", 16, ".weight")])
def test_mlx_decodes(mode: str, name: str, group: int, suffix: str) -> None:
    mx = pytest.importorskip("mlx.core")
    words, scales = mx.quantize(mx.array(VALUES["gaussian"]), group_size=group, mode=mode)
    want = np.array(mx.dequantize(words, scales, group_size=group, mode=mode).astype(mx.float32))
    fields = {suffix: np.array(words).reshape(-1).view(np.uint8), ".weight_scale": np.array(scales).reshape(-1),
              ".weight_scale_2": np.array([1], np.float32).view(np.uint8)}
    assert np.array_equal(codec.rounded(read(encoding_of(name), SHAPE, fields.get).decode(), "BF16"), codec.rounded(want, "BF16"))


# torch

@pytest.mark.parametrize(("dtype", "theirs"), [("BF16", torch.bfloat16), ("F16", torch.float16), ("F8_E4M3", torch.float8_e4m3fn)])
def test_dtypes(dtype: str, theirs: torch.dtype) -> None:
    value = np.concatenate([v.reshape(-1) for v in VALUES.values()])
    value = np.clip(value, -448, 448) if dtype == "F8_E4M3" else value
    tensor = torch.from_numpy(value).to(theirs)
    assert np.array_equal(codec.to_dtype(value, dtype), raw(tensor))
    assert np.array_equal(codec.floats(raw(tensor), dtype), tensor.float().numpy())


def test_exponents() -> None:
    byte = np.arange(256, dtype=np.uint8)
    want = torch.from_numpy(byte.copy()).view(torch.float8_e8m0fnu).float().numpy()
    assert np.array_equal(codec.table("e8m0"), want, equal_nan=True)


def test_bfloat16_rounds_as_before() -> None:
    value = VALUES["wide"]
    assert np.array_equal(codec.to_dtype(value, "BF16").view("<u2"), fp8.to_bf16(value))
