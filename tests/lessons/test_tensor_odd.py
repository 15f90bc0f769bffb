"""Names that are not there, scales that are none, empty and huge tensors, codes that are not decoded."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.failures import tools
from tests.inspection import tables
from tests.lessons import tensors
from tests.lessons.tensors import NAME, fp8
from weighbridge.api import Model, plan_for
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.store import Folder
from weighbridge.convert.run import convert
from weighbridge.errors import Usage, WeighbridgeError
from weighbridge.lessons import tensor_read
from weighbridge.lessons.tensor import document
from weighbridge.lessons.tensor_source import locate
from weighbridge.report.explain import tensor_text as explain_tensor
from weighbridge.testing.tiny import EVEN, write_tiny


def every_form(told: dict[str, Any]) -> str:
    """All four forms can be made; the text of one comes back."""
    for form in (explain_tensor.markdown, explain_tensor.html, explain_tensor.svg):
        assert form(told)
    return explain_tensor.text(told)


def damaged(folder: Path, change: Any) -> dict[str, Any]:
    return document(fp8(folder, change=change).checkpoint, NAME)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "infinite"), (0.0, "zero"), (-1e-4, "negative")])
def test_a_scale_that_is_none(tmp_path: Path, value: float, word: str) -> None:
    def change(code: np.ndarray, scale: np.ndarray) -> None:
        scale[0, 1] = value

    told = damaged(tmp_path / "c", change)
    assert told["scales"][word] == 1 and told["maps"]["scale"]["cells"][0][1] is None and told["block"]["at"] != [0, 1]
    assert all(row["relative"] is None or np.isfinite(row["relative"]) for row in told["costs"])
    assert "No scale at all: 1" in every_form(told)
    asked = document(Checkpoint(Folder(tmp_path / "c")), NAME, at=(5, 40))
    assert asked["block"]["at"] == [0, 1] and (asked["block"]["weights"][0]["row"], asked["block"]["weights"][0]["column"]) == (5, 40)
    assert asked["block"]["scale"] == float(np.float32(value)) or np.isnan(value)
    every_form(asked)


def test_all_scales_are_bad(tmp_path: Path) -> None:
    def change(code: np.ndarray, scale: np.ndarray) -> None:
        scale[:] = np.nan

    told = damaged(tmp_path / "c", change)
    assert told["scales"]["median"] is None and "none has a usable scale" in told["block"]["why"]
    assert "No scale is finite" in every_form(told)


def test_nan_codes(tmp_path: Path) -> None:
    def change(code: np.ndarray, scale: np.ndarray) -> None:
        code[:32] = 0x7F
        code[40, 3] = 0xFF

    told = damaged(tmp_path / "c", change)
    assert told["codes"]["nan"] == 32 * 96 + 1 and told["conventions"]["above"] >= told["codes"]["nan"]
    nan = document(Checkpoint(Folder(tmp_path / "c")), NAME, at=(0, 0))
    assert nan["block"]["weights"][0]["stored"]["formula"] == "NaN" and nan["block"]["amax"] == 0
    assert "NaN" in every_form(nan)


def test_codes_of_zero_do_not_look_broken(tmp_path: Path) -> None:
    def change(code: np.ndarray, scale: np.ndarray) -> None:
        code[:] = 0

    told = damaged(tmp_path / "c", change)
    text = every_form(told)
    assert len(told["block"]["weights"]) == 1 and "All 6,144 codes are zero: there is a hole" in text
    assert "nan" not in text.lower().replace("infinity or nan", "").replace("nan above", "")


def written(tmp_path: Path, table: dict[str, tuple[str, tuple[int, ...]]], claim: dict[str, Any] | None = None) -> Checkpoint:
    config = {"model_type": "nobody"} | ({"quantization_config": claim} if claim else {})
    return Checkpoint(Folder(tensors.write(tmp_path / "w", table, {}, config)))


@pytest.mark.parametrize(("table", "word"), [
    ({NAME + ".weight": ("F8_E4M3", (64, 64)), NAME + ".weight_scale_inv": ("F32", (3, 5))}, "needs [2, 2] (block 32x32"),
    ({NAME + ".weight": ("F8_E4M3", (64, 64))}, "without a scale"),
    ({NAME + ".weight": ("F8_E4M3", (64, 64)), NAME + ".weight_scale_inv": ("I64", (2, 2))}, "no scheme is known for"),
    ({NAME + ".weight": ("BF16", (64, 64)), NAME + ".weight_scale_inv": ("F32", (2, 2))}, "is it decoded already"),
])
def test_a_scale_that_does_not_fit_is_told(tmp_path: Path, table: dict[str, Any], word: str) -> None:
    told = document(written(tmp_path, table, {"quant_method": "fp8", "weight_block_size": [32, 32]}), NAME)
    assert word in told["problem"] and told["scales"] is None and told["maps"] == {}
    assert word in " ".join(every_form(told).split())
    assert told["codes"] is None or told["codes"]["total"] == 4096


@pytest.mark.parametrize("shape", [(), (1,), (7,), (0, 64), (64, 0), (0,), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F32"])
def test_odd_shapes(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    table: dict[str, Any] = {NAME + ".weight": (dtype, shape)}
    if dtype == "F8_E4M3":
        table[NAME + ".weight_scale"] = ("F32", ())
    told = document(written(tmp_path, table), NAME)
    assert told["looked_at"]["of"] == int(np.prod(shape))
    assert (told["block"] is None) == (0 in shape)
    every_form(told)


@pytest.mark.parametrize(("table", "word"), [
    ({NAME + ".weight": ("U8", (2048, 1)), NAME + ".weight.absmax": ("F32", (64,))}, "the shape of the weight cannot be read"),
    ({NAME + ".weight": ("I64", (8,))}, "I64 values are no float"),
])
def test_what_is_not_decoded_is_named(tmp_path: Path, table: dict[str, Any], word: str) -> None:
    claim = {"quant_method": "gptq", "bits": 4, "group_size": 32}
    with pytest.raises(WeighbridgeError, match=word) as refused:
        document(written(tmp_path, table, claim), NAME)
    assert refused.value.first.code == "not-decoded" and refused.value.first.hint


def test_names(tmp_path: Path) -> None:
    checkpoint = Checkpoint(Folder(write_tiny(tmp_path / "t", **EVEN)))
    own = "model.layers.1.block_sparse_moe.experts.3.w2"
    stack = "layers.1.block_sparse_moe.expert_mlps.mlp_op.down_proj"
    for name in (own + ".weight", own, own.removeprefix("model."), own + ".weight_scale_inv", own.removeprefix("model.") + ".weight"):
        assert document(checkpoint, name)["tensor"]["name"] == own + ".weight"
    made = document(checkpoint, stack + ".scale")
    assert made["tensor"]["name"] == "model.layers.1.block_sparse_moe.experts.0.w2.weight" and made["stands_for"]["others"] == 7
    with pytest.raises(WeighbridgeError) as lost:
        document(checkpoint, "layers.1.self_attn.qproj")
    assert lost.value.first.code == "no-such-tensor" and "layers.1.self_attn.q_proj" in lost.value.first.hint
    with pytest.raises(Usage, match="there is no weight 900,0"):
        document(checkpoint, own, at=(900, 0))
    plan = plan_for(Model(tmp_path / "t").checkpoint, "neuron", attention="exact")
    convert(plan, tmp_path / "n")
    neuron = Checkpoint(Folder(tmp_path / "n"))
    back = document(neuron, own)
    assert back["tensor"]["name"].endswith("mlp_op.down_proj.weight") and back["stands_for"]["corner"][0] == 3 and back["block"]["matrix"] == 3
    first, published = back["block"], document(checkpoint, own, at=(back["block"]["columns"][0], 0))["block"]
    assert first["scale"] == 2 * published["scale"] and 0 < first["amax"] <= published["amax"]  # its block is one row of the published one
    assert back["conventions"]["halved"]
    padded = document(neuron, "layers.0.self_attn.o_proj")
    assert padded["scale"]["grid"][1:] == [256, 6] and padded["scale"]["padded"] == (padded["scale"]["shape"][1] != 6) and not padded["problem"]


def test_a_helper_and_an_orphan(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, {"a.weight_shape": ("I64", (2,)), "b.weight_scale": ("F32", (2, 2))})
    for name, word in (("a.weight_shape", "helps to read"), ("b.weight_scale", "whose weight is not here")):
        with pytest.raises(WeighbridgeError, match=word):
            document(checkpoint, name)


def test_a_large_tensor_is_sampled_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = fp8(tmp_path / "c", 1024, 96)
    monkeypatch.setattr(tensor_read, "LOOK", 24 * 32 * 96)
    told = document(case.checkpoint, NAME)
    matrix = tensor_read.Matrix(case.checkpoint, locate(case.checkpoint, NAME))
    rows = [r for start, n in matrix.runs for r in range(start, start + n)]
    assert len(rows) == len(set(rows)) == told["looked_at"]["rows"] < 1024 and len(rows) * 96 <= tensor_read.LOOK
    assert rows[0] == 0 and rows[-1] > 1000
    counted = Counter(case.code(0, i, j) for i in rows for j in range(96))
    assert told["codes"]["counts"] == [counted[c] for c in range(256)] and told["scales"]["read"] == 32 * 3
    mapped = told["maps"]["bound"]
    assert mapped["sampled"] and mapped["first"] == sorted({r // 32 for r in rows}) and not told["maps"]["scale"]["sampled"]
    assert "of 98,304 values" in " ".join(every_form(told).split())


def test_from_elsewhere_only_what_is_needed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Far(Folder):
        fetched = 0

        def path(self, file: str) -> Path | None:
            return None

        def read(self, file: str, offset: int, length: int) -> bytes:
            if file.endswith(".safetensors") and offset > 8:
                Far.fetched += length
            return super().read(file, offset, length)

    fp8(tmp_path / "c", 1024, 96)
    monkeypatch.setattr(tensor_read, "LOOK_FAR", 24 * 96)
    checkpoint = Checkpoint(Far(tmp_path / "c"))
    Far.fetched = 0
    told = document(checkpoint, NAME)
    assert not told["looked_at"]["local"] and told["looked_at"]["values"] <= 24 * 96 and Far.fetched < 30_000 < 1024 * 96
    assert told["codes"]["zero"] < told["codes"]["total"] and "fetched from elsewhere" in " ".join(explain_tensor.text(told).split())


def test_memory_of_a_full_size_weight(tmp_path: Path) -> None:
    """[6144, 3072] in bands: less than 300 MB more than the interpreter with its libraries."""
    table: tools.Tensors = {}
    tools.fp8(table, NAME, (6144, 3072))
    tools.build(tmp_path / "c", table, {"model_type": "nobody", "quantization_config": tools.BLOCK_FP8})
    code = """import resource, sys
