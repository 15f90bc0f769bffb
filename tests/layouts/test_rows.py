"""Rows of layouts: they are complete, they agree with the schemes, and they say truly what fits."""

from __future__ import annotations

from importlib import import_module

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layouts.families import encoding
from weighbridge.errors import Usage
from weighbridge.formats.scheme import GROUP, plain
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.choice import DEVICES, for_reader
from weighbridge.layouts.rows import READERS, ROWS, cannot_hold, layout_of, row

# CONTRACT: what `--to` takes beside `neuron`.
NAMES = ["hf-bf16", "hf-f16", "hf-fp8", "hf-mxfp4", "ct-fp8-tensor", "ct-fp8-channel", "ct-fp8-block", "ct-int8", "ct-int4", "ct-nvfp4", "ct-mxfp4", "ct-mxfp8",
         "modelopt-fp8", "modelopt-fp8-channel", "modelopt-fp8-block", "modelopt-nvfp4", "modelopt-mxfp8", "quark-fp8", "gptq-int4", "awq-int4"]
FLAGS = {"--block", "--group", "--scale-dtype", "--zero-points", "--keep-scales", "--inexact", "--activation-scales"}
QUANTIZED = [r for r in ROWS.values() if r.schemes]


def test_there_is_a_row_for_every_writable_layout() -> None:
    assert list(ROWS) == NAMES
    with pytest.raises(Usage, match="known are hf-bf16"):
        row("gguf-q8_0")


@pytest.mark.parametrize("one", ROWS.values(), ids=NAMES)
def test_a_row_agrees_with_its_schemes(one) -> None:
    assert set(one.schemes) <= SCHEMES.keys() and set(one.options) <= FLAGS
    assert import_module(f"weighbridge.layouts.configs.{one.writer}").written
    for name in one.schemes[:1]:
        assert layout_of(name) == one.name and SCHEMES[name].rule
        made = encoding(one)
        assert (one.block is not None) == (made.strategy == "block") and bool(one.group) == (made.strategy == "group")
        assert one.scale_dtype in made.scale.dtypes or one.scale_dtype in SCHEMES[name].factors[0].dtypes
        assert ("--group" in one.options) == any(GROUP in field.block for field in SCHEMES[name].factors)


@pytest.mark.parametrize("one", ROWS.values(), ids=NAMES)
def test_what_is_said_of_a_reader_has_a_source(one) -> None:
    names = [known.reader for known in one.readers]
    assert len(set(names)) == len(names) and set(names) <= set(READERS)
    for known in one.readers:
        assert known.loads in ("yes", "no") and known.source
        assert known.condition or known.loads == "yes"
        assert not known.least or f"{known.least / 10:.1f}" in known.condition


@pytest.mark.parametrize(("layout", "shape", "says"), [
    ("ct-int4", (256, 100), "100 input channels are no multiple of the group of 128"),
    ("ct-int4", (250, 256), ""),
    ("awq-int4", (250, 256), "250 output channels are no multiple of the 8 that share a word of .qweight"),
    ("awq-int4", (256, 192), "192 input channels are no multiple of the group of 128"),
    ("gptq-int4", (250, 256), "250 output channels are no multiple of the 8 that share a word of .qzeros"),
    ("ct-nvfp4", (7, 24), "24 input channels are no multiple of the group of 16"),
    ("modelopt-mxfp8", (7, 48), "48 input channels are no multiple of the group of 32"),
    ("hf-fp8", (130, 257), ""), ("ct-fp8-channel", (1, 1), ""),
    ("hf-fp8", (4, 128, 128), "it has 3 axes, fp8-block stores weights of 2"),
    ("hf-mxfp4", (4, 128, 128), ""), ("hf-mxfp4", (128, 128), "it has 2 axes, mxfp4-blocks stores weights of 3"),
    ("hf-mxfp4", (4, 128, 100), "100 input channels are no multiple of the group of 32"),
    ("hf-fp8", (128,), "it has 1 axes"),
])
def test_why_a_shape_does_not_fit(layout: str, shape: tuple[int, ...], says: str) -> None:
    found = cannot_hold(encoding(ROWS[layout]), shape)
    assert found.startswith(says) and bool(found) == bool(says)


def test_zero_points_of_compressed_tensors_are_filled_up() -> None:
    assert cannot_hold(encoding(ROWS["ct-int4"], "ct-int4-zeros"), (250, 256)) == ""
    assert cannot_hold(plain("BF16"), (3, 5, 7)) == ""


@given(st.sampled_from(QUANTIZED), st.integers(1, 600), st.integers(1, 600))
def test_what_fits_has_whole_groups_and_words(one, rows: int, cols: int) -> None:
    """Against the stored shapes: what fits fills its codes exactly, unless the true shape is stored, too."""
    made = encoding(one)
    lead = (2,) if not made.code.suffix.startswith(".") else ()
    if cannot_hold(made, (*lead, rows, cols)):
        group = one.group or 1
        assert cols % group or rows % 8
        return
    stored = (rows, cols) if not SCHEMES[made.scheme].turned else (cols, rows)
    bits = made.code.nbytes((*lead, *stored)) * 8
    padded = any(f.suffix == ".weight_shape" for f in made.factors)
    width = made.code.packing.width
    assert bits == 2 ** len(lead) * rows * cols * width or padded
    if one.group:
        assert cols % one.group == 0


def test_for_a_reader_and_a_device() -> None:
    choice = for_reader("vllm", "a100")
    names = [c.layout for c in choice.candidates]
    assert names[0] == "hf-bf16" and names.index("ct-fp8-channel") < names.index("ct-int4")
    assert choice.refused["modelopt-fp8"] == "vllm demands compute capability 8.9, a100 has 8.0"
    assert "modelopt-fp8" in [c.layout for c in for_reader("vllm", "L40S").candidates]
    assert {*names} | choice.refused.keys() == ROWS.keys() and not {*names} & choice.refused.keys()
    assert all(c.seen for c in choice.candidates) and not any(c.seen for c in for_reader("vllm", "mi300x").candidates)


def test_what_is_refused_has_a_reason() -> None:
    for reader in READERS:
        for device in ("", *DEVICES):
            choice = for_reader(reader, device)
            assert all(choice.refused.values()), (reader, device)
            for candidate in choice.candidates:
                assert candidate.layout == reader == "neuron" or ROWS[candidate.layout].reader(reader).loads == "yes"
    assert for_reader("tensorrt-llm", "mi300x").candidates == for_reader("vllm", "trn2").candidates == ()
    assert [c.layout for c in for_reader("neuron", "trn2").candidates] == ["neuron", "hf-bf16"]
    assert "convert to neuron" in for_reader("neuron", "trn2").refused["hf-fp8"]
    assert "nobody looked" in for_reader("sglang").refused["ct-mxfp8"]


@pytest.mark.parametrize(("reader", "device", "says"), [("ollama", "", "no reader"), ("vllm", "rtx9090", "no device")])
def test_an_unknown_reader_or_device_is_refused(reader: str, device: str, says: str) -> None:
    with pytest.raises(Usage, match=says):
        for_reader(reader, device)


def test_conditions_are_parts_of_a_sentence() -> None:
    assert not [known.condition for one in ROWS.values() for known in one.readers if known.condition.endswith((".", " ")) or known.condition.startswith(" ")]
