"""Stored forms by plain numpy and ml_dtypes, independent of the tool: values to tensors, and tensors back to values.

Every maker takes float32 [N, K] and gives {suffix: (dtype, array)}; `decode` gives float32 [N, K] of such tensors. Axes and bits are those of
`layouts2.md`, written out once more and in another way than in the package: shifts over whole arrays, no tables of packings.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import ml_dtypes
import numpy as np

Parts = dict[str, tuple[str, np.ndarray]]
KIND = {"F8_E4M3": ml_dtypes.float8_e4m3fn, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
        "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2": ml_dtypes.float8_e5m2,
        "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}
HALVES = ("F32", "BF16", "F16")
NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
                0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                0.7229568362236023, 1.0], np.float32)
_FP4 = [0.0, 0.0052083333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25]
FP4 = np.array([*_FP4, *(-v for v in _FP4)], np.float32)
AWQ = (0, 2, 4, 6, 1, 3, 5, 7)


def spread(grid: np.ndarray, shape: tuple[int, int], block: tuple[int, int]) -> np.ndarray:
    """A grid as wide as the matrix."""
    return np.repeat(np.repeat(grid, block[0], 0), block[1], 1)[: shape[0], : shape[1]]


def blockwise(w: np.ndarray, block: tuple[int, int], pick: Callable[..., np.ndarray] = np.max) -> np.ndarray:
    """The largest (or `pick`) of each block, the last ones cut: they are filled up with what is at the edge."""
    high, wide = (-n % b for n, b in zip(w.shape, block, strict=True))
    w = np.pad(w, ((0, high), (0, wide)), mode="edge")
    return pick(pick(w.reshape(w.shape[0] // block[0], block[0], -1, block[1]), 3), 1).astype(np.float32)


def power(scale: np.ndarray) -> np.ndarray:
    """The next power of two above, as E8M0 bytes."""
    return (np.ceil(np.log2(scale)) + 127).astype(np.uint8)


def from_e8m0(raw: np.ndarray) -> np.ndarray:
    return np.ldexp(np.float32(1), raw.view(np.uint8).astype(np.int32) - 127)


def scales(raw: tuple[str, np.ndarray]) -> np.ndarray:
    """Scales in float32; bytes are exponents."""
    dtype, array = raw
    return from_e8m0(array) if dtype in ("U8", "F8_E8M0") else array.astype(np.float32)


# ---- codes in words


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes along the last axis as one little-endian stream of bits in int32 words, filled up with zeros."""
    rows, cols = codes.shape
    stream = ((codes[:, :, None] >> np.arange(bits)) & 1).reshape(rows, -1).astype(np.uint8)
    stream = np.pad(stream, ((0, 0), (0, -cols * bits % 32)))
    return np.packbits(stream, axis=1, bitorder="little").view(np.int32)


def unpack(words: np.ndarray, bits: int, cols: int) -> np.ndarray:
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")[:, : cols * bits]
    return (stream.reshape(len(words), cols, bits).astype(np.int32) << np.arange(bits)).sum(2)


def pack_awq(codes: np.ndarray) -> np.ndarray:
    """[K, N] to words of eight along N, place p holds value AWQ[p]."""
    eight = codes.reshape(len(codes), -1, 8)[:, :, AWQ].astype(np.uint32)
    return (eight << (4 * np.arange(8, dtype=np.uint32))).sum(2, dtype=np.uint32).view(np.int32)


