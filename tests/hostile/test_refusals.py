"""Everything that can be wrong with a checkpoint or a disk ends in one way: told, exit 2, nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import weighbridge.api as wb
from tests.plan.tools import all_bytes, load_json, read_folder
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.testing.hostile import FAULTS
from weighbridge.testing.tiny import EVEN, write_tiny

SMALL = EVEN | {"experts": 2, "layers": 1}
FIRST, LAST = "model-00000-of-00130.safetensors", "model-00001-of-00130.safetensors"
INDEX, CONFIG = "model.safetensors.index.json", "config.json"
Q, SCALE = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight_scale_inv"
K_NORM = "model.layers.0.self_attn.k_norm.weight"
# What a message must name: the file or the tensor, and the numbers that disagree.
NAMED = {
    "header_longer_than_file": [FIRST, "header says", "the file has"],
    "header_length_huge": [FIRST, "18,446,744,073,709,551,615", "100,000,000"],
    "header_not_json": [FIRST, "JSON"],
    "header_not_an_object": [FIRST, "object"],
    "header_deeply_nested": [FIRST],
    "duplicate_name_in_header": [Q, "twice"],
    "offsets_overlap": [FIRST, "overlaps", "begins at byte"],
    "offsets_out_of_range": [Q, "the header describes", "bytes of data, the file has"],
    "offsets_negative": [Q, "negative", "-"],
    "offsets_inverted": [Q, "backwards", "data_offsets ["],
    "offsets_gap": [FIRST, "hole", "begins at byte"],
    "shape_negative": [Q, "-768", "-256"],
    "size_shape_mismatch": [Q, "769", "196,608", "196,864"],
    "unknown_dtype": [Q, "F8_E3M4"],
    "shard_missing": [LAST, "tensors"],
    "shard_empty": [LAST, "0 bytes", "8"],
    "shard_truncated": [LAST, "bytes of data, the file has"],
    "shard_too_long": [LAST, "bytes of data, the file has"],
    "lfs_pointer": [LAST, "LFS", "bytes"],
    "config_missing": [CONFIG],
    "config_not_json": [CONFIG, "JSON"],
    "index_not_json": [INDEX, "JSON"],
    "index_names_absent_tensor": ["model.layers.0.self_attn.ghost.weight", FIRST],
    "shard_has_unindexed_tensor": [K_NORM, "index"],
    "duplicate_name_across_shards": [K_NORM, FIRST, LAST],
    "index_path_dotdot": [INDEX, "../", "out of the folder"],
    "index_path_absolute": [INDEX, "out of the folder"],
    "scale_shape_wrong": [SCALE, "[12, 1]", "[768, 256]", "[6, 2]"],
    "weight_without_scale": [Q, "[768, 256]", "weight_scale_inv"],
    "scale_without_weight": [SCALE, Q, "[6, 2]"],
    "scale_nan": [SCALE, "nan", "1 of 12", "[5, 1]"],
    "scale_zero": [SCALE, "0.0", "1 of 12", "[5, 1]"],
    "scale_inf": [SCALE, "inf", "1 of 12", "[5, 1]"],
    "scale_negative": [SCALE, "-", "1 of 12", "[5, 1]"],
    "missing_tensor": ["model.layers.0.block_sparse_moe.experts.1.w1.weight", "experts.1.w2", "experts.1.w3", "[256, 256]"],
    "surplus_tensor": ["model.layers.0.self_attn.surplus.weight", "[4, 4]"],
}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("original") / "src", **SMALL)


@pytest.fixture
def good(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoint")


def refused(source: Path, layout: str, out: Path, **options) -> str:
    """The text of the refusal, after a look that nothing was written."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(WeighbridgeError) as caught:
        wb.open(source).convert(out, layout, **options)
    assert caught.value.exit_code == 2
    assert sorted(out.parent.iterdir()) == before
    assert all(p.code and p.message for p in caught.value.problems)
    return str(caught.value)


def test_every_fault_is_in_the_table():
    assert set(NAMED) == set(FAULTS)


