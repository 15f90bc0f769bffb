"""Random small models there and back: what is exact comes back bit for bit, what is rounded is rounded once."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plan.tools import SCALE, assert_equal_but_odd_codes, assert_same_tensors, convert, decode, load_json, read_folder
from weighbridge.encoding import codec
from weighbridge.models import inventory
from weighbridge.runtimes.neuron import choose, tp_sizes
from weighbridge.testing.tiny import write_tiny

FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
SIZES = st.sampled_from([8, 40, 127, 128, 129, 192, 256, 300])
SCALES = st.sampled_from(["F32", "BF16"])


@st.composite
def models(draw, widths=SIZES, head_dims=(16, 32, 64, 128)):
    """Sizes of a model that transformers would take, ragged or not."""
    kv = draw(st.sampled_from([1, 2, 3]))
    return {"hidden": draw(widths), "inter": draw(widths), "heads": kv * draw(st.integers(1, 3)), "kv_heads": kv,
            "head_dim": draw(st.sampled_from(head_dims)), "experts": draw(st.integers(1, 4)), "layers": draw(st.integers(1, 2)),
            "vocab": draw(st.sampled_from([64, 96, 120])), "shards": draw(st.integers(1, 3)), "seed": draw(st.integers(0, 9))}


EVEN_MODELS = models(st.sampled_from([128, 256, 384]), (128,))


@contextmanager
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@FEW
@given(models(), SCALES)
def test_bf16_is_the_decoded_value_rounded_once(sizes, scale_dtype):
    with folder() as at:
        source = read_folder(write_tiny(at / "src", **sizes, scale_dtype=scale_dtype))
        out = read_folder(convert(at / "src", at / "out", "hf-bf16"))
        assert sorted(out) == sorted(n for n in source if not n.endswith(SCALE))
        for name, value in out.items():
            scale = source.get(name.removesuffix(".weight") + SCALE)
            wanted = source[name] if scale is None else decode(source[name], scale).astype(ml_dtypes.bfloat16)
            assert value.dtype == wanted.dtype and value.tobytes() == wanted.tobytes(), name
            if scale is not None:
                spec = codec.to_bf16(codec.decode(source[name].view(np.uint8), scale.astype(np.float32), (128, 128)))
                assert spec.tobytes() == value.tobytes(), name


@FEW
@given(models())
def test_block_fp8_of_bf16_is_that_of_ml_dtypes(sizes):
    """amax / 448 for each block, ragged ones too, a true division, ties to even."""
    with folder() as at:
        source = read_folder(write_tiny(at / "src", **sizes, encoding="bf16"))
        out = read_folder(convert(at / "src", at / "out", "hf-fp8"))
        for name in (n for n in out if n.endswith(SCALE)):
            stem = name.removesuffix(SCALE)
            codes, scale = block_quantized(source[stem + ".weight"].astype(np.float32))
            assert out[name].tobytes() == scale.tobytes(), name
            assert out[stem + ".weight"].view(np.uint8).tobytes() == codes.view(np.uint8).tobytes(), name
        rest = [n for n in out if "_proj" not in n and ".experts." not in n]
        assert all(out[n].tobytes() == source[n].tobytes() for n in rest)
        assert len(out) == len(rest) + 2 * sum(n.endswith(SCALE) for n in out)


def block_quantized(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One block after the other, with ml_dtypes' rounding."""
    rows, columns = values.shape
    codes = np.empty(values.shape, ml_dtypes.float8_e4m3fn)
    scale = np.empty((-(-rows // 128), -(-columns // 128)), np.float32)
    for i, j in np.ndindex(*scale.shape):
        where = slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128)
        amax = np.abs(values[where]).max()
        scale[i, j] = amax / np.float32(448) if amax else 1
        codes[where] = (values[where] / scale[i, j]).astype(ml_dtypes.float8_e4m3fn)
    return codes, scale


@FEW
@given(models(), SCALES)
def test_a_copy_has_the_same_bytes(sizes, scale_dtype):
    with folder() as at:
        write_tiny(at / "src", **sizes, scale_dtype=scale_dtype)
        assert_same_tensors(read_folder(convert(at / "src", at / "out", "hf-fp8")), read_folder(at / "src"))


def degrees(folder_: Path, data) -> dict:
    """A TP that NxD's rules allow for the model, and its experts' degrees."""
    sizes = inventory(load_json(folder_ / "config.json")).sizes
    tp = data.draw(st.sampled_from(tp_sizes(sizes, 128)))
    parallel, problems = choose(sizes, 128, tp)
    assert not problems
    return {"tp": tp, "moe_tp": parallel.moe_tp, "moe_ep": parallel.moe_ep}


@FEW
@given(EVEN_MODELS, SCALES, st.data())
def test_neuron_files_and_back(sizes, scale_dtype, data):
    with folder() as at:
        source = read_folder(write_tiny(at / "src", **sizes, scale_dtype=scale_dtype))
        convert(at / "src", at / "neuron", "neuron", attention="exact", **degrees(at / "src", data))
        back = read_folder(convert(at / "neuron", at / "back", "hf-fp8", scale_dtype=scale_dtype))
        assert_equal_but_odd_codes(source, back)


@FEW
@given(EVEN_MODELS, st.data())
def test_neuron_shards_and_back(sizes, data):
    """The router comes back from BF16, as NxD casts it; everything else as from the files."""
    with folder() as at:
        source = read_folder(write_tiny(at / "src", **sizes))
        convert(at / "src", at / "shards", "neuron", shards=True, attention="exact", **degrees(at / "src", data))
        back = read_folder(convert(at / "shards", at / "back", "hf-fp8"))
        for name in [n for n in source if n.endswith((".gate.weight", "e_score_correction_bias"))]:
            rounded = source[name].astype(ml_dtypes.bfloat16)
            assert np.array_equal(rounded.astype(np.float32), back[name].astype(np.float32)), name
            source[name] = back[name]
        assert_equal_but_odd_codes(source, back)


@FEW
@given(EVEN_MODELS)
def test_the_second_way_to_neuron_changes_nothing_more(sizes):
    """After the first halving no odd code is left, so files -> hf-fp8 -> files is the identity."""
    with folder() as at:
        write_tiny(at / "src", **sizes)
        first = convert(at / "src", at / "a", "neuron", attention="exact", tp=1)
        convert(first, at / "back", "hf-fp8")
        assert_same_tensors(read_folder(convert(at / "back", at / "b", "neuron", attention="exact", tp=1)), read_folder(first))