def unpack_awq(words: np.ndarray) -> np.ndarray:
    places = (np.ascontiguousarray(words).view(np.uint32)[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    eight = np.empty_like(places)
    eight[:, :, list(AWQ)] = places
    return eight.reshape(len(words), -1).astype(np.int32)


def nibbles(raw: np.ndarray) -> np.ndarray:
    """Two codes of a byte, the low one first."""
    raw = raw.view(np.uint8)
    return np.stack([raw & 15, raw >> 4], -1).reshape(*raw.shape[:-1], -1)


def pair(codes: np.ndarray) -> np.ndarray:
    return (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8)


def e2m1_codes(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -6, 6).astype(ml_dtypes.float4_e2m1fn).view(np.uint8)


def e2m1(codes: np.ndarray) -> np.ndarray:
    return np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)[codes]


# ---- makers


def fp8(w: np.ndarray, suffix: str, block: tuple[int, int], dtype: str, shape: tuple[int, ...] | None = None, code: str = ".weight", held: str = "F8_E4M3") -> Parts:
    """FP8 of the dtype `held` with one scale per block; `shape` is how the grid's shape is written."""
    block = (block[0] or w.shape[0], block[1] or w.shape[1])
    largest = {"F8_E4M3": 448, "F8_E4M3FNUZ": 240, "F8_E5M2": 57344}[held]
    scale = np.maximum(blockwise(np.abs(w), block), 1e-8) / largest
    grid = power(scale).view(KIND[dtype]) if dtype in ("U8", "F8_E8M0") else scale.astype(KIND[dtype])
    codes = np.clip(w / spread(scales((dtype, grid)), w.shape, block), -largest, largest).astype(KIND[held])
    return {code: (held, codes), suffix: (dtype, grid if shape is None else grid.reshape(shape))}


def int8(w: np.ndarray, suffix: str, block: tuple[int, int], dtype: str, shape: tuple[int, ...] | None = None) -> Parts:
    block = (block[0] or w.shape[0], block[1] or w.shape[1])
    grid = (blockwise(np.abs(w), block) / 127).astype(KIND[dtype])
    codes = np.clip(np.rint(w / spread(grid.astype(np.float32), w.shape, block)), -127, 127).astype(np.int8)
    return {".weight": ("I8", codes), suffix: (dtype, grid if shape is None else grid.reshape(shape))}


def mxfp4(w: np.ndarray, code: str, scale: str, dtypes: tuple[str, str]) -> Parts:
    grid = (np.floor(np.log2(blockwise(np.abs(w), (1, 32)))) - 2 + 127).astype(np.uint8)
    codes = e2m1_codes(w / spread(from_e8m0(grid), w.shape, (1, 32)))
    return {code: (dtypes[0], pair(codes).view(KIND[dtypes[0]])), scale: (dtypes[1], grid.view(KIND[dtypes[1]]))}


def nvfp4(w: np.ndarray, code: str, last: str, whole: float, shape: tuple[int, ...]) -> Parts:
    """`whole` is the tensor's factor; compared with it a divisor is its reciprocal."""
    factor = np.float32(1) / np.float32(whole) if "global" in last else np.float32(whole)
    grid = np.maximum(blockwise(np.abs(w), (1, 16)) / 6 / factor, 2.0**-9).astype(ml_dtypes.float8_e4m3fn)
    codes = e2m1_codes(w / spread(grid.astype(np.float32) * factor, w.shape, (1, 16)))
    return {code: ("U8", pair(codes)), ".weight_scale": ("F8_E4M3", grid), last: ("F32", np.full(shape, whole, np.float32))}


def integers(w: np.ndarray, bits: int, group: int, asymmetric: bool, dtype: str = "BF16") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(codes from 0, scales, zero points) of groups along K; symmetric ones have their zero in the middle."""
    group = group or w.shape[1]
    low, high = blockwise(w, (1, group), np.min), blockwise(w, (1, group))
    top = (1 << bits) - 1
    if asymmetric:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scale = ((high - low) / top).astype(KIND[dtype])
        zeros = np.clip(np.rint(-low / scale.astype(np.float32)), 1, top).astype(np.int32)
    else:
        scale = (np.maximum(-low, high) / ((1 << bits - 1) - 0.5)).astype(KIND[dtype])
        zeros = np.full(scale.shape, 1 << bits - 1, np.int32)
    codes = np.rint(w / spread(scale.astype(np.float32), w.shape, (1, group))) + spread(zeros, w.shape, (1, group))
    return np.clip(codes, 0, top).astype(np.int32), scale, zeros


def ct_int(w: np.ndarray, bits: int, group: int, asymmetric: bool, dtype: str = "BF16") -> Parts:
    codes, scale, zeros = integers(w, bits, group, asymmetric, dtype)
    parts: Parts = {".weight_packed": ("I32", pack(codes, bits)), ".weight_scale": (dtype, scale), ".weight_shape": ("I64", np.array(w.shape, np.int64))}
    if asymmetric:
        parts[".weight_zero_point"] = ("I32", np.ascontiguousarray(pack(zeros.T, bits).T))
    return parts


def gptq(w: np.ndarray, bits: int, version: int, asymmetric: bool, order: str = "", group: int = 128) -> Parts:
    """`order`: `trivial` writes a g_idx that says nothing, `act` one that mixes the groups."""
    places = np.arange(w.shape[1])
    if order == "act":
        places = np.random.default_rng(5).permutation(w.shape[1])
    codes, scale, zeros = integers(w[:, np.argsort(places)], bits, group, asymmetric, "F16")
    words = np.ascontiguousarray(pack(codes[:, places], bits).T)
    parts: Parts = {".qweight": ("I32", words), ".qzeros": ("I32", pack((zeros - (version == 1)).T, bits)), ".scales": ("F16", np.ascontiguousarray(scale.T))}
    if order:
        parts[".g_idx"] = ("I32", (places // group).astype(np.int32))
    return parts


def awq(w: np.ndarray, dtype: str = "F16", group: int = 128) -> Parts:
    codes, scale, zeros = integers(w, 4, group, True, dtype)
    return {".qweight": ("I32", pack_awq(codes.T)), ".qzeros": ("I32", pack_awq(zeros.T)), ".scales": (dtype, np.ascontiguousarray(scale.T))}


def w4afp8(w: np.ndarray) -> Parts:
    codes, scale, zeros = integers(w, 4, 128, False)
    return {".weight": ("I8", pair((codes - 8) & 15).view(np.int8)), ".weight_scale_inv": ("BF16", scale)}


def modelopt_int4(w: np.ndarray) -> Parts:
    codes, scale, _ = integers(w, 4, 128, False)
    signed = ((codes - 8) & 15).astype(np.uint8)
    return {".weight": ("U8", signed[::2] | signed[1::2] << 4), ".weight_scale": ("BF16", scale)}


def bnb4(w: np.ndarray, book: str, nested: bool) -> Parts:
    table, flat = (NF4 if book == "nf4" else FP4), w.reshape(-1, 64)
    absmax = np.abs(flat).max(1)
    state = {"quant_type": book, "blocksize": 64, "dtype": "bfloat16", "shape": list(w.shape)}
    parts: Parts = {".weight.quant_map": ("F32", table)}
    if nested:
        mean = np.float32(absmax.mean())
        inner = np.array([np.abs(part).max() for part in np.split(absmax - mean, range(256, len(absmax), 256))], np.float32)
        dynamic = dynamic_map()
        codes = np.abs((absmax - mean)[:, None] / np.repeat(inner, 256)[: len(absmax), None] - dynamic).argmin(1).astype(np.uint8)
        absmax = dynamic[codes] * np.repeat(inner, 256)[: len(absmax)] + mean
        state |= {"nested_blocksize": 256, "nested_offset": float(mean), "nested_dtype": "float32"}
        parts |= {".weight.absmax": ("U8", codes), ".weight.nested_absmax": ("F32", inner), ".weight.nested_quant_map": ("F32", dynamic)}
    else:
        parts[".weight.absmax"] = ("F32", absmax)
    codes = np.abs((flat / absmax[:, None])[:, :, None] - table).argmin(2).astype(np.uint8).reshape(-1)
    parts[".weight"] = ("U8", (codes[::2] << 4 | codes[1::2])[:, None])
    parts[f".weight.quant_state.bitsandbytes__{book}"] = ("U8", np.frombuffer(json.dumps(state).encode(), np.uint8))
    return parts


def dynamic_map() -> np.ndarray:
    """bitsandbytes' `create_dynamic_map(signed=True)`: 256 values whose exponents have ever fewer fraction bits."""
    found = []
    for i in range(7):
        edges = np.linspace(0.1, 1, 2**i + 1)
        found += [sign * 10.0 ** (i - 6) * m for m in (edges[:-1] + edges[1:]) / 2 for sign in (1, -1)]
    return np.array(sorted([*found, 0, 1]), np.float32)


def bnb8(w: np.ndarray) -> Parts:
    scb = np.abs(w).max(1).astype(np.float32)
    return {".weight": ("I8", np.rint(w * (127 / scb[:, None])).astype(np.int8)), ".SCB": ("F32", scb), ".weight_format": ("U8", np.array(0, np.uint8))}


# ---- the way back


def decode(parts: Parts, shape: tuple[int, int], group: int = 0, block: tuple[int, int] = (128, 128), bits: int = 4, first_version: bool = False) -> np.ndarray:
    """float32 [N, K] of the tensors of one module, by their names, dtypes and shapes."""
    with np.errstate(over="ignore"):
        return _decode(parts, shape, group, block, bits, first_version).astype(np.float32)


def _decode(parts: Parts, shape: tuple[int, int], group: int, block: tuple[int, int], bits: int, first_version: bool) -> np.ndarray:
    if ".qweight" in parts:
        return _words(parts, shape, bits, first_version)
    if ".weight_packed" in parts and parts[".weight_packed"][0] == "I32":
        codes = unpack(parts[".weight_packed"][1], bits, shape[1]) - (1 << bits - 1)
        scale = scales(parts[".weight_scale"])
        each = -(-shape[1] // scale.shape[1])
        if ".weight_zero_point" in parts:
            zeros = unpack(np.ascontiguousarray(parts[".weight_zero_point"][1].T), bits, shape[0]).T - (1 << bits - 1)
            codes = codes - spread(zeros, shape, (1, each))
        return codes * spread(scale, shape, (1, each))
    if ".weight.absmax" in parts:
        return _books(parts, shape)
    code = next(s for s in (".weight_packed", "_blocks", ".weight", "") if s in parts)
    dtype, raw = parts[code]
    if dtype in HALVES:
        return raw.astype(np.float32)
    if ".SCB" in parts:
        return raw.astype(np.float32) * (parts[".SCB"][1].reshape(-1, 1) / np.float32(127))
    scale = next(scales(parts[s]) for s in (".weight_scale", ".weight_scale_inv", ".scale", "_scales", "_scale_inv", ".qscale_weight") if s in parts)
    if ".weight_global_scale" in parts:
        scale = scale / parts[".weight_global_scale"][1].astype(np.float32).reshape(1, 1)
    if ".weight_scale_2" in parts:
        scale = scale * parts[".weight_scale_2"][1].astype(np.float32).reshape(1, 1)
    if raw.size * 2 == shape[0] * shape[1]:
        if raw.shape[0] * 2 == shape[0]:  # two rows in a byte
            low, high = raw & 15, raw >> 4
            codes = np.stack([low, high], 1).reshape(shape).astype(np.int32)
            return (codes - 16 * (codes > 7)) * spread(scale, shape, (1, shape[1] // scale.shape[1]))
        codes = nibbles(raw.reshape(shape[0], -1))
        values = codes.astype(np.int32) - 16 * (codes > 7) if dtype == "I8" and scale.dtype == np.float32 and ".weight_scale_inv" in parts else e2m1(codes)
        return values * spread(scale, shape, (1, shape[1] // scale.shape[1]))
    values = raw.astype(np.float32).reshape(shape)
    if scale.size == 1:
        return values * scale.reshape(1, 1)
    if scale.size == shape[0]:
        return values * scale.reshape(-1, 1)
    scale = scale.reshape(scale.shape[0], -1) if scale.ndim != 4 else scale[:, 0, :, 0]
    if scale.shape[0] == shape[0]:
        return values * spread(scale, shape, (1, -(-shape[1] // scale.shape[1])))
    return values * spread(scale, shape, block)


def _words(parts: Parts, shape: tuple[int, int], bits: int, first_version: bool) -> np.ndarray:
    words, rows = parts[".qweight"][1], shape[1]
    scale = parts[".scales"][1].astype(np.float32)
    if words.shape == (shape[1], shape[0] // 8):
        codes, zeros = unpack_awq(words), unpack_awq(parts[".qzeros"][1])
    else:
        codes = unpack(np.ascontiguousarray(words.T), bits, rows).T
        zeros = unpack(parts[".qzeros"][1], bits, shape[0]) + first_version
    index = parts[".g_idx"][1] if ".g_idx" in parts else np.arange(rows) // -(-rows // len(scale))
    return ((codes - zeros[index]) * scale[index]).T


def _books(parts: Parts, shape: tuple[int, int]) -> np.ndarray:
    raw = parts[".weight"][1].reshape(-1)
    codes = np.stack([raw >> 4, raw & 15], 1).reshape(-1, 64)
    absmax = parts[".weight.absmax"][1]
    if ".weight.nested_absmax" in parts:
        state = next(json.loads(v[1].tobytes()) for s, v in parts.items() if "quant_state" in s)
        inner = np.repeat(parts[".weight.nested_absmax"][1], 256)[: len(absmax)]
        absmax = parts[".weight.nested_quant_map"][1][absmax] * inner + np.float32(state["nested_offset"])
    return (parts[".weight.quant_map"][1][codes] * absmax[:, None]).reshape(shape)
