"""A skeleton is a checkpoint that the strict reader of headers takes, with the source's names, dtypes, shapes and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.inspection import tables
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.errors import WeighbridgeError
from weighbridge.readers.trial.skeleton import write_skeleton
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import write_tiny


def test_it_is_the_checkpoint_without_its_bytes(tmp_path: Path) -> None:
    source = open_checkpoint(write_tiny(tmp_path / "m", layers=4, shards=3, config={"num_mtp_modules": 0}))
    (tmp_path / "s").mkdir()
    made = write_skeleton(source, tmp_path / "s")
    skeleton = open_checkpoint(tmp_path / "s")
    assert not skeleton.problems
    assert made.fold.kept < 4 and skeleton.config["num_hidden_layers"] == made.fold.kept
    assert {(t.name, t.dtype, t.shape, t.file) for t in skeleton.tensors.values()} == {
        (t.name, t.dtype, t.shape, t.file) for t in source.tensors.values() if made.fold.name(t.name)}


def test_it_takes_no_disk_and_no_weight(tmp_path: Path) -> None:
    source = open_checkpoint(write_replica(tmp_path / "m", scales="zero"))
    (tmp_path / "s").mkdir()
    write_skeleton(source, tmp_path / "s")
    stats = [path.stat() for path in (tmp_path / "s").iterdir()]
    assert sum(one.st_size for one in stats) > 5e9
    assert sum(512 * one.st_blocks for one in stats) < 5e6


def test_tiny_values_are_carried_over(tmp_path: Path) -> None:
    source = tables.write_headers(tmp_path / "m", {"a.weight_shape": ("I64", (2,)), "a.weight_packed": ("I32", (256, 32))}, {"model_type": "llama"})
    checkpoint = open_checkpoint(source)
    with open(source / "model.safetensors", "r+b") as file:
        file.seek(checkpoint.tensors["a.weight_shape"].start)
        file.write(bytes(range(16)))
    checkpoint = open_checkpoint(source)
    (tmp_path / "s").mkdir()
    write_skeleton(checkpoint, tmp_path / "s")
    made = open_checkpoint(tmp_path / "s")
    tensor = made.tensors["a.weight_shape"]
    assert made.store.read(tensor.file, tensor.start, 16) == bytes(range(16))


def test_code_and_pickles_stay_out(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "m")
    for name in ("modeling_evil.py", "pytorch_model.bin", "tokenizer.json"):
        (source / name).write_text("x")
    (tmp_path / "s").mkdir()
    write_skeleton(open_checkpoint(source), tmp_path / "s")
    assert {path.suffix for path in (tmp_path / "s").iterdir()} == {".json", ".safetensors"}
    assert not (tmp_path / "s" / "tokenizer.json").exists()


def test_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "m", shards=1)
    file = next(source.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(WeighbridgeError):
        write_skeleton(open_checkpoint(source, lenient=True), tmp_path)


def test_the_index_names_what_is_kept(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "m", layers=3, shards=3)
    index = json.loads((source / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.0.absent.weight"] = next(iter(index["weight_map"].values()))
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "s").mkdir()
    write_skeleton(open_checkpoint(source, lenient=True), tmp_path / "s")
    made = open_checkpoint(tmp_path / "s", lenient=True)
    assert [problem.code for problem in made.problems] == ["index-names-absent"]


def test_a_file_that_is_not_there_stays_away(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "m", shards=3)
    gone = sorted(source.glob("*.safetensors"))[1]
    gone.unlink()
    (tmp_path / "s").mkdir()
    write_skeleton(open_checkpoint(source, lenient=True), tmp_path / "s")
    made = open_checkpoint(tmp_path / "s", lenient=True)
    assert [(problem.code, problem.where) for problem in made.fatal] == [("shard-missing", gone.name)]
