"""Statistics of scales from their bytes: every dtype, odd values, many small and single large tensors, and what a hostile file does."""

from __future__ import annotations

import json
import math
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.failures import rows_bc, rows_dfghi
from tests.failures.quantized import (
    compressed_fp8,
    compressed_int4,
    compressed_nvfp4,
    dense,
    experts,
    gptq,
    modelopt_nvfp4,
    shapes_of,
    written,
    zeros,
)
from tests.failures.rows_bc import same_globals
from tests.failures.tools import Row, Tensors, build, floats, llama, m2, plausible, qwen3_moe
from weighbridge.errors import WeighbridgeError
from weighbridge.check import scale_codes, scales
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.mend import mended
from weighbridge.check.run import findings, targets
from weighbridge.check.scale_codes import codes
from weighbridge.check.scale_grids import apart
from weighbridge.check.scales import Scales, read_scales, scales_of, values_of
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.testing import safetensors_writer
from weighbridge.testing.replica import write_replica

TYPES = ("F32", "BF16", "F16", "F8_E8M0", "F8_E4M3")
ALL = "transformers,vllm,sglang,neuron,tensorrt-llm,llama.cpp"


def case_of(folder: Path, how: str = "all", runtimes: str = "") -> Case:
    return Case(open_checkpoint(folder, lenient=True), targets([runtimes] if runtimes else []), scale_bytes=how)


def one_scale(folder: Path, dtype: str, raw: bytes) -> Scales:
    """The statistics of one scale with these bytes, one value per row of its weight."""
    rows = len(raw) // {"F32": 4, "BF16": 2, "F16": 2}.get(dtype, 1)
    tensors: Tensors = {"a.weight": ("F8_E4M3", (rows, 8)), "a.weight_scale": (dtype, (rows, 1))}
    return read_scales(case_of(build(folder, tensors, {}, data={"a.weight_scale": raw})))


@pytest.mark.parametrize("dtype", TYPES)
def test_least_and_largest_of_every_dtype(dtype: str, tmp_path: Path) -> None:
    raw = bytes([0x31, 0x35, 0x33]) if dtype.startswith("F8") else floats([0.5, 2.0, 1.25], dtype)
    want = {"F8_E8M0": (2.0**-78, 2.0**-74), "F8_E4M3": (0.5625, 0.8125)}.get(dtype, (0.5, 2.0))
    found = one_scale(tmp_path, dtype, raw)
    assert (found.least[0], found.largest[0], found.count[0]) == (*want, 3)
    assert bool(found.powers[0]) is (dtype == "F8_E8M0")


def test_odd_values_are_counted(tmp_path: Path) -> None:
    found = one_scale(tmp_path, "F32", struct.pack("<7f", 1e-4, float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -2.0))
    assert (found.nan[0], found.infinite[0], found.zero[0], found.negative[0]) == (1, 2, 2, 2)
    assert not found.finite[0] and not found.powers[0]


@pytest.mark.parametrize("byte, value", [(0, 2.0**-127), (127, 1.0), (254, 2.0**127)])
def test_exponents(byte: int, value: float, tmp_path: Path) -> None:
    found = one_scale(tmp_path, "F8_E8M0", bytes([byte]))
    assert found.least[0] == value


def test_exponent_255_is_nan(tmp_path: Path) -> None:
    assert one_scale(tmp_path, "F8_E8M0", bytes([120, 255])).nan[0] == 1


def test_u8_beside_fp8_holds_exponents(tmp_path: Path) -> None:
    found = one_scale(tmp_path, "U8", bytes([120, 121]))
    assert (found.least[0], found.largest[0]) == (2.0**-7, 2.0**-6)


@pytest.mark.parametrize("values, powers", [([0.5, 0.0, 2.0], True), ([0.5, 0.75], False), ([2.0**-30], True), ([float("inf")], False), ([-2.0], False)])
def test_powers_of_two(values: list[float], powers: bool, tmp_path: Path) -> None:
    assert bool(one_scale(tmp_path, "F32", floats(values)).powers[0]) is powers


