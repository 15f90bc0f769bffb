"""Every row of the table of schemes, and every element, has its page; its numbers are found again by plain Python."""

from __future__ import annotations

import re
from math import prod
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.lessons import every
from tests.lessons.every import Weight
from weighbridge.checkpoint.dtypes import BITS
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Role, every_field, filled
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.rows import ROWS
from weighbridge.lessons import elements, example, pages, schemes
from weighbridge.report.explain import scheme_svg, scheme_text
from weighbridge.report.explain import text as explain_text

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(params=SCHEMES)
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    return pages.document(request.param)


def test_the_example_by_plain_python(told: dict[str, Any]) -> None:
    """Bits cut out of big integers, ml_dtypes, one operation after the other in float32."""
    scheme = SCHEMES[told["what"]]
    _, fields = example.example(scheme)
    encoding = filled(scheme, example.BLOCK, example.GROUP)
    weight = Weight(None, "", told["what"], encoding, 1, example.SHAPE, {suffix: [raw] for suffix, raw in fields.items()})  # type: ignore[arg-type]
    assert len(told["example"]["weights"]) >= 4 and told["example"]["bytes"] == {suffix: len(raw) for suffix, raw in fields.items()}
    for w in told["example"]["weights"]:
        i, j, own = w["row"], w["column"], w["stored"]
        assert int(own["code"], 16) == weight.code(0, i, j) == int("".join(own["bits"]), 2)
        assert own["value"] == every.value_of(encoding.element, weight.code(0, i, j)) and np.isfinite(own["weight"])
        assert own["weight"] == float(weight.weight(0, i, j)) and own["scale"] == told["example"]["scale"] == float(weight.scale(0, i, j))
        zero = weight.zero(0, i, j)
        assert own["zero"] == told["example"]["zero"] == (None if zero is None else float(zero))
    assert len({w["stored"]["code"] for w in told["example"]["weights"]}) >= 3, "an example of one code shows nothing"


def test_sizes(told: dict[str, Any]) -> None:
    """Bytes from shapes and dtypes, counted here; and by the widths of the codes and one scale for each block."""
    scheme = SCHEMES[told["what"]]
    total = 0
    for field in told["fields"]:
        if field["shape"] is None:
            assert field["role"] in ("note", "offset")
            continue
        dtype = filled(scheme, *schemes.SIZES)
        held = next(f for f in every_field(dtype.fields) if f.suffix == field["suffixes"][0])
        assert field["bytes"] == prod(field["shape"]) * BITS[held.dtype] // 8
        total += field["bytes"] if field["weighs"] else 0
    assert total == told["bytes"] and told["bits_per_value"] == total * 8 / prod(told["shape"])
    assert {s for f in told["fields"] for s in f["suffixes"]} == {s for f in every_field(scheme.fields) for s in f.suffixes}
    width = ELEMENTS[scheme.code.element].bits
    assert width < told["bits_per_value"] < width + 1.1


def test_the_packing_is_a_map_of_all_bits(told: dict[str, Any]) -> None:
    scheme = SCHEMES[told["what"]]
    packed = [f for f in every_field(scheme.fields) if f.packing.packed and f.weighs]
    assert [p["suffix"] for p in told["packings"]] == [f.suffix for f in packed]
    for p, field in zip(told["packings"], packed, strict=True):
        bits = [part["word"] * p["word"] + bit for parts in p["places"] for part in parts for bit in range(part["bits"][0], part["bits"][1] + 1)]
        assert bits == [start + bit for start in field.packing.starts for bit in range(field.packing.width)]
        assert len(set(bits)) == len(bits) <= p["words"] * p["word"]
        shown = " ".join(scheme_text.packing_lines(p))
        assert all(f"v{value} " in shown for value in range(p["values"]))


def test_who_reads_it(told: dict[str, Any]) -> None:
    wanted = [(row.name, known.reader, known.loads) for row in ROWS.values() if told["what"] in row.schemes for known in row.readers]
    assert [(r["layout"], r["reader"], r["loads"]) for r in told["readers"]] == wanted


