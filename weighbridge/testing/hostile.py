"""Ways to break a checkpoint, each in one place.

`FAULTS[name](folder)` breaks a good folder of `tiny.write_tiny` (FP8, two shards or more) in place. Whatever reads
the folder then must stop with a message that names the file, the tensor and the numbers, before it writes anything.
"""
from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

from .safetensors_writer import encode, read_header, write_file
from .shapes import SCALE

FAULTS: dict[str, Callable[[Path], None]] = {}
INDEX = "model.safetensors.index.json"
MODULE = "model.layers.0.self_attn.q_proj"
WEIGHT, SCALES = f"{MODULE}.weight", f"{MODULE}.{SCALE}"
NORM = "model.layers.0.self_attn.k_norm.weight"


def fault(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """Registers a fault under the name of its function."""
    FAULTS[function.__name__] = function
    return function


# Tools: every fault is one or two of these calls.


def _shards(folder: Path) -> list[Path]:
    return sorted(Path(folder).glob("*.safetensors"))


def _shard_of(folder: Path, name: str) -> Path:
    return next(path for path in _shards(folder) if name in read_header(path)[0])


def _change_json(path: Path, change: Callable[[dict], None]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")


def _change_weight_map(folder: Path, change: Callable[[dict], None]) -> None:
    _change_json(folder / INDEX, lambda index: change(index["weight_map"]))


def _change_header(path: Path, change: Callable[[dict], None]) -> None:
    """Writes a changed header before the same data."""
    header, start = read_header(path)
    data = path.read_bytes()[start:]
    change(header)
    path.write_bytes(encode(header) + data)


def _replace_header(path: Path, text: bytes) -> None:
    data = path.read_bytes()[read_header(path)[1] :]
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _change_tensors(path: Path, change: Callable[[dict], None]) -> None:
    """Changes {name: (dtype, shape, data)} of a file and writes a good file from it."""
    header, start = read_header(path)
    data = path.read_bytes()
    metadata = header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = entry["dtype"], entry["shape"], data[start + begin : start + end]
    change(tensors)
    write_file(path, tensors, metadata)


def _remove(folder: Path, names: Callable[[str], bool]) -> None:
    """Takes tensors out of the shards and of the index."""

    def drop(entries: dict) -> None:
        for name in list(filter(names, entries)):
            del entries[name]

    for path in _shards(folder):
        _change_tensors(path, drop)
    _change_weight_map(folder, drop)


def _set_last_scale(folder: Path, value: float) -> None:
    def change(tensors: dict) -> None:
        dtype, shape, data = tensors[SCALES]
        code = struct.pack("<f", value)
        code = code[2:] if dtype == "BF16" else code
        tensors[SCALES] = dtype, shape, data[: -len(code)] + code

    _change_tensors(_shard_of(folder, SCALES), change)


def _change_entry(folder: Path, name: str, change: Callable[[dict], dict]) -> None:
    """Changes what the header says of one tensor; `change` returns the keys that are to differ."""
    _change_header(_shard_of(folder, name), lambda header: header[name].update(change(header[name])))


# The header.


@fault
def header_longer_than_file(folder: Path) -> None:
    """The first shard says that its header is longer than the whole file."""
    path = _shards(folder)[0]
    data = path.read_bytes()
    path.write_bytes(struct.pack("<Q", len(data) + 1000) + data[8:])


@fault
def header_length_huge(folder: Path) -> None:
    """The first shard says that its header has 2^64 - 1 bytes."""
    path = _shards(folder)[0]
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


@fault
def header_not_json(folder: Path) -> None:
    """The header of the first shard breaks off in the middle."""
    path = _shards(folder)[0]
    start = path.read_bytes()[8 : read_header(path)[1]]
    _replace_header(path, start[: len(start) // 2].ljust(len(start)))


@fault
def header_not_an_object(folder: Path) -> None:
    """The header of the first shard is a JSON list."""
    _replace_header(_shards(folder)[0], b"[1, 2]  ")


@fault
def header_deeply_nested(folder: Path) -> None:
    """The header of the first shard is 100,000 lists in each other."""
    _replace_header(_shards(folder)[0], b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}  ")


@fault
def duplicate_name_in_header(folder: Path) -> None:
    """One header has a tensor twice, word for word. Most JSON readers keep one of the two in silence."""
    path = _shard_of(folder, WEIGHT)
    header, start = read_header(path)
    text = path.read_bytes()[8:start].rstrip()
    text = text[:-1] + f",{json.dumps(WEIGHT)}:{json.dumps(header[WEIGHT])}}}".encode()
    _replace_header(path, text + b" " * (-len(text) % 8))


# What the header says of one tensor.


@fault
def offsets_overlap(folder: Path) -> None:
    """Two tensors of one size have the same bytes."""
    path = _shards(folder)[0]

    def change(header: dict) -> None:
        seen: dict[int, dict] = {}
        for entry in (entry for name, entry in header.items() if name != "__metadata__"):
            size = entry["data_offsets"][1] - entry["data_offsets"][0]
            if size in seen:
                entry["data_offsets"] = seen[size]["data_offsets"]
                return
            seen[size] = entry

    _change_header(path, change)


@fault
def offsets_out_of_range(folder: Path) -> None:
    """A tensor of the right size begins where the file ends."""
    path = _shard_of(folder, WEIGHT)
    data_end = path.stat().st_size - read_header(path)[1]

    def change(entry: dict) -> dict:
        begin, end = entry["data_offsets"]
        return {"data_offsets": [data_end, data_end + end - begin]}

    _change_entry(folder, WEIGHT, change)


@fault
def offsets_negative(folder: Path) -> None:
    """A tensor of the right size ends where the data begins: it would lie in the header."""

    def change(entry: dict) -> dict:
        begin, end = entry["data_offsets"]
        return {"data_offsets": [begin - end, 0]}

    _change_entry(folder, WEIGHT, change)


@fault
def offsets_inverted(folder: Path) -> None:
    """A tensor ends before it begins."""
    _change_entry(folder, WEIGHT, lambda entry: {"data_offsets": entry["data_offsets"][::-1]})


@fault
def offsets_gap(folder: Path) -> None:
    """64 bytes before the last tensor belong to no tensor."""
    path = _shards(folder)[0]
    header, start = read_header(path)
    data = path.read_bytes()[start:]
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    begin, end = header[last]["data_offsets"]
    header[last]["data_offsets"] = [begin + 64, end + 64]
    path.write_bytes(encode(header) + data[:begin] + bytes(64) + data[begin:])


@fault
def shape_negative(folder: Path) -> None:
    """Both sizes of a matrix are negative, so that their product is right."""
    _change_entry(folder, WEIGHT, lambda entry: {"shape": [-size for size in entry["shape"]]})


@fault
def size_shape_mismatch(folder: Path) -> None:
    """A matrix has one row more than its bytes."""
    _change_entry(folder, WEIGHT, lambda entry: {"shape": [entry["shape"][0] + 1, entry["shape"][1]]})


@fault
def unknown_dtype(folder: Path) -> None:
    """A weight has a dtype that safetensors does not know."""
    _change_entry(folder, WEIGHT, lambda entry: {"dtype": "F8_E3M4"})


# The files.


@fault
def shard_missing(folder: Path) -> None:
    """The last shard is not there."""
    _shards(folder)[-1].unlink()


@fault
def shard_empty(folder: Path) -> None:
    """The last shard has no bytes."""
    _shards(folder)[-1].write_bytes(b"")


@fault
def shard_truncated(folder: Path) -> None:
    """The last shard is 64 bytes shorter than its header says."""
    path = _shards(folder)[-1]
    path.write_bytes(path.read_bytes()[:-64])


@fault
def shard_too_long(folder: Path) -> None:
    """The last shard has 64 bytes more than its header says."""
    path = _shards(folder)[-1]
    path.write_bytes(path.read_bytes() + bytes(64))


@fault
def lfs_pointer(folder: Path) -> None:
    """The last shard is the text that git-lfs leaves in place of a file."""
    path = _shards(folder)[-1]
    size = path.stat().st_size
    path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0123456789abcdef' * 4}\nsize {size}\n", "utf-8"
    )


@fault
def config_missing(folder: Path) -> None:
    """There is no config.json."""
    (folder / "config.json").unlink()


@fault
def config_not_json(folder: Path) -> None:
    """config.json breaks off in the middle."""
    path = folder / "config.json"
    path.write_bytes(path.read_bytes()[:200])


# The index.


@fault
def index_not_json(folder: Path) -> None:
    """The index breaks off in the middle."""
    path = folder / INDEX
    path.write_bytes(path.read_bytes()[:200])


@fault
def index_names_absent_tensor(folder: Path) -> None:
    """The index names a tensor that its shard does not have."""
    name = _shards(folder)[0].name
    _change_weight_map(folder, lambda names: names.update({"model.layers.0.self_attn.ghost.weight": name}))


@fault
def shard_has_unindexed_tensor(folder: Path) -> None:
    """A shard has a tensor that the index does not name."""
    _change_weight_map(folder, lambda names: names.pop(NORM))


@fault
def duplicate_name_across_shards(folder: Path) -> None:
    """Two shards have a tensor of the same name, with different bytes."""
    tensors: dict[str, tuple] = {}
    path = _shard_of(folder, NORM)
    _change_tensors(path, tensors.update)
    dtype, shape, data = tensors[NORM]
    other = next(shard for shard in _shards(folder) if shard != path)
    _change_tensors(other, lambda entries: entries.update({NORM: (dtype, shape, bytes(len(data)))}))


@fault
def index_path_dotdot(folder: Path) -> None:
    """The index names a shard by a path with `..`; the path leads to the right file."""
    path = _shards(folder)[0]
    _rename_in_index(folder, path.name, f"../{Path(folder).resolve().name}/{path.name}")


@fault
def index_path_absolute(folder: Path) -> None:
    """The index names a shard by an absolute path, which leads to the right file."""
    path = _shards(folder)[0].resolve()
    _rename_in_index(folder, path.name, str(path))


def _rename_in_index(folder: Path, old: str, new: str) -> None:
    _change_weight_map(
        folder, lambda names: names.update({name: new for name, shard in names.items() if shard == old})
    )


# Weights and scales.


@fault
def scale_shape_wrong(folder: Path) -> None:
    """The scales of a matrix are as many as its blocks, in another shape."""

    def change(entry: dict) -> dict:
        count = entry["shape"][0] * entry["shape"][1]
        return {"shape": [count, 1] if entry["shape"][1] != 1 else [1, count]}

    _change_entry(folder, SCALES, change)


@fault
def weight_without_scale(folder: Path) -> None:
    """An FP8 weight has no scales, in no shard and not in the index."""
    _remove(folder, SCALES.__eq__)


@fault
def scale_without_weight(folder: Path) -> None:
    """Scales have no weight, in no shard and not in the index."""
    _remove(folder, WEIGHT.__eq__)


@fault
def scale_nan(folder: Path) -> None:
    """The last scale of a matrix is NaN."""
    _set_last_scale(folder, float("nan"))


@fault
def scale_zero(folder: Path) -> None:
    """The last scale of a matrix is zero."""
    _set_last_scale(folder, 0.0)


@fault
def scale_inf(folder: Path) -> None:
    """The last scale of a matrix is infinite."""
    _set_last_scale(folder, float("inf"))


@fault
def scale_negative(folder: Path) -> None:
    """The last scale of a matrix is below zero."""
    _set_last_scale(folder, -1e-4)


@fault
def missing_tensor(folder: Path) -> None:
    """A whole expert is absent, from the shards and from the index."""
    _remove(folder, lambda name: ".layers.0.block_sparse_moe.experts.1." in name)


@fault
def surplus_tensor(folder: Path) -> None:
    """A shard and the index have a tensor that the model does not have."""
    path, name = _shards(folder)[0], "model.layers.0.self_attn.surplus.weight"
    _change_tensors(path, lambda tensors: tensors.update({name: ("BF16", [4, 4], bytes(32))}))
    _change_weight_map(folder, lambda names: names.update({name: path.name}))
