"""A skeleton: the checkpoint's own files with the same names, dtypes and shapes, folded to one layer of each kind, over holes.

It is made from headers and JSON that were read and checked. Nothing of a weight is read; tensors of a few bytes (sizes of packed weights,
scales of a whole tensor) are carried over where the files are local. No code and no pickle of the checkpoint gets in.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.checkpoint.checkpoint import INDEX, Checkpoint
from weighbridge.checkpoint.header import Header, Tensor
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.readers.trial.fold import Fold, fold

SETTINGS = ("generation_config.json", "hf_quant_config.json", "quantize_config.json", "quant_config.json", "preprocessor_config.json", "processor_config.json")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_LIMIT = 100_000_000  # bytes of one file
VALUES = 64  # bytes: a tensor up to this size is carried over with its values
MOST_VALUES = 50_000  # tensors so


@dataclass(frozen=True)
class Skeleton:
    """Where it lies, which layers it keeps, and all names in it, as the checkpoint spells them."""

    folder: Path
    fold: Fold
    tensors: int
    largest: int  # bytes of the largest tensor


def write_skeleton(checkpoint: Checkpoint, folder: Path, *, tokenizer: bool = False) -> Skeleton:
    """Write the skeleton into the empty `folder`. Raises `Refused` where headers or settings could not be read, or where the files are one per rank."""
    unread = [problem for problem in checkpoint.fatal if problem.code != "shard-missing"]  # a file that is not there is not there for the reader either
    if unread or not checkpoint.headers:
        raise Refused(unread or checkpoint.fatal)
    if checkpoint.ranks:
        raise WeighbridgeError("trial", "files for each rank are read by NxD Inference alone", checkpoint.label)
    folded = fold(checkpoint.tensors.values(), checkpoint.config)
    _put(folder / "config.json", folded.config(checkpoint.config))
    for name in SETTINGS:
        if name in checkpoint.files and (value := checkpoint.json(name)) is not None:
            _put(folder / name, folded.texts(value))
    if tokenizer:
        _tokenizer(checkpoint, folder)
    values = _Values(checkpoint)
    written = {file: _write(folder / file, header, folded, values) for file, header in checkpoint.headers.items()}
    index = checkpoint.json(INDEX)
    if index is not None and isinstance(index.get("weight_map"), dict):
        named = {made: file for name, file in index["weight_map"].items() if (made := folded.name(name)) and written.get(file, 1)}
        _put(folder / INDEX, {"metadata": index.get("metadata") or {}, "weight_map": named})
    return Skeleton(folder, folded, sum(written.values()), max((t.nbytes for t in checkpoint.tensors.values()), default=0))


class _Values:
    """Bytes of tiny tensors, from local files only."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.left = checkpoint, MOST_VALUES

    def of(self, tensor: Tensor) -> bytes | None:
        if not 0 < tensor.nbytes <= VALUES or self.left <= 0 or self.checkpoint.store.path(tensor.file) is None:
            return None
        self.left -= 1
        return self.checkpoint.store.read(tensor.file, tensor.start, tensor.nbytes)


def _write(path: Path, header: Header, folded: Fold, values: _Values) -> int:
    """One file with the kept tensors in their order; no file where none is kept. Returns how many there are."""
    kept = [(name, tensor) for tensor in sorted(header.tensors.values(), key=lambda t: t.start) if (name := folded.name(tensor.name))]
    if not kept and header.tensors:
        return 0
    text: dict[str, Any] = {"__metadata__": header.metadata} if header.metadata else {}
    end = 0
    for name, tensor in kept:
        text[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    raw = json.dumps(text, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        os.truncate(file.fileno(), 8 + len(raw) + end)
        for name, tensor in kept:
            if (value := values.of(tensor)) is not None:
                os.pwrite(file.fileno(), value, 8 + len(raw) + text[name]["data_offsets"][0])
    return len(kept)


def _tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    for name in TOKENIZER:
        size = checkpoint.files.get(name, -1)
        if 0 <= size <= TOKENIZER_LIMIT:
            (folder / name).write_bytes(checkpoint.store.read(name, 0, size))


def _put(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