@pytest.mark.parametrize("layout", ["neuron", "hf-bf16", "hf-fp8"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_and_nothing_is_written(good, fault, layout, tmp_path):
    FAULTS[fault](good)
    text = refused(good, layout, tmp_path / "out")
    assert [word for word in NAMED[fault] if word not in text] == [], text


@pytest.mark.parametrize("fault", ["scale_nan", "scale_zero", "scale_inf", "scale_negative", "scale_shape_wrong"])
def test_faults_of_bf16_scales(fault, tmp_path):
    write_tiny(tmp_path / "src", **SMALL, scale_dtype="BF16")
    FAULTS[fault](tmp_path / "src")
    assert SCALE in refused(tmp_path / "src", "neuron", tmp_path / "out")


def test_all_faults_are_told_at_once(good, tmp_path):
    """Not the first alone: whoever mends one must know of the others."""
    for fault in ("surplus_tensor", "missing_tensor", "weight_without_scale"):
        FAULTS[fault](good)
    text = refused(good, "hf-bf16", tmp_path / "out")
    assert all(name in text for name in ("surplus.weight", "experts.1.w1.weight", Q))


def test_two_broken_shards_are_told_at_once(good, tmp_path):
    FAULTS["header_not_json"](good)
    FAULTS["shard_truncated"](good)
    text = refused(good, "hf-bf16", tmp_path / "out")
    assert FIRST in text and LAST in text


def test_inspect_and_plan_refuse_too(good):
    FAULTS["offsets_overlap"](good)
    with pytest.raises(Refused):
        wb.open(good)


def test_a_surplus_tensor_can_be_left_out_and_the_manifest_says_so(good, original, tmp_path):
    FAULTS["surplus_tensor"](good)
    wb.open(good).convert(tmp_path / "out", "hf-bf16", allow=("surplus-tensor",))
    manifest = load_json(tmp_path / "out" / "weighbridge.json")
    assert manifest["allowed"] == ["surplus-tensor"] and manifest["options"]["allow"] == ["surplus-tensor"]
    wb.open(original).convert(tmp_path / "wanted", "hf-bf16")
    assert read_folder(tmp_path / "out").keys() == read_folder(tmp_path / "wanted").keys()


def test_a_surplus_file_is_refused_and_can_be_left_out(good, tmp_path):
    shutil.copy(good / FIRST, good / "consolidated.safetensors")
    assert "consolidated.safetensors" in refused(good, "hf-bf16", tmp_path / "out")
    wb.open(good).convert(tmp_path / "out", "hf-bf16", allow=("surplus-file",))
    assert load_json(tmp_path / "out" / "weighbridge.json")["allowed"] == ["surplus-file"]


def test_what_is_allowed_does_not_allow_the_rest(good, tmp_path):
    FAULTS["surplus_tensor"](good)
    FAULTS["weight_without_scale"](good)
    assert Q in refused(good, "hf-bf16", tmp_path / "out", allow=("surplus-tensor",))


@pytest.mark.parametrize("fault, code", [("missing_tensor", "missing-tensor"), ("weight_without_scale", "weight-without-scale"),
                                         ("scale_shape_wrong", "scale-shape")])
def test_no_permission_turns_a_weight_into_zeros(good, fault, code, tmp_path):
    """What cannot be read cannot be written: --allow must not make silence of it."""
    FAULTS[fault](good)
    refused(good, "hf-bf16", tmp_path / "out", allow=(code,))


def test_nan_codes_are_found_on_the_way_and_the_folder_is_visibly_unfinished(good, tmp_path):
    """They are seen only when the weights are read, after the first write."""
    header_length = int.from_bytes((good / FIRST).read_bytes()[:8], "little")
    entry = json.loads((good / FIRST).read_bytes()[8 : 8 + header_length])[Q]
    with open(good / FIRST, "r+b") as file:
        file.seek(8 + header_length + entry["data_offsets"][0] + 1000)
        file.write(b"\xff")
    for layout in ("neuron", "hf-bf16"):
        with pytest.raises(WeighbridgeError) as caught:
            wb.open(good).convert(tmp_path / layout, layout)
        assert "q_proj" in str(caught.value) and "NaN" in str(caught.value)
        assert (tmp_path / layout / ".weighbridge").is_dir() and not (tmp_path / layout / "weighbridge.json").exists()


@pytest.mark.parametrize("held", ["file", "hidden", "folder"])
def test_an_output_folder_that_is_not_empty(original, held, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    path = out / (".hidden" if held == "hidden" else "mine")
    path.mkdir() if held == "folder" else path.write_text("mine")
    before = all_bytes(out)
    text = refused(original, "hf-bf16", out)
    assert str(out) in text and path.name in text and "1 entries" in text
    assert all_bytes(out) == before


def test_an_output_that_is_a_file_or_the_source(good, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert str(tmp_path / "out") in refused(good, "hf-bf16", tmp_path / "out")
    before = all_bytes(good)
    refused(good, "hf-bf16", good)
    assert all_bytes(good) == before


def test_an_empty_output_folder_is_taken(original, tmp_path):
    (tmp_path / "out").mkdir()
    assert wb.open(original).convert(tmp_path / "out", "hf-bf16").document()["complete"]


def test_a_disk_that_is_too_small_by_its_own_word(original, tmp_path, monkeypatch):
    real = os.statvfs(tmp_path)
    class Full:
        f_bavail, f_frsize = 10, real.f_frsize
    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    need = wb.open(original).plan("hf-bf16").bytes_written
    text = refused(original, "hf-bf16", tmp_path / "out")
    told = [int(w.replace(",", "")) for w in text.split() if w.replace(",", "").isdigit()]
    assert told[0] >= need and 10 * real.f_frsize in told


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no right to mount a tmpfs here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(original, small_disk):
    text = refused(original, "hf-bf16", small_disk / "out")
    assert str(small_disk / "out") in text and "1,048,576" in text


def test_a_disk_that_fills_up_on_the_way_leaves_an_unfinished_folder(original, small_disk, monkeypatch):
    """Somebody else writes at the same time: the first look said that there was room."""
    monkeypatch.setattr("weighbridge.convert.output.os.statvfs", lambda path, real=os.statvfs: _Roomy(real(path)))
    with pytest.raises(WeighbridgeError) as caught:
        wb.open(original).convert(small_disk / "out", "hf-bf16")
    assert caught.value.first.code == "disk-full" and caught.value.exit_code == 2
    assert not (small_disk / "out" / "weighbridge.json").exists() and (small_disk / "out" / ".weighbridge").is_dir()


class _Roomy:
    def __init__(self, real) -> None:
        self.f_bavail, self.f_frsize = 1 << 40, real.f_frsize
