"""What a conversion reads: which files these are, and the hashes of their contents, taken when their bytes are first needed."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.convert.contents import Progress
from weighbridge.convert.hashing import digest, file_hash, part_digest, parts
from weighbridge.convert.looks import Looks
from weighbridge.convert.manifest import SourceRecord
from weighbridge.convert.threads import thread_count
from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.source import Source
from weighbridge.plan.reader import Reader

Known = dict[str, dict[str, str]]  # {file: {number of a part: hash in hexadecimal digits}}


class Weights:
    """One file with weights: its parts, and the hashes of those that have passed."""

    def __init__(self, file: str, size: int, tensors: Iterable[Tensor]) -> None:
        self.file = file
        self.parts = parts((t.start for t in tensors if t.nbytes), size)
        self.starts = [begin for begin, _ in self.parts]
        self.digests: list[bytes | None] = [None] * len(self.parts)

    def numbers(self, begin: int, stop: int) -> range:
        """The parts in which bytes `begin` to `stop` lie."""
        return range(bisect_right(self.starts, begin) - 1, bisect_right(self.starts, max(begin, stop - 1)))


class Origin:
    """The source of one conversion. Raises `source-changed` where a file is not what it was.

    Weights are hashed by `touch`, just before a kernel reads the same bytes; what no kernel needs (headers, dropped tensors) is read by `finish`.
    The small files beside the weights (`beside`: those that are read or copied) are hashed at once.
    """

    def __init__(self, checkpoint: Checkpoint, beside: Iterable[str]) -> None:
        self.checkpoint = checkpoint
        self.weights = {f: Weights(f, h.size, h.tensors.values()) for f, h in checkpoint.headers.items()}
        names = [f for f in beside if f in checkpoint.files]
        self.looks = Looks.now(self._statuses([*self.weights, *names]))
        self.beside = {f: (checkpoint.files[f], self._small(f)) for f in names}
        self.news: list[tuple[str, int]] = []
        for file in self.weights:
            self._require_header(file)

    def path(self, file: str) -> Path | None:
        return self.checkpoint.store.path(file)

    def _statuses(self, files: Iterable[str]) -> dict[str, os.stat_result]:
        try:
            return {file: path.stat() for file in files if (path := self.path(file))}
        except OSError as error:
            raise WeighbridgeError("io", f"cannot be read: {error.strerror}", str(error.filename),
                                   "the source must stay as it is while it is converted") from error

    def _read(self, file: str, offset: int, length: int) -> bytes:
        return self.checkpoint.store.read(file, offset, length)

    def _small(self, file: str) -> str:
        size = self.checkpoint.files[file]
        return file_hash([part_digest(lambda offset, length: self._read(file, offset, length), *part) for part in parts((), size)])

    def _require_header(self, file: str) -> None:
        """The plan was made from headers; a file that was exchanged since would be read at wrong places."""
        length = int.from_bytes(self._read(file, 0, 8), "little")
        header = self.checkpoint.headers[file]
        if length > header.size or hashlib.sha256(self._read(file, 8, length)).hexdigest() != header.sha256:
            raise self._changed(file, "its header is not the one that was read when it was opened", "run the command again")

    def _changed(self, file: str, why: str, hint: str) -> WeighbridgeError:
        return WeighbridgeError("source-changed", why, f"{self.checkpoint.label}/{file}", hint)

    def touch(self, tensor: Tensor, begin: int, stop: int, raw: Any) -> None:
        """Hash the parts in which bytes `begin` to `stop` of a tensor lie; `raw` is all of the tensor."""
        weights = self.weights[tensor.file]
        for number in weights.numbers(tensor.start + begin, tensor.start + stop):
            if weights.digests[number] is None:
                first, end = weights.parts[number]
                weights.digests[number] = digest(raw[first - tensor.start : end - tensor.start])
                self.news.append((tensor.file, number))

    def fresh(self) -> Known:
        """The hashes that came since the last call: what a journal needs to know the source again."""
        known: Known = {}
        for file, number in self.news:
            known.setdefault(file, {})[str(number)] = self.weights[file].digests[number].hex()  # type: ignore[union-attr]
        self.news = []
        return known

    def require_unchanged(self) -> None:
        """While it was read, no file was written, replaced or removed."""
        for file, status in self._statuses(self.looks.files).items():
            now = Looks.now({file: status}).files[file]
            if now != self.looks.files[file]:
                raise self._changed(file, "was changed while it was converted",
                                    "let the source rest, remove the unfinished output, and run the command again")

    def resume(self, known: Known, looks: Looks, output: Path) -> None:
        """Take over hashes of an earlier run, if the files are still those that it read. `known` was checked by `readable`."""
        now = self._statuses(self.weights)
        for file, digests in known.items():
            weights, same = self.weights[file], file in now and looks.same(file, now[file])
            for number, text in digests.items():
                begin, stop = weights.parts[int(number)]
                value = bytes.fromhex(text)
                if not same and part_digest(self._reader(file), begin, stop) != value:
                    raise self._changed(file, f"holds other bytes than when the unfinished output in {output} was begun (from byte {begin:,} on)",
                                        f"name a new folder, or remove {output}")
                weights.digests[int(number)] = value

    def _reader(self, file: str) -> Callable[[int, int], bytes]:
        return lambda offset, length: self._read(file, offset, length)

    def readable(self, known: Any) -> bool:
        """Whether the hashes that a journal states are of parts that these files have."""
        return isinstance(known, dict) and all(
            file in self.weights and isinstance(digests, dict) and all(
                isinstance(text, str) and len(text) == 32 and not set(text) - set("0123456789abcdef")
                and number.isdecimal() and len(number) < 12 and int(number) < len(self.weights[file].parts)
                for number, text in digests.items())
            for file, digests in known.items())

    def require_same(self, record: SourceRecord, looks: Looks, output: Path, progress: Progress | None = None) -> None:
        """The source is the one that the finished `output` was made from: a quick look, and the contents where that does not settle it."""
        hint = f"convert into another folder, or remove {output}"
        missing = (record.files.keys() - self.weights.keys()) | (record.beside.keys() - self.beside.keys())
        surplus = (self.weights.keys() - record.files.keys()) | (self.beside.keys() - record.beside.keys())
        for file in sorted(missing | surplus):
            words = ("gone", "with") if file in missing else ("new", "without")
            raise self._changed(file, f"is {words[0]}: the output in {output} was made {words[1]} it", hint)
        now = self._statuses(self.looks.files)
        unsure = [file for file in self.weights if file not in now or not looks.same(file, now[file])]
        self.finish(unsure, progress)
        for file, stated in (record.files | record.beside).items():
            if file in self.weights and file not in unsure:
                continue
            found = file_hash(self.weights[file].digests) if file in self.weights else self.beside[file][1]  # type: ignore[arg-type]
            if found != stated.hash:
                raise self._changed(file, f"holds other bytes than those that the finished output in {output} was made from", hint)

    def finish(self, files: Iterable[str] | None = None, progress: Progress | None = None) -> None:
        """Hash what has not passed yet."""
        left = [(self.weights[f], n) for f in (self.weights if files is None else files) for n, d in enumerate(self.weights[f].digests) if d is None]
        done, total = 0, sum(w.parts[n][1] - w.parts[n][0] for w, n in left)
        with ThreadPoolExecutor(thread_count()) as pool:
            values = pool.map(lambda one: part_digest(self._reader(one[0].file), *one[0].parts[one[1]]), left)
            for (weights, number), value in zip(left, values, strict=True):
                weights.digests[number] = value
                done += weights.parts[number][1] - weights.parts[number][0]
                if progress:
                    progress(done, total)

    def record(self) -> dict[str, Any]:
        """The source's files for the manifest, after `finish`."""
        headers = self.checkpoint.headers
        return {
            "files": {f: {"bytes": headers[f].size, "header_sha256": headers[f].sha256, "hash": file_hash(w.digests)}  # type: ignore[arg-type]
                      for f, w in self.weights.items()},
            "beside": {f: {"bytes": size, "hash": value} for f, (size, value) in self.beside.items()},
        }


class HashingReader(Reader):
    """A reader of a source that hashes the matrices that it gives, each when it is first asked for."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.origin: Origin | None = None

    def span(self, tensor: Tensor, start: int, size: int) -> np.ndarray:
        """As `Reader.span`. The bytes are read here once and in their order; they are in the cache when a kernel reads them again."""
        if self.origin is not None:
            self.origin.touch(tensor, start, start + size, self.bytes_of(tensor))
        return super().span(tensor, start, size)


__all__ = ["HashingReader", "Known", "Origin", "Weights"]
