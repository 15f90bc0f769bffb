"""Stored forms byte for byte: vectors worked by hand or made by the formats' own libraries, and what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from weighbridge.formats import codec
from weighbridge.formats.packing import AWQ_ORDER, HIGH_FIRST, LOW_FIRST, ROW_PAIRS, dense, ordered
from weighbridge.formats.scheme import filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.formats.stored import read

V = np.array([1, -2, 3, -4, 0.5, 0, 6, -6, *[0] * 24], np.float32)[None]
V4 = "C2E501F7" + "00" * 12


def raw(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text.replace(" ", "")), np.uint8)


def words(text: str) -> np.ndarray:
    """Words as they are written, highest digit first, as bytes in memory."""
    return np.concatenate([raw(word)[::-1] for word in text.split()])


def f32(*values: float) -> np.ndarray:
    return np.array(values, "<f4").view(np.uint8)


def f16(*values: float) -> np.ndarray:
    return np.array(values, "<f2").view(np.uint8)


def decoded(name: str, shape: tuple[int, int], fields: dict[str, np.ndarray], group: int = 0, block=None, dtypes=None) -> np.ndarray:
    return read(filled(SCHEMES[name], block, group, dtypes), shape, fields.get).decode()


SPELLINGS_OF_V = {
    "ct-mxfp4": {".weight_packed": raw(V4), ".weight_scale": raw("7F")},
    "mxfp4-blocks": {"_blocks": raw(V4), "_scales": raw("7F")},
    "mxfp4-dot": {".weight": raw(V4), ".scale": raw("7F")},
    "modelopt-mxfp4": {".weight": raw(V4), ".weight_scale": raw("7F")},
    "quark-mxfp4": {".weight": raw(V4), ".weight_scale": raw("7F")},
    "ct-nvfp4": {".weight_packed": raw(V4), ".weight_scale": raw("7E7E"), ".weight_global_scale": f32(448)},
    "modelopt-nvfp4": {".weight": raw(V4), ".weight_scale": raw("7878"), ".weight_scale_2": f32(2.0**-8)},
    "ct-mxfp8": {".weight": raw("68F074F860007CFC" + "00" * 24), ".weight_scale": raw("79")},
    "modelopt-mxfp8": {".weight": raw("68F074F860007CFC" + "00" * 24), ".weight_scale": raw("79")},
    "mxfp8-inv": {".weight": raw("68F074F860007CFC" + "00" * 24), ".weight_scale_inv": raw("79")},
}


@pytest.mark.parametrize("name", SPELLINGS_OF_V)
def test_one_vector_in_every_spelling(name: str) -> None:
    assert np.array_equal(decoded(name, (1, 32), SPELLINGS_OF_V[name]), V)


@pytest.mark.parametrize(("packing", "codes", "stored"), [
    (dense(4), range(8), words("76543210")),
    (dense(4), np.array([-8, -7, -1, 0, 1, 2, 6, 7]) + 8, raw("1087A9FE")),
    (dense(8), np.array([-128, -1, 0, 127]) + 128, words("FF807F00")),
    (dense(3), np.tile(np.arange(8), 4), words("88FAC688 C688FAC6 FAC688FA")),
    (dense(4), [4, 5, 6, 7, 8, 9, 10, 11, 8, 9], words("BA987654 00000098")),
    (ordered(4, AWQ_ORDER), range(8), words("75316420")),
    (LOW_FIRST, [2, 12, 5, 14, 1, 0, 7, 15], raw("C2E501F7")),
    (HIGH_FIRST, [15, 0, 13, 6, 7, 7], raw("F0D677")),
], ids=["int4", "int4-offset", "int8", "int3", "ten-values", "awq", "low-first", "high-first"])
def test_words(packing, codes, stored) -> None:
    codes = np.array([*codes], np.uint8)[None]
    assert np.array_equal(codec.pack(codes, packing)[0], stored)
    assert np.array_equal(codec.unpack(stored[None], packing, codes.shape[1]), codes)


def test_words_along_the_rows() -> None:
    codes = np.arange(8, dtype=np.uint8)[:, None]
    assert np.array_equal(codec.pack(codes, dense(4, axis=-2)), words("76543210")[None])
    assert np.array_equal(codec.unpack(words("76543210")[None], dense(4, axis=-2), 8), codes)
    three = np.tile(np.arange(8, dtype=np.uint8), 4)[:, None]
    stored = words("88FAC688 C688FAC6 FAC688FA").reshape(3, 4)
    assert np.array_equal(codec.pack(three, dense(3, axis=-2)), stored)
    assert np.array_equal(codec.unpack(stored, dense(3, axis=-2), 32), three)


def test_two_rows_in_a_byte() -> None:
    assert codec.pack(codec.encode(np.array([[1], [-1]]), "int4"), ROW_PAIRS).tolist() == [[0xF1]]
    fields = {".weight": raw("F1F1"), ".weight_scale": f32(2, 3)}
    assert decoded("modelopt-int4", (2, 2), fields, group=2).tolist() == [[2, 2], [-3, -3]]


def test_ct_int4_with_zero_points() -> None:
    zeros = np.array([-8, -7, -1, 0, 1, 2, 6, 7])
    fields = {".weight_packed": np.tile(raw("1087A9FE"), 8), ".weight_scale": f16(*[0.5] * 8), ".weight_zero_point": words("FEA98710")}
    codes = np.array([-8, -7, -1, 0, 1, 2, 6, 7])
    assert np.array_equal(decoded("ct-int4-zeros", (8, 8), fields, group=8), (codes[None] - zeros[:, None]) * 0.5)


def test_ct_int4_tail() -> None:
    fields = {".weight_packed": words("BA987654 00000098"), ".weight_scale": f16(2)}
    assert decoded("ct-int4-channel", (1, 10), fields).tolist() == [[-8, -6, -4, -2, 0, 2, 4, 6, 0, 2]]


@pytest.mark.parametrize(("name", "zero"), [("gptq-int4-v1", "77777777"), ("gptq-int4", "88888888")])
def test_gptq(name: str, zero: str) -> None:
    fields = {".qweight": np.tile(words("76543210"), 8), ".qzeros": words(zero), ".scales": f16(*[0.25] * 8)}
    assert np.array_equal(decoded(name, (8, 8), fields, group=8), np.tile((np.arange(8) - 8)[:, None] * 0.25, 8))


def test_gptq_v1_reads_a_zero_nibble_by_nibble() -> None:
    fields = {".qweight": np.zeros(32, np.uint8), ".qzeros": words("7777777F"), ".scales": f16(*[1] * 8)}
    assert decoded("gptq-int4-v1", (8, 8), fields, group=8)[0].tolist() == [-16, *[-8] * 7]


def test_awq() -> None:
    fields = {".qweight": np.tile(words("75316420"), 2), ".qzeros": words("75316420"), ".scales": f16(*range(1, 9))}
    assert not decoded("awq-int4", (2, 8), fields, group=2).any()
    fields[".qzeros"] = np.zeros(4, np.uint8)
    assert decoded("awq-int4", (2, 8), fields, group=2)[1].tolist() == [k * (k + 1) for k in range(8)]


def test_awq_scales_can_be_bfloat16() -> None:
    fields = {".qweight": words("75316420"), ".qzeros": np.zeros(4, np.uint8), ".scales": codec.to_dtype(np.full((1, 8), 3, np.float32), "BF16")}
    assert decoded("awq-int4", (1, 8), fields, group=1, dtypes={".scales": "BF16"})[0].tolist() == [3 * k for k in range(8)]


@pytest.mark.parametrize(("book", "stored", "values"), [
    ("nf4", "F0D677", [1, -1, 0.5626170039176941, -0.09105003625154495, 0, 0]),
    ("fp4", "3B5E", [1, -1, 0.5, -0.16666667]),
])
def test_bitsandbytes(book: str, stored: str, values: list[float]) -> None:
    fields = {".weight": raw(stored), ".weight.absmax": f32(1)}
    assert np.array_equal(decoded(f"bnb-{book}", (1, len(values)), fields)[0], np.array(values, np.float32))


def test_bitsandbytes_int8() -> None:
    fields = {".weight": np.array([[127, 0, 129]], np.uint8), ".SCB": f32(2.54)}
    assert np.allclose(decoded("bnb-int8", (1, 3), fields), [[2.54, 0, -2.54]])


@pytest.mark.parametrize("name", ["fp8-block", "ct-fp8-block", "modelopt-fp8-block"])
def test_fp8_blocks(name: str) -> None:
    scheme = SCHEMES[name]
    shape = (130, 256)
    assert scheme.factors[0].role == "scale" and filled(scheme, (128, 128)).scale.grid(*shape) == (2, 2)
    fields = {".weight": np.full(shape, 0x40, np.uint8), scheme.factors[0].suffix: f32(0.5, 1, 2, 4)}
    value = decoded(name, shape, fields, block=(128, 128))
    assert (value[0, 0], value[0, 128], value[128, 0], value[129, 255]) == (1, 2, 4, 8)


def test_deepseek_v4_moves_fp4_into_fp8_tiles() -> None:
    """A tile's scale is the greatest of its groups' over 2^6; code 6 is 384 under the first group and 6 under one 2^6 smaller."""
    scale = np.exp2(np.array([127, 121]) - 127).astype(np.float32)
    tile = scale.max() / 64
    assert codec.encode(np.array([tile]), "e8m0")[0] == 121
    assert codec.encode(6 * scale / tile, "e4m3fn").tolist() == [0x7C, 0x4C]


@pytest.mark.parametrize(("element", "code", "value"), [
    ("e4m3fn", 0x38, 1), ("e4m3fn", 0x30, 0.5), ("e4m3fn", 0x7E, 448), ("e4m3fn", 0x77, 240), ("e4m3fn", 0x08, 2**-6), ("e4m3fn", 0x01, 2**-9),
    ("e8m0", 0x7F, 1), ("e8m0", 0, 2.0**-127), ("e2m1", 7, 6), ("e2m1", 15, -6), ("int4", 8, -8), ("uint4-8", 0, -8), ("uint4+1", 15, 16),
    ("nf4", 15, 1), ("fp4", 3, 1), ("fp4", 12, -1 / 3), ("e3m2", 31, 28), ("e2m3", 31, 7.5), ("int3", 7, -1),
])
def test_values_of_codes(element: str, code: int, value: float) -> None:
    assert codec.table(element)[code] == np.float32(value)


def test_nan_codes() -> None:
    assert np.flatnonzero(np.isnan(codec.table("e4m3fn"))).tolist() == [0x7F, 0xFF]
    assert np.flatnonzero(np.isnan(codec.table("e8m0"))).tolist() == [0xFF]


def test_ties_of_e2m1_go_to_the_even_code() -> None:
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])
    assert codec.encode(ties, "e2m1").tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert codec.encode(-ties, "e2m1").tolist() == [8, 10, 10, 12, 12, 14, 14]
