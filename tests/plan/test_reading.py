"""How much is read: looking at scales costs scales, whatever the kernel would read ahead; and no verb needs a descriptor for each file."""

from __future__ import annotations

import json
import mmap
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import weighbridge as wb
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.formats.scheme import plain
from weighbridge.plan import reader as readers
from weighbridge.plan.bind import bind
from weighbridge.plan.reader import Reader
from weighbridge.testing.pagecache import forget, pages
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import write_tiny


def scatter(path: Path) -> None:
    """Write a shard anew, each scale behind its weight: the format leaves the order free."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    parts, end = [], 0
    for name in sorted(n for n in header if n != "__metadata__"):
        begin, stop = header[name]["data_offsets"]
        parts.append(data[begin:stop])
        header[name]["data_offsets"] = [end, end + stop - begin]
        end += stop - begin
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def due(folder: Path) -> dict[str, set[int]]:
    """The pages of headers and scales, by file."""
    checkpoint = open_checkpoint(folder)
    found = {}
    for file, header in checkpoint.headers.items():
        spans = [(0, min(t.start for t in header.tensors.values()))]
        spans += [(t.start, t.start + t.nbytes) for t in header.tensors.values() if t.name.endswith("weight_scale_inv")]
        found[file] = {page for begin, end in spans for page in range(begin // mmap.PAGESIZE, (end - 1) // mmap.PAGESIZE + 1)}
    return found


def weighbridge(*words: object, descriptors: int = 0) -> str:
    limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))) if descriptors else None
    done = subprocess.run([sys.executable, "-m", "weighbridge", *map(str, words)], capture_output=True, text=True, check=False, timeout=300,
                          preexec_fn=limit)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("words", [("inspect",), ("convert", "--to", "neuron", "--dry-run"), ("convert", "--to", "hf-bf16", "--dry-run"),
                                   ("draw", "--to", "neuron")])
def test_only_pages_of_headers_and_scales_come_into_memory(words: tuple[str, ...], scattered: bool, tmp_path: Path) -> None:
    """Scales were read through a map, where the kernel reads 128 kB to 8 MB around each page: 52 MB of scales brought 17 GB."""
    folder = write_replica(tmp_path / "m", layers=2, experts=4, vocab=2048)
    if scattered:
        for path in folder.glob("*.safetensors"):
            scatter(path)
    wanted = due(folder)
    forget(folder)
    if any(pages(folder / file) for file in wanted):
        pytest.skip("this file system does not forget")
    arguments = [words[0], folder, *([tmp_path / "out"] if words[0] == "convert" else []), *words[1:]]
    weighbridge(*arguments)
    for file, allowed in wanted.items():
        surplus = pages(folder / file) - allowed
        # The first look at a header brings its whole length or a page more; nothing else may come.
        assert len(surplus) <= 1, f"{file}: {len(surplus)} pages too many of {len(allowed)}"


def test_neighbours_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = bind(open_checkpoint(write_tiny(tmp_path / "m")))
    expected = {b.stored.name: np.fromfile(tmp_path / "m" / b.scale.file, "<f4", b.scale.parameters, offset=b.scale.start)
                for b in source.bound if b.scale is not None}
    for chunk in (1, 100, 8 << 20):
        monkeypatch.setattr(readers, "CHUNK", chunk)
        groups = list(Reader(source).scales([(b, b.encoding.scale) for b in source.bound if b.encoding.scale]))
        found = {}
        for group, raw in groups:
            ends = np.cumsum([b.scale.parameters for b, _ in group])
            found |= {b.stored.name: part for (b, _), part in zip(group, np.split(raw.view("<f4"), ends[:-1]), strict=True)}
        assert found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)
        assert len(groups) == len(expected) if chunk == 1 else len(groups) < len(expected)


def test_a_vector_is_read_by_position(tmp_path: Path) -> None:
    """`run` reads the norms of all layers when it loads: through a map they would bring megabytes each."""
    source = bind(open_checkpoint(write_tiny(tmp_path / "m")))
    reader = Reader(source)
    vectors = [b for b in source.bound if b.stored.placement.vector]
    assert len(vectors) > 5
    for bound in vectors:
        assert reader.matrix(bound).encoding == plain(bound.weight.dtype) and reader.matrix(bound).codes_RC.nbytes == bound.weight.nbytes
    assert not reader.files


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replica(tmp_path_factory.mktemp("many") / "m", layers=2, experts=16, vocab=512, hidden=128, inter=128, heads=2, kv_heads=1,
                         head_dim=128, data="random", shards=120)


@pytest.mark.parametrize("words", ["inspect M", "check M --runtime vllm", "convert M OUT --to neuron", "verify M M", "explain M TENSOR",
                                   "compare M M --ids 1,2,3 --max-tokens 2", "compare M M --ids 1,2 --max-tokens 1 --max-memory 1GB"])
def test_many_shards_need_few_descriptors(words: str, many: Path, tmp_path: Path) -> None:
    """A map of `mmap.mmap` keeps a descriptor: with 1,024 of them, 1,024 shards were the end. Here 60, and 120 shards."""
    names = {"M": many, "OUT": tmp_path / "out", "TENSOR": "model.layers.1.block_sparse_moe.experts.3.w1.weight"}
    weighbridge(*(names.get(word, word) for word in words.split()), descriptors=60)


def test_a_vanished_source_is_no_mixture_for_the_library(tmp_path: Path) -> None:
    """Each method that reads weights refuses what changed since `wb.open`; a new `wb.open` takes it."""
    folder = write_tiny(tmp_path / "m")
    model = wb.open(folder)
    plan = model.plan("neuron")
    shard = sorted(folder.glob("*.safetensors"))[0]
    held = next(b.stored.name for b in plan.source.bound if b.weight.file == shard.name)
    os.utime(shard, ns=(1, 1))
    for call in (lambda: model.verify(folder), lambda: model.convert(tmp_path / "out", "neuron"), lambda: model.trace(held, "neuron"),
                 lambda: Reader(plan.source).scale_problems()):
        with pytest.raises(wb.WeighbridgeError, match="changed since it was opened"):
            call()
    assert wb.open(folder).verify(folder)["ok"]