@pytest.mark.parametrize(("name", "goes", "always"), [
    ("awq-int4", "gptq-int4", True), ("awq-int4", "ct-int4-zeros", True), ("awq-int4", "ct-int4", False), ("mxfp4-blocks", "ct-mxfp4", True),
    ("mxfp4-blocks", "hf-bf16", True), ("mxfp4-blocks", "modelopt-nvfp4", False), ("fp8-block", "ct-fp8-block", True), ("mxfp8-inv", "modelopt-mxfp8", True),
])
def test_ways_that_change_nothing(name: str, goes: str, always: bool) -> None:
    assert {e["to"]: e["always"] for e in pages.document(name)["exact"]}[goes] == always


@pytest.mark.parametrize(("name", "never"), [("fp8-block", "hf-bf16"), ("fp8-block", "ct-fp8-channel"), ("awq-int4", "hf-f16"), ("ct-int8", "ct-fp8-channel")])
def test_ways_that_round_are_not_among_them(name: str, never: str) -> None:
    assert never not in {e["to"] for e in pages.document(name)["exact"]}


def test_every_form(told: dict[str, Any]) -> None:
    text, markdown = explain_text.text(told), explain_text.markdown(told)
    assert max(map(len, text.split("\n"))) <= 110, max(text.split("\n"), key=len)
    bare, markdown = " ".join(text.split()), markdown.replace("\\_", "_")
    for field in told["fields"]:
        assert all((suffix or "(the name itself)") in text and suffix in markdown for suffix in field["suffixes"])
    for line in scheme_text.example_lines(told):
        assert " ".join(line.split()) in bare and line in markdown
    assert told["formula"] in bare
    for run in re.findall(r"(?:^\|.*\|$\n?)+", re.sub(r"```.*?```", "", markdown, flags=re.DOTALL), re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in run.strip().split("\n")}) == 1


def test_nothing_in_the_picture_overlaps(told: dict[str, Any]) -> None:
    """Texts on one line stand apart, inside the picture; all bits of a word are there."""
    root = ElementTree.fromstring(scheme_svg.picture(told))
    every.stand_apart(root)
    cells = [e for e in root.iter(SVG + "title") if (e.text or "").startswith("bit ")]
    assert len(cells) == sum(p["words"] * p["word"] for p in told["packings"])


@pytest.mark.parametrize("word", elements.elements())
def test_elements(word: str) -> None:
    told = pages.document(word)
    form = ELEMENTS[told["element"]]
    assert len(told["codes"]) == (1 << form.bits if form.bits <= 8 else 0)
    for row in told["codes"]:
        if form.kind == "float":
            sign, exponent, mantissa = (int(part, 2) for part in row["bits"].split())
            power = 2.0 ** (max(exponent, 1) - form.bias - form.mantissa)
            value = (-1) ** sign * power * (mantissa + (1 << form.mantissa if exponent else 0))
        else:
            value = every.value_of(form.name, row["code"])
        assert row["value"] == value and int(row["bits"].replace(" ", ""), 2) == row["code"]
    users = {s.name for s in SCHEMES.values() for f in every_field(s.fields) if f.element == form.name and f.role in (Role.CODE, Role.SCALE, Role.ZERO, Role.DIVISOR, Role.ORDER)}
    assert set(told["used_by"]) == users
    text = explain_text.text(told)
    assert max(map(len, text.split("\n"))) <= 110 and ElementTree.fromstring(scheme_svg.picture(told)).tag == SVG + "svg"


def test_the_table_of_all() -> None:
    told = pages.document("formats")
    text = explain_text.text(told)
    assert all(re.search(rf"^{re.escape(name)} ", text, re.MULTILINE) for name in SCHEMES)
    assert told["kind"] == "formats" and "Terms" not in text
    table = text.partition("Schemes: how")[2].partition("\n\n")[0]
    assert max(map(len, table.split("\n"))) <= 80
