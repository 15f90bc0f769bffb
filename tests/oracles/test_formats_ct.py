"""Formats against compressed-tensors on the CPU: packing, unpacking, decoding and quantizing, bit for bit on random data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

from weighbridge.formats import codec
from weighbridge.formats.packing import dense
from weighbridge.formats.quantize import quantize
from weighbridge.formats.scheme import Role, filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

SHAPE, GROUP, BLOCK = (64, 256), 32, (32, 64)
INT = {"type": "int", "symmetric": True}
FLOAT = {"type": "float", "symmetric": True}
ARGS = {  # our scheme: (their format, their arguments)
    "ct-fp8-tensor": ("float-quantized", {**FLOAT, "num_bits": 8, "strategy": "tensor"}),
    "ct-fp8-channel": ("float-quantized", {**FLOAT, "num_bits": 8, "strategy": "channel"}),
    "ct-fp8-block": ("float-quantized", {**FLOAT, "num_bits": 8, "strategy": "block", "block_structure": [*BLOCK]}),
    "ct-int8": ("int-quantized", {**INT, "num_bits": 8, "strategy": "channel"}),
    "ct-mxfp8": ("mxfp8-quantized", {**FLOAT, "num_bits": 8, "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}),
    "ct-mxfp4": ("mxfp4-pack-quantized", {**FLOAT, "num_bits": 4, "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}),
    "ct-nvfp4": ("nvfp4-pack-quantized",
                 {**FLOAT, "num_bits": 4, "strategy": "tensor_group", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"}),
}
for bits in range(2, 9):
    for zeros in (False, True):
        for group in (False, True):
            name = (f"ct-int{bits}-packed" if bits == 8 else f"ct-int{bits}") + ("" if group else "-channel") + ("-zeros" if zeros else "")
            ARGS[name] = ("pack-quantized", {**INT, "num_bits": bits, "symmetric": not zeros, "strategy": "group" if group else "channel",
                                             **({"group_size": GROUP} if group else {})})

RNG = np.random.default_rng(8)
VALUES = {
    "gaussian": RNG.standard_normal(SHAPE),
    "weights": RNG.standard_normal(SHAPE) * 0.02,
    "wide": RNG.standard_normal(SHAPE) * np.exp2(RNG.uniform(-12, 12, SHAPE)),
    "ties": RNG.integers(-14, 15, SHAPE) / 4,
    "one sign": RNG.random(SHAPE) + 1,
    "sparse": RNG.standard_normal(SHAPE) * (RNG.random(SHAPE) < 0.02),
}
VALUES = {kind: value.astype(np.float32) for kind, value in VALUES.items()}
VALUES["zeros in blocks"] = VALUES["gaussian"] * np.repeat(np.repeat(RNG.random((2, 4)) < 0.5, 32, 0), 64, 1)


def blocks(value: torch.Tensor, args: QuantizationArgs) -> tuple[torch.Tensor, torch.Tensor]:
    """(least, greatest) of each block, shaped as the library shapes its scales."""
    strategy = str(args.strategy)
    if strategy == "tensor":
        return value.min().reshape(1), value.max().reshape(1)
    if strategy == "channel":
        return value.amin(1, keepdim=True), value.amax(1, keepdim=True)
    if strategy == "block":
        high, wide = args.block_structure
        tiles = value.unflatten(0, (-1, high)).unflatten(2, (-1, wide))
        return tiles.amin((1, 3)), tiles.amax((1, 3))
    groups = value.unflatten(1, (-1, args.group_size))
    return groups.amin(2), groups.amax(2)


def theirs(name: str, value: np.ndarray) -> tuple[dict[str, torch.Tensor], type, QuantizationScheme]:
    """A module's stored tensors as compressed-tensors makes them, in float32."""
    form, arguments = ARGS[name]
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args, format=form)
    weight = torch.from_numpy(value)
    low, high = blocks(weight, args)
    whole = generate_gparam(weight.min(), weight.max()) if str(args.strategy) == "tensor_group" else None
    scale, zero = calculate_qparams(low, high, args, global_scale=whole)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    if whole is not None:
        state["weight_global_scale"] = whole
    compressor = BaseCompressor.get_value_from_registry(form)
    return compressor.compress(state, scheme), compressor, scheme


def raw(tensor: torch.Tensor) -> np.ndarray:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def encoding_of(name: str):
    scheme = SCHEMES[name]
    wide = {f.suffix: "F32" for f in scheme.factors if f.role is Role.SCALE and "F32" in f.dtypes}
    return filled(scheme, BLOCK, GROUP, wide)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("name", ARGS)
def test_quantizing_and_packing(name: str, kind: str) -> None:
    encoding, value = encoding_of(name), VALUES[kind]
    state, _, _ = theirs(name, value)
    q, refused = quantize(value, encoding)
    assert refused == 0
    code = encoding.code
    stored = state[code.suffix.removeprefix(".")]
    assert np.array_equal(codec.pack(q.codes_RC, code.packing) if code.packing.packed else q.codes_RC, raw(stored).reshape(SHAPE[0], -1))
    for grid in q.grids:
        for part in (grid, *grid.inner):
            field, tensor = part.field, state[part.field.suffix.removeprefix(".")]
            ours = codec.pack(codec.encode(part.own, field.element), field.packing) if field.packing.packed else codec.to_dtype(part.own, field.dtype)
            assert np.array_equal(ours.reshape(-1), raw(tensor)), field.suffix
            assert tuple(tensor.shape) in field.shapes(SHAPE), field.suffix


@pytest.mark.parametrize("name", ARGS)
def test_decoding(name: str) -> None:
    encoding = encoding_of(name)
    state, compressor, scheme = theirs(name, VALUES["gaussian"])
    ours = read(encoding, SHAPE, lambda suffix: raw(state[suffix.removeprefix(".")])).decode()
    if name == "ct-nvfp4":  # its own decompression rounds the scales to BF16 first; in float32 it is this
        codes = unpack_fp4_from_uint8(state["weight_packed"], *SHAPE, dtype=torch.float32)
        want = dequantize(codes, state["weight_scale"].float(), args=scheme.weights, global_scale=state["weight_global_scale"]).numpy()
    else:
        want = compressor.decompress(state, scheme)["weight"].float().numpy()
    assert np.array_equal(ours, want)


@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(40, 32), (33, 10), (37, 65), (65, 33)])
def test_words(bits: int, axis: int, shape: tuple[int, int]) -> None:
    """The last words are only as long as the bits need; ours are whole units, and the file's are compared up to there."""
    codes = np.random.default_rng(bits).integers(0, 1 << bits, shape).astype(np.uint8)
    signed = torch.from_numpy((codes.astype(np.int16) - (1 << bits - 1)).astype(np.int8))
    words = pack_to_int32(signed, bits, packed_dim=axis)
    packing = dense(bits, axis=-1 if axis else -2)
    ours = codec.pack(codes, packing).view("<i4")
    assert np.array_equal(ours[: words.shape[0], : words.shape[1]], words.numpy())
    assert not ours[words.shape[0] :].any() and not ours[:, words.shape[1] :].any()
    assert torch.equal(unpack_from_int32(torch.from_numpy(ours), bits, torch.Size(shape), packed_dim=axis), signed)
