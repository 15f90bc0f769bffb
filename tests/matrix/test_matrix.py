"""The matrix of docs/matrix.md, run again: some cells always, every cell with WEIGHBRIDGE_MATRIX=all (`make test-matrix`)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import weighbridge as wb
from tests.matrix import cells, sources
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.rows import ROWS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "matrix.md"
ALL = os.environ.get("WEIGHBRIDGE_MATRIX") == "all"
FP8_BLOCK, FP8_ROW = ("hf-fp8", "ct-fp8-block", "modelopt-fp8-block"), ("ct-fp8-channel", "modelopt-fp8-channel")
MX4, MX8, INT4 = ("ct-mxfp4", "ct-nvfp4", "modelopt-nvfp4", "ct-mxfp8", "hf-fp8", "hf-bf16"), ("ct-mxfp8", "modelopt-mxfp8", "hf-bf16"), ("ct-int4", "gptq-int4", "awq-int4")
# Ways that move or respell what is there: exact by arithmetic, whatever the weights are.
EXACT: dict[str, tuple[str, ...]] = {
    "fp8-block F32": FP8_BLOCK, "fp8-block BF16": FP8_BLOCK, "ct-fp8-block": FP8_BLOCK, "modelopt-fp8-block": FP8_BLOCK,
    "fp8-block E8M0": (*FP8_BLOCK, *MX8), "fp8 and fp4 (DeepSeek-V4)": ("hf-fp8", *MX8),
    "fbgemm-fp8": FP8_ROW, "ct-fp8-channel": FP8_ROW, "modelopt-fp8-channel": FP8_ROW, "quark-fp8-channel": FP8_ROW,
    "ct-fp8-tensor": ("ct-fp8-tensor", "quark-fp8", *FP8_ROW), "modelopt-fp8": ("modelopt-fp8", "ct-fp8-tensor", "quark-fp8"),
    "ct-fp8-tensor static": ("modelopt-fp8",), "fp8-tensor (Mistral)": ("ct-fp8-tensor", "modelopt-fp8"), "quark-fp8": ("ct-fp8-tensor", "quark-fp8"),
    "mxfp8 (MiniMax-M3)": MX8, "ct-mxfp8": MX8, "modelopt-mxfp8": MX8, "ct-mxfp4": MX4, "modelopt-mxfp4": MX4, "quark-mxfp4": MX4,
    "ct-nvfp4": ("ct-nvfp4", "modelopt-nvfp4", "hf-bf16"), "modelopt-nvfp4": ("ct-nvfp4", "modelopt-nvfp4", "hf-bf16"),
    "ct-int4": INT4, "ct-int4-zeros": INT4, "ct-int4 g32": INT4, "w4afp8": INT4, "modelopt-int4": INT4, "awq-int4": INT4, "awq-int4 BF16": INT4,
    "gptq-int4 v2": INT4, "gptq-int4 v2 asymmetric": INT4, "gptq-int4 v1": INT4, "gptq-int4 v1 asymmetric": INT4, "gptq-int4 v2 g_idx": INT4,
    "ct-int8": ("ct-int8",), "ct-int8-packed-channel": ("ct-int8",), "modelopt-int8": ("ct-int8",), "bnb-int8": ("ct-int8",),
}


def chosen(family: str) -> list[tuple[str, str]]:
    """(form, target): every form and every target at least once."""
    forms = sources.forms_of(family)
    if ALL:
        return [(form, target) for form in forms for target in cells.TARGETS]
    turn = [(form, cells.TARGETS[n % len(cells.TARGETS)]) for n, form in enumerate(forms)]
    if family != "dense":
        return turn[: 2 * len(cells.TARGETS) : 2]
    return [*turn, *((form, target) for form, targets in EXACT.items() for target in targets[: 1 + len(form) % 3] if (form, target) not in turn)]


def stated() -> dict[tuple[str, str, str], str]:
    """The page as data."""
    found, family, columns = {}, "", []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")]
        if line.startswith("## "):
            family = line[3:].split(":")[0].lower()
        elif line.startswith("| form"):
            columns = [part.strip("`") for part in parts[1:]]
        elif line.startswith("| ") and "---" not in line:
            found |= {(family, parts[0], column): cell for column, cell in zip(columns, parts[1:], strict=True)}
    return found


STATED = stated()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """Sources, each written once."""
    known: dict[tuple[str, str], sources.Made] = {}

    def one(family: str, form: str) -> sources.Made:
        if (family, form) not in known:
            known[family, form] = sources.write(tmp_path_factory.mktemp("from") / "m", family, form)
        return known[family, form]

    return one


@pytest.mark.parametrize(("family", "form", "target"), [(f, *pair) for f in sources.FAMILIES for pair in chosen(f)])
def test_a_cell_is_what_the_page_says(family: str, form: str, target: str, made, tmp_path: Path) -> None:
    cell = cells.run_named(made(family, form), target, tmp_path)
    said = STATED[family, form, target]
    if cell.grade != "bounded":
        assert cell.short() == said
    else:
        assert said[-1:] == cell.short()[-1:] or said.isdigit() and cell.short().isdigit()
        assert abs(float(said.rstrip("*z")) - float(cell.db or 0)) < 1


@pytest.mark.parametrize("family", sources.FAMILIES)
def test_the_page_has_every_form_and_every_layout(family: str) -> None:
    assert {(form, target) for f, form, target in STATED if f == family} == {(form, target) for form in sources.forms_of(family) for target in cells.TARGETS}


@pytest.mark.parametrize("family", sources.FAMILIES)
def test_what_must_be_exact_is(family: str) -> None:
    """Repackings and respellings of the page; an expert that has no place in a layout is no exception."""
    unlike = [(form, target) for form, targets in EXACT.items() for target in targets if STATED[family, form, target] not in ("=", "=z")]
    assert unlike == []


def test_every_scheme_has_a_form() -> None:
    """A new row of `formats.schemes` needs one: what is missing is made otherwise, and said here."""
    elsewhere = {"fp8-block-fused": "tests/matrix/test_published.py", "fbgemm-fp8-fused": "not here: Llama 4 alone", "mxfp4-blocks": "tests/matrix/test_published.py", "neuron-fp8": "the column neuron"}
    have = {name for form in sources.FORMS.values() for name in form.schemes}
    assert SCHEMES.keys() - have == elsewhere.keys()


def test_every_layout_has_a_column() -> None:
    assert set(ROWS) | {"neuron"} == set(cells.TARGETS)


@pytest.mark.parametrize("form", sources.FORMS)
def test_the_tool_reads_what_plain_numpy_reads(form: str, made) -> None:
    """Each form by two readers that share no line; bitsandbytes' table of nested scales is reckoned in another order here."""
    from weighbridge.plan.reader import Reader

    one = made("dense", form)
    source = wb.open(one.folder).source
    assert not source.problems and {b.encoding.scheme for b in source.bound if b.encoding.quantized} <= set(one.form.schemes)
    for bound in source.bound:
        if bound.stored.stem in one.linear:
            q = Reader(source).matrix(bound)
            values, wanted = (q.T if SCHEMES.get(bound.encoding.scheme) and SCHEMES[bound.encoding.scheme].turned else q).decode(), one.decoded(bound.stored.stem)
            assert np.abs(values - wanted).max() <= (2.0**-22 if "nested" in form else 0) * np.abs(wanted).max(), bound.stored.name
