"""Captures: the activations of a run as a folder of safetensors with `capture.json`, and the reader that checks them.

A capture holds every stage that `observe` names, [positions, width], all sequences one after the other. `embed` and the layers in
groups of eight lie in files of their own. `capture.json` is written last: a folder without it is not complete.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from weighbridge.version import __version__
from weighbridge.checkpoint.header import Tensor, read_header
from weighbridge.checkpoint.identity import AGAIN
from weighbridge.checkpoint.store import unsafe_name
from weighbridge.encoding import codec
from weighbridge.errors import Problem, Refused, Usage, WeighbridgeError
from weighbridge.plan.mapping import MappedFile

MANIFEST, SCHEMA = "capture.json", "weighbridge.capture/1"
NAME = re.compile(r"(?:embed|norm|logits|layers\.(0|[1-9]\d{0,3})\.(?:attn|router|chosen|experts|block))")
STAGES = ("attn", "router", "chosen", "experts", "block")
GROUP = 8  # layers in one file
CHUNK = 128  # tokens that are fed at a time
JSON_LIMIT = 64_000_000  # bytes of capture.json
MOST = 1 << 24  # positions of a capture
DTYPES: dict[str, Any] = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "BF16": np.uint16, "I64": np.int64, "I32": np.int32}

Observe = Callable[[str, np.ndarray], None]


class Recorded(msgspec.Struct, forbid_unknown_fields=True):
    """One sequence of a capture: its token ids, and the text of each where a tokenizer was at hand."""

    ids: list[int]
    tokens: list[str] = []


class Entry(msgspec.Struct):
    """One recorded stage: its place and form."""

    name: str
    dtype: str
    shape: list[int]
    file: str


class Manifest(msgspec.Struct):
    """`capture.json`."""

    schema: str
    version: str
    source: dict[str, str]
    numerics: str
    sequences: list[Recorded]
    names: list[Entry]


def order(name: str) -> tuple[int, int]:
    """The place of a stage in the pass: embed, the stages of each layer, norm, logits. `name` fits NAME."""
    parts = name.split(".")
    if len(parts) == 3:
        return int(parts[1]), STAGES.index(parts[2])
    return {"embed": (-1, 0), "norm": (1 << 20, 0), "logits": (1 << 20, 1)}[name]


def chunks(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """`ids` in runs of `size`, the last one shorter."""
    return (ids[at : at + size] for at in range(0, len(ids), size))


# ---- writing


def write_capture(folder: Path, engine: Any, sequences: Sequence[Sequence[int]], *, source: Any, numerics: str = "plain",
                  decode: Callable[[int], str] | None = None) -> dict[str, Any]:
    """Run `sequences` of token ids through `engine` and write every stage into `folder`; returns the manifest.

    `source` is what `bind` gave for the checkpoint, `decode` gives the text of one token. Memory holds one chunk of one
    stage. Raises Usage where there is nothing to run, WeighbridgeError where the folder holds something already.
    """
    sequences = [list(map(int, ids)) for ids in sequences if len(ids)]
    if not sequences:
        raise Usage("there is no token to run", "--capture", "give a prompt")
    _require_empty(folder)
    writer = _Writer(folder, sum(map(len, sequences)))
    for ids in sequences:
        session = engine.session(len(ids))
        # The first token alone tells all names and widths; from then on each stage goes straight to its place.
        for part in ([ids[:1], *chunks(ids[1:], CHUNK)] if not writer.entries else chunks(ids, CHUNK)):
            session.feed(part, rows="all", observe=writer)
            writer.advance(len(part))
    routing = engine.architecture.routing
    manifest = {
        "schema": SCHEMA, "version": __version__,
        "source": {"name": Path(source.checkpoint.label).name, "digest": source.checkpoint.digest, "layout": source.layout,
                   "model_type": source.checkpoint.model_type, **({"score": routing.score} if routing else {})},
        "numerics": numerics,
        "sequences": [{"ids": ids, "tokens": [decode(i) for i in ids] if decode else []} for ids in sequences],
        "names": writer.entries,
    }
    part = folder / (MANIFEST + ".partial")
    part.write_text(json.dumps(manifest, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
    os.replace(part, folder / MANIFEST)
    return manifest


def _require_empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    held = sorted(entry.name for entry in os.scandir(folder))
    if held:
        raise WeighbridgeError("output", f"the folder holds {len(held):,} files already, {held[0]!r} first", str(folder),
                               "give a new folder: two captures must not be mixed")


class _Writer:
    """`observe` of a session: keeps the stages of the first token, lays the files out, then writes rows in place."""

    def __init__(self, folder: Path, positions: int) -> None:
        self.folder, self.positions, self.row = folder, positions, 0
        self.first: dict[str, np.ndarray] = {}
        self.rows: dict[str, np.ndarray] = {}
        self.entries: list[dict[str, Any]] = []

    def __call__(self, name: str, array: np.ndarray) -> None:
        if self.entries:
            self.rows[name][self.row : self.row + len(array)] = array
        else:
            self.first[name] = np.array(array)

    def advance(self, tokens: int) -> None:
        """The stages of `tokens` more positions were seen."""
        if not self.entries:
            self._lay_out()
        self.row += tokens

    def _lay_out(self) -> None:
        groups: dict[str, list[str]] = {}
        for name in sorted(self.first, key=order):
            layer = order(name)[0]
            low = layer // GROUP * GROUP
            file = "start" if layer < 0 else "end" if layer >= 1 << 20 else f"layers-{low:04}-{low + GROUP - 1:04}"
            groups.setdefault(f"{file}.safetensors", []).append(name)
        for file, names in groups.items():
            self._make(file, names)
        for name, array in self.first.items():
            self.rows[name][: len(array)] = array
        self.first.clear()

    def _make(self, file: str, names: list[str]) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "np"}}
        end = 0
        kinds = {name: "I64" if self.first[name].dtype == np.int64 else "F32" for name in names}
        for name in sorted(names, key=lambda n: (kinds[n] != "I64", order(n))):  # the widest first, so that all lie on their size
            shape = [self.positions, self.first[name].shape[1]]
            size = shape[0] * shape[1] * np.dtype(DTYPES[kinds[name]]).itemsize
            header[name] = {"dtype": kinds[name], "shape": shape, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        path = self.folder / file
        with open(path, "wb") as handle:
            handle.write(struct.pack("<Q", len(text)) + text)
            handle.flush()
            os.posix_fallocate(handle.fileno(), 0, 8 + len(text) + end)  # a full disk shows now, not as a signal when a page is written
        for name in names:
            entry = header[name]
            self.rows[name] = np.memmap(path, DTYPES[entry["dtype"]], "r+", 8 + len(text) + entry["data_offsets"][0], tuple(entry["shape"]))
            self.entries.append({"name": name, "dtype": entry["dtype"], "shape": entry["shape"], "file": file})


# ---- reading


class Capture:
    """A folder of recorded activations. `rows(name, start, stop)` gives a stage, float32 (chosen: int64) [positions, width].

    Without `names` the folder holds `capture.json`; with it, a mapping file says what the tensors of another recorder
    are (`foreign.py`). Raises Refused with all that is wrong in manifest and headers.
    """

    def __init__(self, folder: Path, names: Path | None = None) -> None:
        self.folder, self.label, self.files = folder, str(folder), Files(folder)
        if names is None:
            manifest = _manifest(folder)
            self.sequences, self.numerics, self.source = manifest.sequences, manifest.numerics, manifest.source
            self.arrays = _own(folder, manifest, self.files)
        else:
            from weighbridge.engine import foreign

            self.sequences, self.arrays = foreign.read(folder, names, self.files)
            self.numerics, self.source = "recorded", {}
        self.names = sorted(self.arrays, key=order)

    @property
    def positions(self) -> int:
        return sum(len(each.ids) for each in self.sequences)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of one stage, copied out of the file."""
        part = self.arrays[name][start:stop]
        if name.endswith(".chosen"):
            copy = np.array(part, np.int64)
        else:
            copy = codec.from_bf16(part) if part.dtype == np.uint16 else np.array(part, np.float32)
        self.files.require_unchanged()
        return copy


