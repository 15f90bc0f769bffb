"""A checkpoint: its config, its tensors and what is wrong between index, headers and lengths."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import Any

import msgspec

from weighbridge.checkpoint.header import Header, Tensor, read_header
from weighbridge.checkpoint.store import Store, unsafe_name
from weighbridge.collector import paused
from weighbridge.errors import Problem, Refused, brief

INDEX = "model.safetensors.index.json"
NESTED = 200  # objects and lists in each other; what copies and writes JSON goes one call deeper for each
JSON_LIMIT = 64_000_000  # bytes; the largest real index (M2) has 9.8 MB
RANK_FILE = re.compile(r"^weights/tp(\d{1,5})_sharded_checkpoint\.safetensors$")


class Checkpoint:
    """Headers of all shards, read and checked; no byte of weight is read.

    `tensors` maps the stored name to its place. In a folder of per-rank shards the same name lies in
    every file, so there the key is `tp{rank}/{name}`. `problems` are disagreements that leave the
    headers readable (index against shards, surplus files): `convert` refuses them, `inspect` shows them.
    What makes reading impossible raises `Refused`, or with `lenient` stands in `fatal`, and the rest is read.
    """

    def __init__(self, store: Store, *, lenient: bool = False) -> None:
        self.store = store
        self.files = store.files()
        self.problems: list[Problem] = []
        self.fatal: list[Problem] = []
        self.lenient = lenient
        self.config: dict[str, Any] = self._settings("config.json")
        self.neuron_config: dict[str, Any] = self._settings("neuron_config.json")
        self.manifest: dict[str, Any] = self._settings("weighbridge.json")
        self.headers: dict[str, Header] = {}
        self.tensors: dict[str, Tensor] = {}
        self.ranks = sorted(int(m[1]) for f in self.files if (m := RANK_FILE.match(f)))
        with paused():
            self._read()

    @property
    def label(self) -> str:
        return self.store.label

    @property
    def model_type(self) -> str:
        """As config.json says it, cut where it is longer than any name of a family."""
        return brief(self.config.get("model_type", ""))

    @property
    def digest(self) -> str:
        """Hash over config, file names, sizes and header hashes: equal for equal layouts of bytes."""
        total = hashlib.sha256(msgspec.json.encode(self.config, order="sorted"))
        for file, header in sorted(self.headers.items()):
            total.update(f"{file}\0{header.size}\0{header.sha256}\n".encode())
        return total.hexdigest()

    @property
    def hops(self) -> list[dict[str, Any]]:
        """The conversions behind this checkpoint, oldest first, as its manifest tells them."""
        told = self.manifest.get("hops")
        return [hop for hop in told if isinstance(hop, dict)] if isinstance(told, list) else []

    def json(self, file: str) -> dict[str, Any] | None:
        """A JSON object among the files, or None where there is no such file."""
        size = self.files.get(file)
        if size is None:
            return None
        if size > JSON_LIMIT:
            raise Refused([Problem("json-too-large", f"{size:,} bytes, the limit is {JSON_LIMIT:,}", file)])
        try:
            value = msgspec.json.decode(self.store.read(file, 0, size))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Refused([Problem("not-json", f"is not JSON: {error}", file, "download the file again")]) from error
        if not isinstance(value, dict):
            raise Refused([Problem("not-json", "is not a JSON object", file, "download the file again")])
        if not _within(value, NESTED):
            raise Refused([Problem("json-nested", f"objects and lists lie more than {NESTED} deep in each other", file, "no configuration needs that")])
        return value

    def _settings(self, file: str) -> dict[str, Any]:
        try:
            return self.json(file) or {}
        except Refused as error:
            self._refuse(list(error.problems))
            return {}

    def _refuse(self, problems: list[Problem]) -> None:
        if problems and not self.lenient:
            raise Refused(problems)
        self.fatal += problems

    def _read(self) -> None:
        try:
            index = None if self.ranks else self._weight_map()
        except Refused as error:
            self._refuse(list(error.problems))
            index = None
        shards, fatal = self._shards(index)
        for file in shards:
            header, problems = read_header(file, self.files[file], lambda o, n, f=file: self.store.read(f, o, n))
            fatal += problems
            if header:
                self.headers[file] = header
        self._refuse(fatal)
        for file, header in self.headers.items():
            self._merge(file, header)
        if index is not None:
            self._compare(index)

    def _merge(self, file: str, header: Header) -> None:
        rank = RANK_FILE.match(file)
        named = {f"tp{rank[1]}/{name}": t for name, t in header.tensors.items()} if rank else header.tensors
        for name in self.tensors.keys() & named.keys():
            self.problems.append(Problem("duplicate-name", f"lies in {self.tensors[name].file} and in {file}", brief(name),
                                         "remove the file that is not of this checkpoint"))
        self.tensors.update(named)

    def _weight_map(self) -> dict[str, str] | None:
        index = self.json(INDEX)
        if index is None:
            return None
        try:
            return msgspec.convert(index.get("weight_map"), dict[str, str])
        except msgspec.ValidationError as error:
            raise Refused([Problem("index", "weight_map is not a map from tensor to file", INDEX)]) from error

    def _shards(self, index: dict[str, str] | None) -> tuple[list[str], list[Problem]]:
        """Files to read, and what makes reading impossible."""
        if self.ranks:
            return [f for f in self.files if RANK_FILE.match(f)], []
        present = [f for f in self.files if f.endswith(".safetensors") and "/" not in f]
        if index is None:
            if not present:
                return [], [Problem("no-weights", "no .safetensors file here", self.label,
                                    "give the folder that holds the weights")]
            return present, []
        counts = Counter(index.values())
        named = sorted(counts)
        fatal = []
        for file in named:
            bad = unsafe_name(file)
            if bad:
                fatal.append(Problem("index-path", f"the index names {brief(repr(file))}, which {bad}", INDEX,
                                     "do not use this checkpoint: no publisher writes such a name"))
            elif file not in self.files:
                fatal.append(Problem("shard-missing", f"the index puts {counts[file]:,} tensors there, the file is not here", brief(file),
                                     "download the missing file"))
        for file in sorted(set(present) - set(named)):
            self.problems.append(Problem("surplus-file", "lies beside the checkpoint, the index does not name it", file,
                                         "move it away, or allow it with --allow surplus-file"))
        return [f for f in named if f in self.files], fatal

    def _compare(self, index: dict[str, str]) -> None:
        """Names in the index against names in the headers, both ways."""
        if len(index) == len(self.tensors) and all(
            (t := self.tensors.get(name)) is not None and t.file == file for name, file in index.items()
        ):
            return
        for name, file in index.items():
            tensor = self.tensors.get(name)
            if tensor is None:
                self.problems.append(Problem("index-names-absent", f"the index names it in {brief(file)}, no shard holds it", brief(name),
                                             "download that file again, or write a new index"))
            elif tensor.file != file:
                self.problems.append(Problem("index-wrong-file", f"the index says {brief(file)}, it lies in {tensor.file}", brief(name)))
        for name in self.tensors.keys() - index.keys():
            self.problems.append(Problem("index-lacks", f"lies in {self.tensors[name].file}, the index does not name it", brief(name),
                                         "write a new index"))


def _within(value: object, most: int) -> bool:
    """Whether objects and lists lie at most `most` deep in each other."""
    level = [value]
    for _ in range(most):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer) if isinstance(inner, (dict, list))]  # type: ignore[attr-defined]
        if not level:
            return True
    return False
