"""`explain SRC TENSOR` for every row of the table of schemes: each number found again by plain Python."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.lessons import every
from tests.lessons.every import Weight
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.store import Folder
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Role
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons import tensor_read
from weighbridge.lessons.tensor import document
from weighbridge.lessons.tensor_source import locate
from weighbridge.report.explain import tensor_text

ORDERED = [name for name, scheme in SCHEMES.items() if any(f.role is Role.ORDER for f in scheme.factors)]
CASES = [(name, False) for name in SCHEMES] + [(name, True) for name in ORDERED]


@pytest.fixture(params=CASES, ids=lambda case: case[0] + ("-order" if case[1] else ""))
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Weight, dict[str, Any]]:
    weight = every.make(tmp_path / "c", *request.param)
    return weight, document(weight.checkpoint, weight.name)


def test_every_number(made: tuple[Weight, dict[str, Any]]) -> None:
    weight, told = made
    rows, cols = weight.shape
    assert told["problem"] == "" and told["scheme"]["name"] == weight.scheme and told["format"]["name"] == weight.encoding.element
    assert (told["tensor"]["matrices"], told["tensor"]["rows"], told["tensor"]["columns"]) == (weight.lead, rows, cols)
    places = [(m, i, j) for m in range(weight.lead) for i in range(rows) for j in range(cols)]
    counted = Counter(weight.code(*p) for p in places)
    assert told["codes"]["counts"] == [counted[c] for c in range(len(told["codes"]["counts"]))]
    for code, value in enumerate(told["codes"]["values"]):
        assert value is None or value == every.value_of(weight.encoding.element, code)
    values = {p: weight.weight(*p) for p in places}
    assert told["codes"]["zero"] == sum(v == 0 for v in values.values())
    block = told["block"]
    inside = [(block["matrix"] or 0, i, j) for i in (block["rows_apart"] or range(*block["rows"])) for j in range(*block["columns"])]
    assert len({weight.place(weight.encoding.scale, *p) for p in inside}) == 1, "a block has one scale"
    assert block["amax"] == float(max(abs(values[p]) for p in inside))
    for w in block["weights"]:
        m, i, j = block["matrix"] or 0, w["row"], w["column"]
        own, zero = w["stored"], weight.zero(m, i, j)
        assert (m, i, j) in inside and int(own["code"], 16) == weight.code(m, i, j) == int("".join(own["bits"]), 2)
        assert own["value"] == every.value_of(weight.encoding.element, weight.code(m, i, j))
        assert own["scale"] == block["scale"] == float(weight.scale(m, i, j)) and own["zero"] == (None if zero is None else float(zero))
        assert own["weight"] == float(values[m, i, j])
    factors = {f.role.value: f for f in weight.encoding.factors}
    for step in block["steps"]:
        assert step["result"] == float(weight.factor(factors[step["role"]], *inside[0]))
    assert [s["role"] for s in block["steps"]] == [r for r in ("zero", "scale", "divisor") if r in factors]
    grid = np.array(sorted({(m, weight.place(weight.encoding.scale, m, i, j)): float(weight.scale(m, i, j)) for m, i, j in places}.values()))
    assert (told["scales"]["least"], told["scales"]["largest"]) == (grid[0], grid[-1])
    if not weight.encoding.scale.flat:
        assert told["scales"]["median"] == float(np.median(grid.astype(np.float32)))


def test_the_place_of_the_bits(made: tuple[Weight, dict[str, Any]]) -> None:
    """The bits of a code, taken out of the words that the page shows, are the code; and the words are the file's."""
    weight, told = made
    packing, item = weight.encoding.code.packing, weight.encoding.code.packing.word
    m = told["block"]["matrix"] or 0
    raw = weight.raw[weight.encoding.code.suffix][m]
    for w in told["block"]["weights"]:
        assert bool(w["place"]) == packing.packed
        code, shift = 0, 0
        for place in w["place"]:
            low, high = place["bits"]
            code |= (int(place["hex"], 16) >> low & (1 << high - low + 1) - 1) << shift
            shift += high - low + 1
            wide = packing.units(weight.shape[1]) * packing.size // item if packing.axis == -1 else weight.shape[1]
            number = place["index"][0] * wide + place["index"][1] if len(place["index"]) == 2 else place["index"][0]
            assert int(place["hex"], 16) == int.from_bytes(raw[number * item : (number + 1) * item], "little") and place["word"] == 8 * item
        assert not w["place"] or (code, shift) == (int(w["stored"]["code"], 16), packing.width)


def test_every_form_shows_it(made: tuple[Weight, dict[str, Any]]) -> None:
    weight, told = made
    text, page = tensor_text.text(told), tensor_text.html(told)
    assert max(map(len, text.split("\n"))) <= 110, max(text.split("\n"), key=len)
    assert f"weighbridge explain {weight.scheme}" in " ".join(text.split()) and "None" not in text.replace("None of", "")
    for w in told["block"]["weights"]:
        for place in w["place"]:
            assert place["hex"] in text and place["hex"] in page
    every.stand_apart(ElementTree.fromstring(tensor_text.svg(told)))
    for form in (tensor_text.svg(told), *re.findall(r"<svg.*?</svg>", page, re.DOTALL)):
        ElementTree.fromstring(form)
    assert tensor_text.markdown(told)


@pytest.mark.parametrize(("name", "order"), CASES)
def test_a_sample_is_the_same_numbers(name: str, order: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From elsewhere, in bands and by ranges: the codes and the block that is worked are those of the file, and not all of it is read."""
    class Far(Folder):
        fetched = 0

        def path(self, file: str) -> Path | None:
            return None

        def read(self, file: str, offset: int, length: int) -> bytes:
            Far.fetched += length if file.endswith(".safetensors") and offset > 8 else 0
            return super().read(file, offset, length)

    weight = every.make(tmp_path / "c", name, order)
    monkeypatch.setattr(tensor_read, "LOOK_FAR", 16 * 96)
    monkeypatch.setattr(tensor_read, "BANDS", 4)
    told = document(Checkpoint(Far(tmp_path / "c")), weight.name, at=(40, 70))
    assert 0 < told["looked_at"]["values"] <= 16 * 96 and not told["looked_at"]["local"]
    first = told["block"]["weights"][0]
    assert (first["row"], first["column"]) == (40, 70) and first["stored"]["weight"] == float(weight.weight(0, 40, 70))
    matrix = tensor_read.Matrix(weight.checkpoint, locate(weight.checkpoint, weight.name))
    monkeypatch.setattr(matrix, "near", False)
    rows = [r for start, n in matrix.runs for r in range(start, start + n)]
    counted = Counter(weight.code(r // 64, r % 64, j) for r in rows for j in range(96))
    assert told["codes"]["counts"] == [counted[c] for c in range(1 << ELEMENTS[weight.encoding.element].bits)]