import numpy, numba
from weighbridge.encoding.kernels import quantize_f32
from weighbridge.api import Model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from weighbridge.lessons.tensor import document
document(Model(sys.argv[1]).checkpoint, sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "c"), NAME], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300_000


def test_a_block_that_is_the_whole_of_a_large_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights come from a part of it, its amax from all that was looked at."""
    from weighbridge.lessons import tensor_block

    monkeypatch.setattr(tensor_block, "BAND", 70)
    case = tensors.fp8_tensor(tmp_path / "c")
    told = document(case.checkpoint, NAME)["block"]
    every = [abs(case.weight(0, i, j)) for i in range(40) for j in range(70)]
    assert told["rows"] == [0, 40] and told["picked_from"] == [0, 4] and told["amax"] == float(max(every))
    asked = document(case.checkpoint, NAME, at=(33, 12))["block"]
    first = asked["weights"][0]
    assert (first["row"], first["column"]) == (33, 12) and first["stored"]["weight"] == float(case.weight(0, 33, 12)) and asked["picked_from"] == [30, 34]


@pytest.mark.parametrize("at", [(0, 0), (63, 95), (31, 32)])
def test_the_weight_that_is_asked_for_comes_first(tmp_path: Path, at: tuple[int, int]) -> None:
    case = fp8(tmp_path / "c")
    told = document(case.checkpoint, NAME, at=at)
    first = told["block"]["weights"][0]
    assert (first["row"], first["column"], first["stored"]["weight"]) == (*at, float(case.weight(0, *at))) and told["block"]["at"] == [at[0] // 32, at[1] // 32]
    assert told["maps"]["scale"]["worked"] == told["block"]["at"]


def test_many_tiny_matrices(tmp_path: Path) -> None:
    """A convolution is seen as the rows of one matrix; a hostile stack with a scale is refused with words."""
    plain = document(written(tmp_path / "a", {NAME + ".weight": ("BF16", (300, 200, 3, 3))}), NAME)
    assert (plain["tensor"]["matrices"], plain["tensor"]["rows"], plain["tensor"]["columns"]) == (1, 180_000, 3)
    with pytest.raises(WeighbridgeError, match="20,000 matrices of 1 x 1") as refused:
        document(written(tmp_path / "b", {NAME + ".weight": ("F8_E4M3", (20_000, 1, 1)), NAME + ".weight_scale": ("F32", ())}), NAME)
    assert refused.value.first.code == "stack-too-high"


def test_a_scale_of_fused_blocks_leads_to_them(tmp_path: Path) -> None:
    case = tensors.mxfp4_blocks(tmp_path / "c")
    assert document(case.checkpoint, case.name + "_scales")["tensor"]["name"] == case.name + "_blocks"


@pytest.mark.parametrize("model", tables.TABLES)
def test_every_kind_of_weight_of_published_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """Headers of real checkpoints over holes: each weight is worked, or refused with words; no text is wider than a terminal."""
    monkeypatch.setattr(tensor_read, "LOOK", 1 << 16)
    checkpoint = Checkpoint(Folder(tables.write(model, tmp_path / "c", experts=1)), lenient=True)
    kinds = {(re.sub(r"\d+", "N", name), t.dtype): name for name, t in reversed(checkpoint.tensors.items())}
    worked = 0
    for name in kinds.values():
        try:
            told = document(checkpoint, name)
        except WeighbridgeError as error:
            assert error.first.code in ("not-decoded", "no-weight") and error.first.hint
            continue
        worked += 1
        assert max(map(len, explain_tensor.text(told).split("\n"))) <= 110
    assert worked >= 7