def against_numpy(folder: Path) -> None:
    case = case_of(folder)
    found = scales_of(case)
    assert found.mode == "all" and found.read == found.total > 0
    for place, source in enumerate(found.sources):
        values = values_of(case, source.tensor)
        assert values is not None and len(values) == found.count[place]
        assert (found.least[place], found.largest[place]) == (values.min(), values.max()), source.name


@pytest.mark.parametrize("write", [written(m2), written(qwen3_moe), written(modelopt_nvfp4(dense())), written(compressed_fp8(dense(), "tensor", True))],
                         ids=["m2", "qwen3", "nvfp4", "static"])
def test_all_scales_of_a_model(write: Callable[[Path], Path], tmp_path: Path) -> None:
    against_numpy(write(tmp_path / "a"))


def test_several_files_and_small_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "CHUNK", 100)  # smaller than most scales here: runs, single ones and pieces are all met
    tensors, config = m2()
    names = list(tensors)
    against_numpy(build(tmp_path / "a", tensors, config, shards={f"model-{i}.safetensors": names[i::3] for i in range(3)}))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_large_tensor_is_read_in_pieces(bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "CHUNK", 64)
    values = [1e-4 * (1 + i / 100) for i in range(100)]
    values[77] = bad
    found = one_scale(tmp_path, "F32", floats(values))
    assert found.count[0] == 100
    assert (found.nan[0], found.infinite[0], found.zero[0], found.negative[0]) == (math.isnan(bad), bad == float("inf"), bad == 0, bad < 0)


def test_empty_tensors_and_none(tmp_path: Path) -> None:
    tensors: Tensors = {"a.weight": ("F8_E4M3", (0, 8)), "a.weight_scale": ("F32", (0, 1)), "b.weight": ("F8_E4M3", (4, 8)), "b.weight_scale": ("F32", (4, 1))}
    case = case_of(build(tmp_path / "a", tensors, {}))
    assert [source.name for source in scales_of(case).sources] == ["b.weight_scale"]
    assert scales_of(case_of(tmp_path / "a", "none")).read == 0
    assert isinstance(findings(case), list)


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    """Its scales were left out without a word: silence is no all-clear."""
    case = case_of(written(llama)(tmp_path / "a"))
    os.truncate(tmp_path / "a" / "model.safetensors", 100)  # after the headers were read
    with pytest.raises(WeighbridgeError, match="model.safetensors: changed since it was opened: it had [0-9,]+ bytes, now it has 100"):
        findings(case)


def test_a_sample_says_so(tmp_path: Path) -> None:
    case = case_of(written(lambda: m2(layers=3))(tmp_path / "a"), "sample")
    assert scales_of(case).mode == "sample" and scales_of(case).read == scales.SAMPLE < scales_of(case).total
    notes = [f for f in findings(case) if f.code == "WB420"]
    assert notes and notes[0].severity == "note" and f"64 of {scales_of(case).total}" in notes[0].evidence