def is_capture(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def sequence_problems(sequences: Sequence[Recorded], where: str) -> list[Problem]:
    """What is wrong with the token ids of a manifest or a mapping file."""
    count = sum(len(each.ids) for each in sequences)
    problems = []
    if not 0 < count <= MOST or any(not each.ids for each in sequences):
        problems.append(Problem("capture", f"{len(sequences):,} sequences with {count:,} token ids; 1 to {MOST:,} are needed, none of them empty",
                                f"{where}: sequences", "record again, or name the ids of the prompt"))
    for number, each in enumerate(sequences):
        wrong = [i for i in each.ids if not 0 <= i < 1 << 31]
        if wrong:
            problems.append(Problem("capture", f"{wrong[0]} is no token id", f"{where}: sequences[{number}]"))
        if each.tokens and len(each.tokens) != len(each.ids):
            problems.append(Problem("capture", f"{len(each.tokens):,} texts for {len(each.ids):,} ids", f"{where}: sequences[{number}]"))
    return problems


def read_json(path: Path, kind: Any) -> Any:
    """A JSON file as `kind`, whatever is in it; Refused with words otherwise."""
    try:
        size = path.stat().st_size
        if size > JSON_LIMIT:
            raise Refused([Problem("json-too-large", f"{size:,} bytes, the limit is {JSON_LIMIT:,}", str(path))])
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise WeighbridgeError("io", f"cannot be read: {error.strerror}", str(path), "give a capture folder, or --names FILE") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused([Problem("capture", f"is not of this form: {error}", str(path), "docs/bring-up.md shows the form")]) from error


def headers(folder: Path, files: Sequence[str]) -> tuple[dict[str, dict[str, Tensor]], list[Problem]]:
    """Checked headers of safetensors files in `folder`: {file: {name: tensor}}."""
    found, problems = {}, []
    for file in files:
        path = folder / file
        if unsafe_name(file) or "/" in file:
            problems.append(Problem("capture", f"{file[:200]!r} {unsafe_name(file) or 'leads into another folder'}", str(folder)))
        elif not path.is_file():
            problems.append(Problem("shard-missing", "the file is not here", str(path), "copy the whole folder"))
        else:
            with open(path, "rb", buffering=0) as handle:
                header, wrong = read_header(file, path.stat().st_size, lambda offset, length, h=handle: os.pread(h.fileno(), length, offset))
            problems += wrong
            found[file] = header.tensors if header else {}
    return found, problems


class Files:
    """The files of a recording, mapped when one of their tensors is asked for. What was read is good after `require_unchanged`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mapped: dict[str, MappedFile] = {}

    def array(self, tensor: Tensor) -> np.ndarray:
        """A stored tensor, read-only; BF16 as its bits. The header was checked against the file's length."""
        if 0 in tensor.shape:
            return np.empty(tensor.shape, DTYPES[tensor.dtype])
        if tensor.file not in self.mapped:
            self.mapped[tensor.file] = MappedFile(self.folder / tensor.file)
        raw = np.asarray(self.mapped[tensor.file])[tensor.start : tensor.start + tensor.nbytes]
        if len(raw) < tensor.nbytes:
            says = f"ends {tensor.nbytes - len(raw):,} bytes before its header says"
            raise WeighbridgeError("source-changed", says, str(self.folder / tensor.file), AGAIN)
        return raw.view(DTYPES[tensor.dtype]).reshape(tensor.shape)

    def require_unchanged(self) -> None:
        for file in self.mapped.values():
            file.require_unchanged()


def stage_problem(name: str, shape: Sequence[int], dtype: str, positions: int) -> str:
    """Why a tensor cannot be the stage `name`, or an empty text."""
    if not NAME.fullmatch(name):
        return "is no name of a stage"
    whole = dtype in ("I64", "I32")
    if dtype not in DTYPES or whole != name.endswith(".chosen"):
        return f"is {dtype}; {'I64 or I32' if name.endswith('.chosen') else 'F32, F64, F16 or BF16'} is needed"
    if len(shape) != 2 or shape[0] != positions or shape[1] < 1:
        return f"is {list(shape)}; [{positions}, width] is needed, a row for each token id"
    return ""


def _manifest(folder: Path) -> Manifest:
    manifest = read_json(folder / MANIFEST, Manifest)
    if manifest.schema != SCHEMA:
        raise Refused([Problem("capture", f"schema is {manifest.schema[:80]!r}, {SCHEMA} is known", str(folder / MANIFEST))])
    problems = sequence_problems(manifest.sequences, str(folder / MANIFEST))
    if problems:
        raise Refused(problems)
    return manifest


def _own(folder: Path, manifest: Manifest, files: Files) -> dict[str, np.ndarray]:
    """The stages that `capture.json` lists, each compared with the header of its file."""
    positions = sum(len(each.ids) for each in manifest.sequences)
    found, problems = headers(folder, sorted({entry.file for entry in manifest.names}))
    arrays: dict[str, np.ndarray] = {}
    for entry in manifest.names:
        tensor = found.get(entry.file, {}).get(entry.name)
        where = f"{folder / MANIFEST}: {entry.name[:200]}"
        wrong = stage_problem(entry.name, entry.shape, entry.dtype, positions) or ("is listed twice" if entry.name in arrays else "")
        if wrong:
            problems.append(Problem("capture", wrong, where, "record again"))
        elif tensor is None:
            problems += [Problem("missing-tensor", f"{entry.file} does not hold it", where)] if entry.file in found else []
        elif (tensor.dtype, list(tensor.shape)) != (entry.dtype, entry.shape):
            problems.append(Problem("capture", f"{tensor.dtype} {list(tensor.shape)} in {entry.file}, {entry.dtype} {entry.shape} in {MANIFEST}", where,
                                    "files of two captures are mixed: record again"))
        else:
            arrays[entry.name] = files.array(tensor)
    if not manifest.names:
        problems.append(Problem("capture", "it lists no stage", str(folder / MANIFEST)))
    if problems:
        raise Refused(problems)
    return arrays
