"""What pages of formats say, against ml_dtypes and numpy, which know nothing of the codec."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from weighbridge.lessons import containers, formats, wide

ORACLE = {"e4m3fn": ml_dtypes.float8_e4m3fn, "e4m3": ml_dtypes.float8_e4m3, "e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "e5m2": ml_dtypes.float8_e5m2,
          "e2m1": ml_dtypes.float4_e2m1fn, "e8m0": ml_dtypes.float8_e8m0fnu}
WIDE = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32}


def values(fmt: str) -> np.ndarray:
    count = 16 if fmt == "e2m1" else 256
    return np.arange(count, dtype=np.uint8).view(ORACLE[fmt]).astype(np.float64)


@pytest.mark.parametrize("fmt", ORACLE)
def test_every_code_means_what_ml_dtypes_says(fmt: str) -> None:
    rows, true = formats.document(fmt)["codes"], values(fmt)
    assert [row["code"] for row in rows] == list(range(len(true)))
    for row, value in zip(rows, true, strict=True):
        if np.isnan(value):
            assert (row["kind"], row["value"]) == ("nan", None)
        elif np.isinf(value):
            assert (row["kind"], row["value"], row["negative"]) == ("infinity", None, bool(value < 0))
        else:
            assert row["value"] == value and row["negative"] == bool(np.signbit(value))
            assert (row["kind"] == "zero") == (value == 0)


@pytest.mark.parametrize("fmt", ORACLE)
def test_counts_and_limits(fmt: str) -> None:
    told, true = formats.document(fmt), values(fmt)
    finite, info = true[np.isfinite(true)], ml_dtypes.finfo(ORACLE[fmt])
    assert told["counts"] == {"codes": len(true), "finite_codes": len(finite), "values": len(np.unique(finite)), "zero_codes": int(np.sum(true == 0)),
                              "infinity_codes": int(np.sum(np.isinf(true))), "nan_codes": int(np.sum(np.isnan(true)))}
    assert told["max"] == float(info.max) == finite.max()
    assert told["min_normal"] == float(info.smallest_normal)
    assert told["bits"] == info.bits and told["fields"]["mantissa"] == info.nmant
    if fmt == "e8m0":
        assert told["min_subnormal"] is None
    else:
        assert told["min_subnormal"] == float(info.smallest_subnormal) == finite[finite > 0].min()
    assert 2 ** told["octaves"] == pytest.approx(finite.max() / finite[finite > 0].min(), rel=1e-9)


@pytest.mark.parametrize("fmt", ORACLE)
def test_bits_are_the_code_and_its_fields_give_the_value(fmt: str) -> None:
    told = formats.document(fmt)
    for row in told["codes"]:
        assert int(row["bits"].replace(" ", ""), 2) == row["code"]
        if row["kind"] in ("normal", "subnormal"):
            parts = row["bits"].split()
            sign = -1 if told["fields"]["sign"] and parts.pop(0) == "1" else 1
            exponent, mantissa = int(parts[0], 2), Fraction(int(parts[1], 2), 2 ** len(parts[1])) if len(parts) > 1 else Fraction(0)
            lead = 1 if row["kind"] == "normal" else 0
            power = max(exponent, 1) if told["fields"]["mantissa"] else exponent
            assert Fraction(row["value"]) == sign * (lead + mantissa) * Fraction(2) ** (power - told["bias"])


@pytest.mark.parametrize("fmt", ORACLE)
def test_binades_hold_every_positive_value_once_with_its_step(fmt: str) -> None:
    told, true = formats.document(fmt), values(fmt)
    positive = np.unique(true[np.isfinite(true) & (true > 0)])
    assert sum(row["values"] for row in told["binades"]) == len(positive)
    for row in told["binades"]:
        inside = positive[(positive >= row["first"]) & (positive <= row["last"])]
        assert len(inside) == row["values"] and (len(inside) < 2 or set(np.diff(inside)) == {row["step"]})


@pytest.mark.parametrize("fmt", [fmt for fmt in ORACLE if fmt != "e8m0"])
def test_the_error_bounds_hold_and_are_reached(fmt: str) -> None:
    told = formats.document(fmt)
    low, top = told["min_normal"], told["max"]
    x = np.exp2(np.linspace(np.log2(low), np.log2(top), 200_001))
    grid = values(fmt)
    grid = np.unique(grid[np.isfinite(grid)])
    right = np.clip(np.searchsorted(grid, x), 1, len(grid) - 1)
    error = np.minimum(np.abs(grid[right] - x), np.abs(grid[right - 1] - x)) / x
    bound = told["relative_error_bound"]
    assert error.max() <= bound and error.max() > 0.9 * bound / (1 + bound)
    small = np.linspace(0, low, 100_001)
    right = np.clip(np.searchsorted(grid, small), 1, len(grid) - 1)
    absolute = np.minimum(np.abs(grid[right] - small), np.abs(grid[right - 1] - small))
    assert 0.9 * told["absolute_error_bound_subnormal"] < absolute.max() <= told["absolute_error_bound_subnormal"]


@pytest.mark.parametrize("fmt", ORACLE)
def test_where_it_ends(fmt: str) -> None:
    end, true = formats.document(fmt)["end"], values(fmt)
    assert true[end["code"]] == end["largest"]
    if end["next_code"] is not None:
        value = true[end["next_code"]]
        assert end["next_code"] == end["code"] + 1 and {"nan": np.isnan(value), "infinity": np.isinf(value)}[end["next_is"]]
    else:
        assert fmt in ("e4m3fnuz", "e2m1")


@pytest.mark.parametrize("fmt", ["e4m3fn", "e4m3", "e4m3fnuz", "e5m2"])
def test_what_is_said_of_ml_dtypes_beyond_the_end(fmt: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        cast = float(np.float32(1e9).astype(ORACLE[fmt]))
    word = "NaN" if np.isnan(cast) else "infinity" if np.isinf(cast) else "the end"
    assert f"ml_dtypes make {word}" in formats.document(fmt)["beyond"].replace("makes", "make")


@pytest.mark.parametrize("fmt", WIDE)
def test_wide_formats(fmt: str) -> None:
    told, info = wide.document(fmt), ml_dtypes.finfo(WIDE[fmt])
    assert (told["max"], told["min_normal"], told["min_subnormal"]) == (float(info.max), float(info.smallest_normal), float(info.smallest_subnormal))
    assert told["bits"] == info.bits and told["fields"]["mantissa"] == info.nmant and told["step_at_one"] == float(info.eps)
    for sample in told["samples"]:
        stored = np.array([sample["value"]], np.float32).astype(WIDE[fmt])
        assert sample["stored"] == float(stored[0]) and sample["code"] == int(stored.view(f"u{stored.itemsize}")[0])
        assert int(sample["bits"].replace(" ", ""), 2) == sample["code"]
    whole = told["whole_numbers_up_to"]
    exact = np.array([whole - 1, whole, whole + 1], np.float64).astype(WIDE[fmt]).astype(np.float64)
    assert list(exact[:2]) == [whole - 1, whole] and exact[2] != whole + 1
    if info.bits == 16:
        with np.errstate(invalid="ignore"):
            every = np.arange(1 << 16, dtype=np.uint16).view(WIDE[fmt]).astype(np.float64)
        assert told["counts"]["nan_codes"] == np.isnan(every).sum() and told["counts"]["finite_codes"] == np.isfinite(every).sum()
        assert told["counts"]["values"] == len(np.unique(every[np.isfinite(every)]))


@pytest.mark.parametrize(("name", "bits"), [("mxfp8", 8.25), ("mxfp4", 4.25), ("nvfp4", 4.5), ("int8", 8 + 32 / 3072), ("int4", 4.5)])
def test_what_a_compound_costs(name: str, bits: float) -> None:
    told = containers.document(name)
    sizes, (rows, columns) = told["sizes"], told["sizes"]["shape"]
    assert told["bits_per_value"] == pytest.approx(bits)
    assert (sizes["code_bytes"] + sizes["scale_bytes"]) * 8 == pytest.approx(bits * rows * columns)


@pytest.mark.parametrize(("name", "element"), [("mxfp8", "e4m3fn"), ("mxfp4", "e2m1"), ("nvfp4", "e2m1")])
def test_the_worked_group_by_ml_dtypes(name: str, element: str) -> None:
    work = containers.document(name)["worked"]
    given = np.array([(-1) ** i * (i + 1) / 100 for i in range(work["count"])])
    top = float(ml_dtypes.finfo(ORACLE[element]).max)
    if name == "nvfp4":
        second = 4 * given[-1:].__abs__()[0] / (top * 448)
        scale = float(np.float32(abs(given).max() / top / second).astype(ml_dtypes.float8_e4m3fn)) * second
    else:
        scale = 2.0 ** (np.floor(np.log2(abs(given).max())) - np.floor(np.log2(top)))
    assert work["scale"] == pytest.approx(scale, rel=1e-12)
    held = np.clip((given / scale).astype(np.float32), -top, top).astype(ORACLE[element]).astype(np.float64)
    assert list(held) == work["code_values"]
    assert np.allclose(held * scale, work["decoded"], rtol=1e-12) and work["largest_error"] == pytest.approx(np.abs(held * scale - given).max())
    assert "the byte" not in work["how"] or f"the byte {int(np.log2(scale)) + 127}" in work["how"]


def test_the_worked_whole_numbers() -> None:
    for name, top in (("int8", 127), ("int4", 7)):
        work = containers.document(name)["worked"]
        given = np.array(work["values"])
        scale = float(np.float32(0.32 / top).astype(ml_dtypes.bfloat16)) if name == "int4" else float(np.float32(0.32 / top))
        assert work["scale"] == scale and list(np.clip(np.rint((given / scale).astype(np.float32)), -top - 1, top)) == work["code_values"]
        back = np.array(work["codes"]) - 8 if name == "int4" else np.array(work["codes"], np.uint8).view(np.int8)
        assert list(back) == work["code_values"]


def test_reaches_are_those_of_the_formats() -> None:
    for row in wide.reaches():
        told = wide.document(row["name"]) if row["name"] in WIDE else formats.document(row["name"])
        assert (row["to"], row["normal"], row["from"]) == (told["max"], told["min_normal"], told["min_subnormal"] or told["min_normal"])
    assert {row["name"] for row in wide.reaches()} == set(ORACLE) | set(WIDE)