def test_more_scales_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(m2)(tmp_path / "a")
    total = sum(source.tensor.nbytes for source in scales.sources(case_of(folder)))
    monkeypatch.setattr(scales, "LIMIT", total // 2)
    monkeypatch.setattr(scales, "SMALL", 4)
    found = scales_of(case_of(folder))
    assert found.mode == "sample" and 0 < sum(source.tensor.nbytes for source in found.sources) <= total // 2


def test_a_store_elsewhere_is_sampled(tmp_path: Path) -> None:
    case = case_of(written(lambda: m2(layers=3))(tmp_path / "a"))
    near = scales_of(case)
    far = case_of(tmp_path / "a")
    far.checkpoint.store.path = lambda file: None  # type: ignore[method-assign]
    assert scales_of(far).read == scales.SAMPLE
    for place, source in enumerate(scales_of(far).sources):
        same = near.places[source.name]
        assert (scales_of(far).least[place], scales_of(far).largest[place]) == (near.least[same], near.largest[same])


def test_codes_of_a_small_model_are_read_whole(tmp_path: Path) -> None:
    case = case_of(written(llama, lambda t: {"model.layers.1.mlp.down_proj.weight": bytes([0x7E, 0xFF, 0x80, 0x01]) * (512 * 1024 // 4)})(tmp_path / "a"))
    seen = {one.module.path: one for one in codes(case)}
    one = seen["model.layers.1.mlp.down_proj"]
    assert (one.bytes, one.nan, one.minus_zero, one.above) == (512 * 1024, 131072, 131072, 262144)
    assert len(one.peaks) == 4 * 8 and set(one.peaks.tolist()) == {0x7F}
    assert not len(seen["model.layers.0.mlp.down_proj"].peaks), "blocks of zeros say nothing"


def test_codes_of_a_large_model_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale_codes, "WHOLE", 1 << 20)
    monkeypatch.setattr(scale_codes, "EACH", 64 << 10)
    case = case_of(written(m2)(tmp_path / "a"))
    seen = codes(case)
    assert {one.module.role for one in seen} == {m.role for m in case.modules.quantized}
    assert all(one.bytes <= 64 << 10 for one in seen) and len(seen) < len(case.modules.quantized)


def test_blocks_of_a_ragged_weight(tmp_path: Path) -> None:
    """Partial blocks at the right and the bottom have a largest code, too."""
    tensors: Tensors = {"a.weight": ("F8_E4M3", (192, 200)), "a.weight_scale_inv": ("F32", (2, 2))}
    raw = np.full((192, 200), 0x10, np.uint8)
    raw[:128, :128], raw[:128, 128:], raw[128:, :128], raw[128:, 128:] = 0x11, 0x92, 0x13, 0x14
    claim = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    case = case_of(build(tmp_path / "a", tensors, claim, data={"a.weight": raw.tobytes()}))
    assert codes(case)[0].peaks.tolist() == [0x11, 0x12, 0x13, 0x14]


@pytest.mark.parametrize("rows, grid, right", [(13568, 108, True), (13568, 105, False), (13568, 107, False)])
def test_mimo_blocks_its_parts_apart(rows: int, grid: int, right: bool, tmp_path: Path) -> None:
    tensors: Tensors = {"model.layers.0.self_attn.qkv_proj.weight": ("F8_E4M3", (rows, 4096)), "model.layers.0.self_attn.qkv_proj.weight_scale_inv": ("F32", (grid, 32))}
    config = {"num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 192, "v_head_dim": 128, "hidden_size": 4096,
              "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    case = case_of(build(tmp_path / "a", tensors, config))
    assert apart(case, case.modules.all[0]) is right


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("values", ["usual", "powers", "small", "large"])
def test_usual_scales_raise_no_alarm(dtype: str, values: str, tmp_path: Path) -> None:
    """Any scale between 1e-6 and 0.5 is a scale that a model may have."""
    value = {"usual": lambda i: 1e-4 * (1 + i % 13), "powers": lambda i: 2.0 ** (-14 + i % 5), "small": lambda i: 1e-6 * (1 + i % 7), "large": lambda i: 0.05 * (1 + i % 9)}[values]
    tensors, config = qwen3_moe()
    tensors = {name: (dtype, shape) if name.endswith("_scale_inv") else (kind, shape) for name, (kind, shape) in tensors.items()}
    data = {name: floats([value(i + len(name)) for i in range(shape[0] * shape[1])], dtype) for name, (_, shape) in tensors.items() if name.endswith("_scale_inv")}
    found = findings(case_of(build(tmp_path / "a", tensors, config, data=data), runtimes="vllm,sglang,transformers,tensorrt-llm"), ["WB4", "WB6"])
    # Equal scales in equal places of all experts are a fault of their own, which these simple values have by their making.
    assert not [f for f in found if f.code != "WB428"]


def test_one_outlier_is_no_reciprocal(tmp_path: Path) -> None:
    name = "model.layers.0.mlp.down_proj.weight_scale_inv"
    folder = written(lambda: llama(layers=5), lambda t: {name: floats([50.0, *([1e-4] * 31)])})(tmp_path / "a")
    assert not [f for f in findings(case_of(folder)) if f.code == "WB423"]


def test_the_replica_in_little_memory(tmp_path: Path) -> None:
    """A piece of the full-size replica: 3,136 scales of true shape, no alarm from groups 4 and 6 but what Neuron must say."""
    case = case_of(write_replica(tmp_path / "m2", layers=4, experts=64), runtimes=ALL)
    assert scales_of(case).read == 4 * (4 + 3 * 64)
    assert not findings(case, ["WB4", "WB6"])


@pytest.mark.parametrize("claim", [None, [], "fp8", {"config_groups": [1]}, {"config_groups": {"a": {"weights": 3, "input_activations": "x"}}, "quant_method": 7},
                                   {"quant_method": "gptq", "bits": "4", "checkpoint_format": []}, {"quant_method": "fp8", "weight_block_size": [[1], {}]},
                                   {"quant_algo": {"a": 1}}, {"quant_method": "compressed-tensors", "format": 3, "config_groups": {"a": None}},
                                   {"quant_method": "fp8", "activation_scheme": ["static"], "scale_fmt": {}}], ids=lambda c: json.dumps(c)[:40])
@pytest.mark.parametrize("make", [m2, llama, modelopt_nvfp4(dense())], ids=["m2", "llama", "nvfp4"])
def test_a_hostile_claim_ends_in_findings(claim: object, make: Callable[[], tuple[Tensors, dict]], tmp_path: Path) -> None:
    tensors, config = make()
    case = case_of(build(tmp_path / "a", tensors, config | {"quantization_config": claim}, files={"hf_quant_config.json": {"quantization": [claim]}}), runtimes=ALL)
    assert isinstance(findings(case, ["WB4", "WB6"]), list)


def test_plausible_values_differ_between_experts() -> None:
    assert plausible("a", "F32", (2, 2)) != plausible("b", "F32", (2, 2))


def test_the_sample_does_not_hang_on_hashes(tmp_path: Path) -> None:
    """Keys are kept in sets elsewhere; what is read must be the same in every run."""
    import subprocess
    import sys

    folder = written(lambda: m2(layers=3))(tmp_path / "a")
    code = ("import sys; from weighbridge.check.case import Case; from weighbridge.check.scales import scales_of; from weighbridge.checkpoint.source import open_checkpoint; "
            "print([s.name for s in scales_of(Case(open_checkpoint(sys.argv[1]), scale_bytes='sample')).sources])")
    said = [subprocess.run([sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
            for seed in ("1", "2")]
    assert said[0] == said[1]


GOOD: dict[str, Callable[[Path], Path]] = {
    "m2": written(m2), "llama": written(llama), "qwen3-moe": written(qwen3_moe), "channel": written(compressed_fp8(dense())),
    "tensor": written(compressed_fp8(dense(), "tensor", True)), "block": written(compressed_fp8(experts(), "block")),
    "nvfp4": written(modelopt_nvfp4(experts()), same_globals), "nvfp4-weights": written(modelopt_nvfp4(dense(), False), same_globals),
    "nvfp4-compressed": written(compressed_nvfp4(experts()), same_globals), "int4": written(compressed_int4(experts()), shapes_of),
    "int4-asymmetric": written(compressed_int4(dense(), False, True), shapes_of), "gptq": written(gptq(dense()), zeros(0x77)),
    "gptq-8": written(gptq(dense(), bits=8), zeros(0x7F)),
}


@pytest.mark.parametrize("runtime", ["vllm", "sglang", "transformers", "tensorrt-llm", "llama.cpp"])
@pytest.mark.parametrize("name", GOOD)
def test_sound_formats_raise_no_alarm(name: str, runtime: str, tmp_path: Path) -> None:
    found = findings(case_of(GOOD[name](tmp_path / "a"), runtimes=runtime), ["WB4", "WB6"])
    assert not [(f.code, f.title, f.evidence) for f in found if f.severity != "note"]


LEAVES = ("weight", "weight_scale_inv", "weight_scale", "scale", "weight_scale_2", "weight_global_scale", "input_scale", "k_scale", "kv_scale", "weight_packed",
          "weight_shape", "weight_zero_point", "qweight", "qzeros", "scales", "scale_weight", "gate_up_proj", "gate_up_proj_scale_inv", "gate_up_proj_blocks",
          "gate_up_proj_scales")
PATHS = ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.k_proj", "model.layers.0.mlp.experts.0.w1", "model.layers.0.mlp.experts.1.w1",
         "model.layers.0.mlp.experts", "lm_head", "model.layers.0.self_attn.qkv_proj", "x", "model.layers.0.self_attn.indexer.wk", "layers.0.mlp.expert_mlps.mlp_op")
KINDS = ("F8_E4M3", "U8", "I8", "I32", "BF16", "F32", "F16", "F8_E8M0", "F8_E5M2", "I64", "F64")


@pytest.mark.parametrize("seed", range(40))
def test_any_shapes_and_bytes_end_in_findings(seed: int, tmp_path: Path) -> None:
    """Names, dtypes, shapes (empty ones and scalars among them), claims and bytes at random: never an error of ours."""
    pick = random.Random(seed)
    tensors: Tensors = {}
    for _ in range(pick.randint(1, 14)):
        shape = tuple(pick.choice((0, 1, 2, 3, 8, 16, 128)) for _ in range(pick.choice((0, 1, 1, 2, 2, 2, 3, 4))))
        tensors[f"{pick.choice(PATHS)}.{pick.choice(LEAVES)}"] = (pick.choice(KINDS), shape)
    group = {"weights": {"strategy": "block", "symmetric": pick.choice((True, False, None))}, "input_activations": pick.choice((None, {"dynamic": False}, {"dynamic": "local"}))}
    claim = {"quant_method": pick.choice(("fp8", "compressed-tensors", "modelopt", "gptq", "awq", "mxfp4", 3)), "weight_block_size": pick.choice(([128, 128], [1, 32], [0, 0], "x")),
             "format": pick.choice(("pack-quantized", "nvfp4-pack-quantized", 4)), "bits": pick.choice((4, 8, 2, "4")), "group_size": pick.choice((128, 16, -1)),
             "scale_fmt": pick.choice(("ue8m0", 1)), "activation_scheme": pick.choice(("static", {})), "config_groups": pick.choice((None, {"g": group}))}
    config = {"model_type": pick.choice(("llama", "starcoder2", 7)), "num_attention_heads": pick.choice((4, "a")), "num_key_value_heads": pick.choice((2, 1 << 23)),
              "quantization_config": claim}
    start, positions, size = safetensors_writer.place(tensors)
    raw = bytearray(pick.randbytes(size))
    raw[: len(start)] = start
    assert all(position >= len(start) for position in positions.values())
    (tmp_path / "model.safetensors").write_bytes(raw)
    (tmp_path / "config.json").write_text(json.dumps(config))
    case = Case(open_checkpoint(tmp_path, lenient=True), targets([ALL]), Settings(device=pick.choice(("", "mi300x", "b200", "cpu", "ascend"))))
    assert all(finding.title and isinstance(finding.evidence, str) for finding in findings(case, ["WB4", "WB6"]))


@pytest.mark.parametrize("row", [row for row in (*rows_bc.ROWS, *rows_dfghi.ROWS) if row.code in ("WB404", "WB411", "WB427", "WB429", "WB412")], ids=lambda row: row.label)
def test_after_the_edits_the_finding_is_gone(row: Row, tmp_path: Path) -> None:
    """Where a change of the configuration mends it; the others say in words what to do with the files."""
    folder = row.bad(tmp_path / "a")

    def found() -> list[Finding]:
        case = Case(open_checkpoint(folder, lenient=True), targets([row.runtimes] if row.runtimes else []), Settings(**row.settings))
        return [f for f in findings(case) if f.severity != "note"]

    mine = [f for f in found() if f.code == row.code]
    assert mine and all(f.fix.text for f in mine)
    if all(f.fix.edits for f in mine):
        for file, content in mended(open_checkpoint(folder, lenient=True), mine).items():
            (folder / file).write_text(json.dumps(content))
        assert not found()
