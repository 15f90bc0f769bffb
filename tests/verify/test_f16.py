"""Float16 checkpoints: widened exactly, rounded once, refused where float16 has no place."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import weighbridge as wb
from tests.verify.tools import SMALL, span, spans
from weighbridge.convert.apply import _to_float
from weighbridge.convert.slab import Slab
from weighbridge.encoding import codec
from weighbridge.errors import Refused
from weighbridge.formats.qtensor import QTensor
from weighbridge.formats.scheme import plain
from weighbridge.layouts.options import Options
from weighbridge.plan.steps import choose
from weighbridge.testing.safetensors_writer import write_file
from weighbridge.testing.tiny import write_tiny
from weighbridge.verify.bounds import Assumed

FLOATS = {"F32", "BF16", "F16"}
WORDS = st.integers(0, (1 << 32) - 1)


@pytest.fixture(scope="module")
def f16(tmp_path_factory):
    """The BF16 checkpoint with every matrix and norm in F16 (some values become subnormal or zero)."""
    folder = write_tiny(tmp_path_factory.mktemp("f16") / "src", **SMALL, encoding="bf16", shards=1)
    tensors = {}
    for s in spans(folder):
        data = codec.from_bf16(np.frombuffer(s.bytes(), np.uint16)).astype(np.float16).tobytes() if s.dtype == "BF16" else s.bytes()
        tensors[s.name] = ("F16" if s.dtype == "BF16" else s.dtype, s.shape, data)
    write_file(next(folder.glob("*.safetensors")), tensors)
    return folder


def test_a_copy_is_identical_and_a_flip_is_found(f16, tmp_path):
    found = wb.open(f16).verify(f16)
    assert found["ok"] and found["grades"]["identical"] == found["weights"]


@pytest.mark.parametrize("layout", ["hf-bf16", "hf-fp8", "neuron"])
def test_the_way_to_each_layout_and_the_proof(f16, tmp_path, layout):
    wb.open(f16).convert(tmp_path / "out", layout)
    for a, b in ((f16, tmp_path / "out"), (tmp_path / "out", f16)):
        found = wb.open(a).verify(b)
        assert found["ok"] and found["reproduced"]["different"] == 0
    (tmp_path / "out" / "weighbridge.json").unlink()
    assert wb.open(f16).verify(tmp_path / "out")["ok"]


def test_bf16_of_f16_is_rounded_once_and_vectors_are_copied(f16, tmp_path):
    wb.open(f16).convert(tmp_path / "out", "hf-bf16")
    name = "model.layers.0.self_attn.q_proj.weight"
    values = np.frombuffer(span(f16, name).bytes(), np.float16).astype(np.float32)
    assert span(tmp_path / "out", name).bytes() == codec.to_bf16(values).tobytes()
    norm = "model.layers.0.input_layernorm.weight"
    assert span(tmp_path / "out", norm).dtype == "F16" and span(tmp_path / "out", norm).bytes() == span(f16, norm).bytes()


def test_it_talks(f16):
    """The engine widens float16: the logits are those of the same values in float32."""
    from weighbridge.engine.linear import Linear
    from weighbridge.engine.rectangle import rectangle_of

    values = np.frombuffer(span(f16, "model.layers.0.self_attn.q_proj.weight").bytes(), np.float16).reshape(768, 128)
    x = np.random.default_rng(1).standard_normal((3, 128)).astype(np.float32)
    narrow, wide = (Linear([(0, 0, rectangle_of(QTensor(codes, plain(dtype))))], (768, 128)) for codes, dtype in ((values, "F16"), (values.astype(np.float32), "F32")))
    assert np.array_equal(narrow(x), wide(x)) and np.array_equal(narrow.rows(np.array([5])), values[5:6].astype(np.float32))


@example([struct.unpack("<I", struct.pack("<f", 1.5 * 2.0**-24))[0]])  # halfway between two subnormals of float16
@given(st.lists(WORDS, min_size=1, max_size=40))
def test_each_float_step_keeps_its_bound(words):
    """Random bit patterns of each float type to each other, against the bound that `steps.py` states."""
    raw = np.array(words, np.uint32)
    sides = {"F32": raw.view(np.float32), "BF16": (raw & 0xFFFF).astype(np.uint16), "F16": (raw & 0xFFFF).astype(np.uint16).view(np.float16)}
    for dtype, codes in sides.items():
        q = QTensor(codes.reshape(1, -1), plain(dtype))
        q = QTensor(q.codes_RC[:, np.isfinite(q.decode()[0])], plain(dtype))
        before = q.decode()[0].astype(np.float64)
        for target in sorted(FLOATS - {dtype}):
            step = choose(plain(dtype), plain(target), Options(), False, False, Assumed(False))
            if step.name == "widen":
                after = q.decode()[0]
            else:
                out = np.empty(q.shape, np.uint16 if target == "BF16" else np.float16)
                limit = 65520.0 if target == "F16" else float(np.float32(3.3961775292304601e38))
                slab = Slab("x", plain(target), q.shape, 0, 0, out)
                if before.size and np.abs(before).max() >= limit:
                    with pytest.raises(Refused, match="have no place in"):
                        _to_float(q, out, step.lossy, slab)
                    continue
                _to_float(q, out, step.lossy, slab)
                after = codec.from_bf16(out)[0] if target == "BF16" else out[0].astype(np.float32)
            # BF16 has the exponents of float32: below 2^-126 its spacing is fixed.
            least = 2.0**-134 if target == "BF16" else 0.0
            assert (np.abs(after - before) <= np.maximum(np.maximum(step.relative * np.abs(before), step.absolute), least)).all(), (dtype, target)
