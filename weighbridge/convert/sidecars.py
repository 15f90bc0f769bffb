"""Everything beside the weights: config.json written anew, the index, neuron_config.json, what is carried along."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from weighbridge.version import __version__
from weighbridge.checkpoint.checkpoint import INDEX
from weighbridge.convert.configuration import configuration
from weighbridge.convert.folder import Folder
from weighbridge.convert.hashing import PART, digest, file_hash
from weighbridge.convert.inside import open_inside
from weighbridge.convert.manifest import MANIFEST, SCHEMA
from weighbridge.convert.shape import FileShape, bare
from weighbridge.convert.slab import Loss
from weighbridge.convert.system import write_all
from weighbridge.errors import Problem, WeighbridgeError, utf8
from weighbridge.layouts import NEURON
from weighbridge.layouts import neuron as neuron_layout
from weighbridge.plan.kept import NAME
from weighbridge.plan.kept import written as kept_scales
from weighbridge.plan.plan import Plan
from weighbridge.runtimes import neuron as reader

CARRIED = ("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
           "chat_template*", "preprocessor_config.json", "LICENSE*", "NOTICE*", "README.md")
OWN = (MANIFEST, "neuron_config.json", INDEX)  # never copied: an output has its own, or none
DEFAULT_CONTEXT = 4096  # tokens; what a first run on a device is compiled for


class Sidecars:
    """The files beside the weights of one output: which there are, and how each is made."""

    def __init__(self, plan: Plan, shapes: list[FileShape]) -> None:
        self.source = plan.source.checkpoint
        made = configuration(plan)
        self.written: dict[str, Callable[[], dict[str, Any]]] = {"config.json": lambda: made.config}
        self.written |= {name: (lambda value=value: value) for name, value in made.files.items()}
        if plan.layout != "neuron-shards":
            self.written[INDEX] = lambda: _index(shapes)
        if plan.layout in NEURON:
            self.written["neuron_config.json"] = lambda: neuron_configuration(plan)
        self.plan = plan
        self.streamed = [NAME] if plan.options.keep_scales else []
        others = [f for f in self.source.files if f not in self.written and f not in self.source.headers and f not in OWN]
        self.copied = [f for f in others if "/" not in f and not f.endswith(".safetensors") and any(fnmatch.fnmatch(f, pattern) for pattern in CARRIED)
                       and not any(fnmatch.fnmatch(f, pattern) for pattern in made.stale)]
        self.dropped = [f for f in others if f not in self.copied]

    @property
    def names(self) -> list[str]:
        return [*self.written, *self.streamed, *self.copied]

    @property
    def read(self) -> list[str]:
        """Files of the source, beside its weights, that this output is made from."""
        return [*OWN, "config.json", *([NAME] if self.plan.source.kept else []), *self.copied]

    def document(self) -> dict[str, list[str]]:
        return {"copied": self.copied, "rewritten": list(self.written), "dropped": self.dropped}

    def problems(self) -> list[Problem]:
        """Files that would be copied through a link from somewhere else: nobody published those with this checkpoint."""
        found: list[Problem] = []
        for file in self.copied:
            try:
                if self.source.store.path(file) is not None:
                    self._open(file).close()
            except WeighbridgeError as error:
                found += error.problems
        return found

    def _open(self, file: str) -> BinaryIO:
        path = self.source.store.path(file)
        if path is None:  # not from a folder: there are no links
            return BytesIO(self.source.store.read(file, 0, self.source.files[file]))
        try:
            return os.fdopen(open_inside(path.parent, path.name), "rb")
        except OSError as error:
            raise WeighbridgeError("io", f"cannot be read: {error.strerror}", str(path), "check rights and disk") from error

    def put(self, folder: Folder, name: str) -> dict[str, Any]:
        """Write one of them; returns its size and hash. Large ones are copied piece by piece."""
        if name in self.streamed:
            return self._write(folder, name, _parts(kept_scales(self.plan.source)))
        source = BytesIO(json_bytes(self.written[name]())) if name in self.written else self._open(name)
        with source:
            return self._write(folder, name, iter(lambda: source.read(PART), b""))

    def _write(self, folder: Folder, name: str, pieces: Iterable[bytes]) -> dict[str, Any]:
        """Write a file of pieces that are `PART` bytes each, but for the last: what hashes are made of."""
        handle = folder.create(name)
        try:
            size, digests = 0, []
            for piece in pieces:
                write_all(handle, memoryview(piece), size)
                size += len(piece)
                digests.append(digest(piece))
            folder.publish(name, handle)
        finally:
            folder.shut(handle)
        return {"bytes": size, "hash": file_hash(digests or [digest(b"")])}


def json_bytes(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def _index(shapes: list[FileShape]) -> dict[str, Any]:
    weight_map: dict[str, str] = {}
    total = 0
    for shape in shapes:
        total += shape.size - len(shape.header)
        for place in shape.places:
            stored = place.target.stored
            weight_map |= {bare(stored.field_name(field)): shape.name for field in place.target.fields}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def candidates(plan: Plan) -> dict[str, bool]:
    """Every module that NxD may quantize, by its path in the traced model, and whether this output holds it in FP8."""
    found: dict[str, bool] = {}
    for target in plan.targets:
        stem = bare(target.stored.stem)
        if stem == "lm_head" or stem.endswith("_proj"):
            module = stem.replace(".self_attn.o_proj", ".self_attn.o_proj.o_proj") if not stem.endswith("o_proj.o_proj") else stem
            for p in "qkv":
                if module.endswith(f".self_attn.{p}_proj"):
                    module = module.replace(f".{p}_proj", f".qkv_proj.{p}_proj")
            found[module] = found.get(module, True) and target.encoding.quantized
    return found


def neuron_configuration(plan: Plan) -> dict[str, Any]:
    """Exactly the settings under which this output loads."""
    options = plan.options
    parallel, _ = neuron_layout.parallelism(plan.inventory, options)
    exact = options.attention == "exact"
    rows, columns = options.block
    longest = plan.source.checkpoint.config.get("max_position_embeddings")
    told = isinstance(longest, int) and not isinstance(longest, bool) and longest > 0
    context = options.context or min(DEFAULT_CONTEXT, longest if told else DEFAULT_CONTEXT)
    return reader.configuration(parallel, exact=exact, block=(1, rows) if exact else (columns, rows), skip=reader.skip_list(candidates(plan)),
                                context=context, shards=plan.layout == "neuron-shards")


def manifest(plan: Plan, files: dict[str, dict[str, Any]], losses: dict[str, Loss], source: dict[str, Any], sidecars: Sidecars) -> dict[str, Any]:
    """Who made this from what, and what was lost on the way. No times and no paths: equal work, equal bytes."""
    checkpoint = plan.source.checkpoint
    return {
        "schema": SCHEMA,
        "version": __version__,
        "plan": plan.digest,
        "source": {"name": utf8(Path(checkpoint.label).name), "layout": plan.source.layout, "digest": checkpoint.digest, **source},
        "layout": plan.layout,
        "options": plan.options.asdict(),
        "hops": [*checkpoint.hops, _hop(plan)],
        "allowed": sorted({p.code for p in plan.problems if p.code in plan.options.allow} | (set(plan.options.allow) & {"reciprocal"})),
        "converted_scales": plan.scales,
        "lossy": [row | measured(losses.get(row["step"], Loss())) for row in plan.lossy],
        "files": files,
        **{key: [utf8(file) for file in listed] for key, listed in sidecars.document().items()},
    }


def _hop(plan: Plan) -> dict[str, Any]:
    """This conversion as one link of the chain that leads back to the published checkpoint."""
    return {"from": plan.source.checkpoint.digest, "layout": plan.layout, "options": plan.options.asdict(),
            "lossy": [row["step"] for row in plan.lossy]}


def measured(loss: Loss) -> dict[str, Any]:
    """The measured side of a lossy step; `share` is the part of the values that was compared."""
    good = loss.error > 0 and loss.signal > 0 and math.isfinite(loss.error)
    sqnr = round(10 * math.log10(loss.signal / loss.error), 2) if good else None
    return {"values": loss.values, "inexact": loss.inexact or None, "sqnr_db": sqnr, "overflow": not math.isfinite(loss.error),
            "share": round(loss.measured / loss.values, 4) if loss.values else 0}


def _parts(data: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `PART` each, but for the last."""
    rest = b""
    for more in data:
        rest += more
        while len(rest) >= PART:
            yield rest[:PART]
            rest = rest[PART:]
    if rest:
        yield rest
