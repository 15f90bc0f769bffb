"""Every number of `explain SRC TENSOR`, found again by other means: ml_dtypes, exact sums, plain loops."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.lessons import tensors
from tests.lessons.tensors import CASES, Case
from weighbridge.encoding import codec
from weighbridge.lessons.tensor import document

FN, IEEE = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e4m3


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return CASES[request.param](tmp_path / "c")


def positions(case: Case) -> list[tuple[int, int, int]]:
    lead, rows, cols = case.shape
    return [(m, i, j) for m in range(lead) for i in range(rows) for j in range(cols)]


def place(case: Case, told: dict[str, Any], weight: dict[str, Any]) -> tuple[int, int, int]:
    return told["block"]["matrix"] or 0, weight["row"], weight["column"]


def same(a: float | None, b: float) -> bool:
    return a is not None and (a == b or (math.isnan(a) and math.isnan(b)))


def test_facts_and_histogram(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    assert told["problem"] == "" and told["format"]["name"] == case.fmt
    assert (told["tensor"]["matrices"], told["tensor"]["rows"], told["tensor"]["columns"]) == case.shape
    assert tuple(told["scale"]["block"]) == case.block and told["scale"]["says"]
    counted = Counter(case.code(*p) for p in positions(case))
    assert told["codes"]["counts"] == [counted[code] for code in range(len(told["codes"]["counts"]))]
    assert told["codes"]["total"] == math.prod(case.shape) == told["looked_at"]["values"]
    for code, value in enumerate(told["codes"]["values"]):
        assert value is None and not math.isfinite(case.value(code)) or value == case.value(code)
    assert told["codes"]["zero"] == sum(n for code, n in counted.items() if case.value(code) == 0)
    largest = max(abs(case.value(c)) for c in range(len(told["codes"]["counts"])) if math.isfinite(case.value(c)))
    assert told["format"]["max"] == largest
    assert told["codes"]["saturated"] == sum(n for code, n in counted.items() if abs(case.value(code)) >= told["format"]["max"])


def test_eight_weights(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    block, weights = told["block"], told["block"]["weights"]
    assert len(weights) == 8 and len({(w["row"], w["column"]) for w in weights}) == 8
    for w in weights:
        m, i, j = place(case, told, w)
        assert block["rows"][0] <= i < block["rows"][1] and block["columns"][0] <= j < block["columns"][1]
        own, code, scale = w["stored"], case.code(m, i, j), case.scale(m, i, j)
        assert int(own["code"], 16) == code and int("".join(own["bits"]), 2) == code
        assert own["value"] == case.value(code) and own["scale"] == float(scale) == block["scale"] and own["weight"] == float(case.weight(m, i, j))
        assert w["reciprocal"] == float(np.float32(case.value(code)) * (np.float32(1) / scale))
        assert w["bf16"] == float(case.weight(m, i, j).astype(ml_dtypes.bfloat16))
        assert worked_out(own["formula"], case, code)
        assert w["step"] == float(np.float32(next_step(case, code)) * scale)


def test_why_a_weight_was_chosen_is_true(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    block = told["block"]
    inside = [case.value(case.code(block["matrix"] or 0, i, j)) for i in range(*block["rows"]) for j in range(*block["columns"])]
    size = sorted(abs(v) for v in inside)
    middle, least, above = float(np.median(size)), min((v for v in size if v), default=0), min((v for v in size if v > 240), default=0)
    nearest = min(abs(v - middle) for v in size if v)
    for w in block["weights"]:
        own, code = w["stored"]["value"], int(w["stored"]["code"], 16)
        assert {
            "the largest": abs(own) == size[-1], "smallest above 240": abs(own) == above, "odd below 0x10: halving rounds it": code & 0x71 == 1,
            "the smallest but zero": abs(own) == least, "a zero": own == 0, "the most negative": own == min(inside), "the next in order": True,
            "most lost by 448/240": code & 7 == 0 and code & 0x7F >= 0x10, "the median": abs(abs(own) - middle) == nearest,
        }[w["why"]], w
    assert block["weights"][0]["why"] == "the largest"


def worked_out(formula: str, case: Case, code: int) -> bool:
    """The right side of the formula, reckoned from its own text, is the value of the code."""
    if formula.startswith("two's"):
        return float(formula.rpartition("= ")[2]) == case.value(code)
    text, _, said = formula.partition(" = ")
    value = eval(text.replace("^", "**").replace("x", "*"))
    return value == case.value(code) and float(said) == pytest.approx(value, rel=1e-8)


def next_step(case: Case, code: int) -> float:
    """Distance to the next larger magnitude of the format; at the end, the last distance."""
    every = sorted({abs(case.value(c)) for c in range(16 if case.fmt in ("e2m1", "uint4-8") else 256) if math.isfinite(case.value(c))})
    at = every.index(abs(case.value(code)))
    return every[at + 1] - every[at] if at + 1 < len(every) else every[at] - every[at - 1]


def test_block(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    block, (_, rows, cols) = told["block"], case.shape
    m, (high, wide) = block["matrix"] or 0, case.block
    grid_rows = -(-rows // high)
    assert block["at"] == [m * grid_rows + block["rows"][0] // high, block["columns"][0] // wide]
    assert block["rows"][1] == min(rows, block["rows"][0] + high) and block["columns"][1] == min(cols, block["columns"][0] + wide)
    inside = [(m, i, j) for i in range(*block["rows"]) for j in range(*block["columns"])]
    assert block["amax"] == float(max(abs(case.weight(*p)) for p in inside))
    assert block["full"] == float(np.float32(told["format"]["max"]) * case.scale(*inside[0]))


def test_scales(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    lead, rows, cols = case.shape
    high, wide = case.block
    grid = np.array([[case.scale(m, i, j) for j in range(0, cols, wide)] for m in range(lead) for i in range(0, rows, high)])
    stats = told["scales"]
    assert (stats["least"], stats["median"], stats["largest"]) == (float(grid.min()), float(np.median(grid)), float(grid.max()))
    assert stats["read"] == stats["of"] == grid.size and stats["outliers"] == int(((grid >= 4 * np.median(grid)) | (grid <= np.median(grid) / 4)).sum())
    assert stats["powers_of_two"] == all(math.frexp(v)[0] == 0.5 for v in grid.ravel().tolist())
    for named in stats["named"]:
        assert named["scale"] == float(grid[tuple(named["at"])]) and named["ratio"] == named["scale"] / stats["median"]
    mapped = told["maps"]["scale"]
    down, right = mapped["step"]
    for i, row in enumerate(mapped["cells"]):
        assert row == [float(grid[i * down : (i + 1) * down, j * right : (j + 1) * right].max()) for j in range(len(row))]


def full_blocks(case: Case, largest: float) -> int:
    return len({(m, i // case.block[0], j // case.block[1]) for m, i, j in positions(case) if abs(case.value(case.code(m, i, j))) >= largest})


def test_full_blocks(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    assert told["scales"]["full_blocks"] == full_blocks(case, told["format"]["max"])


def test_costs(case: Case) -> None:
    told = document(case.checkpoint, case.name)
    every = positions(case)
    value = np.array([case.weight(*p) for p in every], np.float32).reshape(case.shape)
    rows = {row["way"]: row for row in told["costs"]}
    assert close(rows["bf16"], value, value.astype(ml_dtypes.bfloat16).astype(np.float32))
    assert rows["bf16"]["changed"] == int((value != value.astype(ml_dtypes.bfloat16).astype(np.float32)).sum())
    made = {"row-240": ((1, case.shape[2]), 240.0), "block-448": ((128, 128), 448.0), "block-240": ((128, 128), 240.0)}
    for way, (block, peak) in made.items():
        if way in rows:
            after = np.stack([codec.decode(*codec.quantize(matrix, block, peak), block) for matrix in value])
            assert close(rows[way], value, after), way
            assert rows[way]["changed"] == int((after != value).sum())
    scale = np.array([case.scale(*p) for p in every], np.float64)
    code_value = np.array([case.value(case.code(*p)) for p in every])
    assert close(rows["reciprocal"], code_value * scale, code_value / scale)
    assert rows["reciprocal"]["factor"] == 1 / told["scales"]["median"] ** 2 or len(every) != told["looked_at"]["values"]


def close(row: dict[str, Any], before: np.ndarray, after: np.ndarray) -> bool:
    """Relative error and dB of a way, from exact sums."""
    signal = math.fsum(float(v) ** 2 for v in before.ravel())
    error = math.fsum((float(a) - float(b)) ** 2 for a, b in zip(before.ravel(), after.ravel(), strict=True))
    if error == 0:
        return row["relative"] == 0 and row["sqnr_db"] is None
    return math.isclose(row["relative"], math.sqrt(error / signal), rel_tol=1e-9) and math.isclose(row["sqnr_db"], 10 * math.log10(signal / error), rel_tol=1e-9)


def halved(code: int) -> int:
    value = np.uint8(code).view(FN).astype(np.float32) / np.float32(2)
    return int(value.astype(FN).view(np.uint8))


def legacy(code: int) -> int:
    value = np.uint8(code).view(FN).astype(np.float32) / np.float32(448.0 / 240.0)
    return int(value.astype(ml_dtypes.bfloat16).astype(np.float32).astype(FN).view(np.uint8))


FN_CASES = ("block", "block-outlier", "ragged-bf16-scales", "tensor", "channel", "mxfp8")


@pytest.mark.parametrize("name", FN_CASES)
def test_conventions_of_e4m3fn(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path / "c")
    told = document(case.checkpoint, case.name)
    every = [(case.code(*p), float(case.scale(*p))) for p in positions(case)]
    raw = np.array([c for c, _ in every], np.uint8).view(IEEE).astype(np.float32)
    both = told["conventions"]
    assert (both["infinite"], both["nan"]) == (int(np.isinf(raw).sum()), int(np.isnan(raw).sum())) and both["above"] == int((~np.isfinite(raw)).sum())
    moved = [(case.value(c) * s, float(np.uint8(halved(c)).view(IEEE)) * 2 * s) for c, s in every]
    assert both["equal"] == sum(a == b for a, b in moved) and both["inexact"] == sum(a != b for a, b in moved)
    assert both["largest_after"] == max(abs(float(np.uint8(halved(c)).view(IEEE))) for c, _ in every)
    rows = {row["way"]: row for row in told["costs"]}
    assert rows["halve"]["changed"] == both["inexact"]
    assert close(rows["halve"], np.array([a for a, _ in moved]), np.array([b for _, b in moved]))
    factor = float(np.float32(448.0 / 240.0))
    old = np.array([case.value(c) * s for c, s in every])
    new = np.array([float(np.uint8(legacy(c)).view(FN)) * factor * s for c, s in every])
    assert close(rows["legacy-448-240"], old, new)
    for w in told["block"]["weights"]:
        code, scale = int(w["stored"]["code"], 16), np.float32(w["stored"]["scale"])
        assert int(w["other"]["code"], 16) == halved(code) and w["other"]["scale"] == float(scale * np.float32(2))
        assert w["other"]["weight"] == float(np.float32(np.uint8(halved(code)).view(IEEE)) * (scale * np.float32(2)))
        assert w["difference"] == w["other"]["weight"] - w["stored"]["weight"]
        assert int(w["legacy"]["code"], 16) == legacy(code) and w["legacy"]["scale"] == float(scale * np.float32(448.0 / 240.0))
        assert w["legacy"]["weight"] == float(np.float32(np.uint8(legacy(code)).view(FN)) * (scale * np.float32(448.0 / 240.0)))
        seen = float(np.uint8(code).view(IEEE))
        assert w["raw"] == ("NaN" if math.isnan(seen) else "infinity" if seen == math.inf else "-infinity" if seen == -math.inf else f"{seen:g}")


@pytest.mark.parametrize("name", ["block", "ragged-bf16-scales", "mxfp8", "tensor"])
def test_maps_of_errors(name: str, tmp_path: Path) -> None:
    case = CASES[name](tmp_path / "c")
    told = document(case.checkpoint, case.name)
    halves = [float(np.uint8(halved(code)).view(IEEE)) for code in range(256)]
    steps = [next_step(case, code) / 2 if math.isfinite(case.value(code)) else math.nan for code in range(256)]
    for key in ("error", "bound"):
        mapped, sums = told["maps"][key], {}
        down, right = mapped["step"]
        for m, i, j in positions(case):
            code, scale = case.code(m, i, j), float(case.scale(m, i, j))
            off = case.value(code) - 2 * halves[code] if key == "error" else steps[code]
            cell = sums.setdefault((i // case.block[0] // down, j // case.block[1] // right), [[], []])
            cell[0].append((off * scale) ** 2)
            cell[1].append((case.value(code) * scale) ** 2)
        for (i, j), (error, signal) in sums.items():
            assert math.isclose(mapped["cells"][i][j], math.sqrt(math.fsum(error) / math.fsum(signal)), rel_tol=1e-9)


def test_neuron_form(tmp_path: Path) -> None:
    """Stacked, turned, up to 240: nothing lies above, and doubling is the exact way back."""
    case = CASES["neuron"](tmp_path / "c")
    told = document(case.checkpoint, case.name)
    assert told["conventions"]["stored"] == "e4m3" and told["conventions"]["above"] == 0 and told["tensor"]["axes"] == ["expert", "in", "out"]
    for w in told["block"]["weights"]:
        code = int(w["stored"]["code"], 16)
        twice = 2 * float(np.uint8(code).view(IEEE))
        assert w["overflows"] == (abs(twice) > 448)
        if not w["overflows"]:
            assert float(np.uint8(int(w["other"]["code"], 16)).view(FN)) == twice and w["difference"] == 0


def test_the_block_that_is_chosen(tmp_path: Path) -> None:
    outlier = document(CASES["block-outlier"](tmp_path / "a").checkpoint, tensors.NAME)
    assert outlier["block"]["at"] == [1, 2] and "times the median" in outlier["block"]["why"] and outlier["scales"]["named"][0]["at"] == [1, 2]
    case = CASES["block"](tmp_path / "b")
    told = document(case.checkpoint, tensors.NAME)
    lost = Counter((i // 32, j // 32) for m, i, j in positions(case) if case.code(m, i, j) & 0x71 == 1)
    assert lost[tuple(told["block"]["at"])] == max(lost.values())
    assert document(case.checkpoint, tensors.NAME, at=(40, 5))["block"]["rows"] == [32, 64]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "F64"])
def test_plain_floats(dtype: str, tmp_path: Path) -> None:
    checkpoint, value = tensors.plain(tmp_path / "c", dtype)
    told = document(checkpoint, tensors.NAME)
    assert told["scale"] is None and told["codes"] is None and told["maps"] == {}
    seen = value.astype(np.float32)
    least = {"F16": 2.0**-14}.get(dtype, 2.0**-126)
    powers = Counter(math.frexp(float(v))[1] - 1 for v in value.ravel() if abs(float(v)) >= least)
    assert told["exponents"]["subnormal"] == sum(0 < abs(float(v)) < least for v in value.ravel())
    assert {row["power"]: row["count"] for row in told["exponents"]["powers"] if row["count"]} == dict(powers)
    assert told["exponents"]["largest"] == float(np.abs(seen).max()) and told["exponents"]["total"] == value.size
    rows = {row["way"]: row for row in told["costs"]}
    assert ("bf16" in rows) == (dtype != "BF16")
    for way, block, peak in (("block-448", (128, 128), 448.0), ("block-240", (128, 128), 240.0), ("row-240", (1, 200), 240.0)):
        assert close(rows[way], seen, codec.decode(*codec.quantize(seen, block, peak), block)), way
    tile = seen[:128, :128]
    assert told["block"]["amax"] == float(np.abs(tile).max())
    codes, scale = codec.quantize(tile, (128, 128), 448.0)
    assert told["block"]["scales"]["block-448"] == float(scale[0, 0])
    for w in told["block"]["weights"]:
        i, j = w["row"], w["column"]
        assert w["stored"]["weight"] == float(seen[i, j]) and w["bf16"] == float(seen[i, j].astype(ml_dtypes.bfloat16))
        assert int("".join(w["stored"]["bits"]), 2) == int(value[i : i + 1, j].view(f"u{value.itemsize}")[0])
        assert int(w["block-448"]["code"], 16) == int(codes[i, j]) and w["block-448"]["weight"] == float(codec.decode(codes, scale, (128, 128))[i, j])


def test_the_same_document_twice(case: Case) -> None:
    assert document(case.checkpoint, case.name) == document(case.checkpoint, case.name)
