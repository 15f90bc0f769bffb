"""A small checkpoint for each row of the table of schemes, with random bytes, and its values by plain Python: bits of big integers, ml_dtypes, loops."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ml_dtypes
import numpy as np

from tests.lessons.tensors import NAME, TYPES, write
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.store import Folder
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.packing import Packing
from weighbridge.formats.scheme import Encoding, Field, Role, every_field, filled
from weighbridge.formats.schemes import SCHEMES

SHAPE, GROUP, BLOCK = (64, 96), 32, (16, 24)
SMALL = {**TYPES, "e2m1": ml_dtypes.float4_e2m1fn, "e8m0": ml_dtypes.float8_e8m0fnu}
WIDE = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16}
SKIPPED = (Role.NOTE, Role.ACTIVATION, Role.ACTIVATION_DIVISOR)


def value_of(element: str, code: int) -> float:
    """What a code means, by ml_dtypes and Python's integers."""
    own = ELEMENTS[element]
    if element in SMALL:
        return float(np.uint8(code).view(SMALL[element]) if own.bits == 8 else np.arange(16, dtype=np.uint8).astype(np.uint8).view(SMALL[element])[code])
    if own.kind == "int":
        return float(code - (1 << own.bits) if code >> own.bits - 1 else code)
    if own.kind == "offset":
        name, _, less = element.replace("+", "-m").partition("-")
        return float(code - (-int(less[1:]) if less.startswith("m") else int(less or 0)))
    return float(np.float32(own.book[code]))


@dataclass
class Weight:
    """One checkpoint of one scheme. Everything is looked up by (matrix, row, column), in stored axes."""

    folder: Path
    name: str
    scheme: str
    encoding: Encoding
    lead: int
    shape: tuple[int, int]
    raw: dict[str, list[bytes]]  # of each field, one for each matrix

    @property
    def checkpoint(self) -> Checkpoint:
        return Checkpoint(Folder(self.folder))

    def code(self, m: int, i: int, j: int) -> int:
        field = self.encoding.code
        return self.bits(field, m, i, j, self.shape)

    def bits(self, field: Field, m: int, i: int, j: int, shape: tuple[int, int]) -> int:
        """The code at a place of a field's grid of `shape`, cut out of one big integer."""
        packing: Packing = field.packing
        raw = self.raw[field.suffix][m]
        rows, cols = shape
        if field.flat:
            unit, inside = divmod(i * cols + j, packing.values)
            start = unit * packing.size
            return int.from_bytes(raw[start : start + packing.size], "little") >> packing.starts[inside] & (1 << packing.width) - 1
        if packing.axis == -1:
            unit, inside = divmod(j, packing.values)
            stride = -(-cols // packing.values) * packing.size
            word = raw[i * stride + unit * packing.size : i * stride + (unit + 1) * packing.size]
        else:
            unit, inside = divmod(i, packing.values)
            word = b""
            for line in range(packing.size // packing.word):
                at = ((unit * (packing.size // packing.word) + line) * cols + j) * packing.word
                word += raw[at : at + packing.word]
        return int.from_bytes(word, "little") >> packing.starts[inside] & (1 << packing.width) - 1

    def own(self, field: Field, m: int, at: tuple[int, int], grid: tuple[int, int]) -> np.float32:
        """What one place of a factor holds, without what scales it again."""
        m = m if len(self.raw[field.suffix]) > 1 else 0
        if field.role is Role.OFFSET:
            return np.float32(json.loads(self.raw[field.suffix][m])[field.element])
        if ELEMENTS[field.element].bits > 8:
            kind = np.dtype(WIDE[field.dtype])
            number = at[0] * grid[1] + at[1]
            value = np.frombuffer(self.raw[field.suffix][m][number * kind.itemsize : (number + 1) * kind.itemsize], kind)[0]
            return np.float32(np.float32(value) / np.float32(field.over))
        return np.float32(value_of(field.element, self.bits(field, m, *at, grid)))

    def place(self, field: Field, m: int, i: int, j: int) -> tuple[int, int]:
        if field.flat:
            return 0, (i * self.shape[1] + j) // field.block[1]
        order = ".g_idx" in self.raw
        row = int(np.frombuffer(self.raw[".g_idx"][0], "<i4")[i]) if order and field.block[0] else i // field.block[0] if field.block[0] else 0
        return row, j // field.block[1] if field.block[1] else 0

    def factor(self, field: Field, m: int, i: int, j: int) -> np.float32:
        at, grid = self.place(field, m, i, j), field.grid(*self.shape)
        value = self.own(field, m, at, grid)
        for part in field.inner:
            inside = tuple(a // b if b else 0 for a, b in zip(at, part.block, strict=True))
            other = self.own(part, m, inside, part.grid(*grid))  # type: ignore[arg-type]
            value = value / other if part.role is Role.DIVISOR else value + other if part.role is Role.OFFSET else value * other
        return np.float32(value)

    def scale(self, m: int, i: int, j: int) -> np.float32:
        assert self.encoding.scale is not None
        return self.factor(self.encoding.scale, m, i, j)

    def zero(self, m: int, i: int, j: int) -> np.float32 | None:
        return self.factor(self.encoding.zero, m, i, j) if self.encoding.zero else None

    def weight(self, m: int, i: int, j: int) -> np.float32:
        value, zero = np.float32(value_of(self.encoding.element, self.code(m, i, j))), self.zero(m, i, j)
        return (value if zero is None else value - zero) * self.scale(m, i, j)


def random_raw(field: Field, shape: tuple[int, int], rng: np.random.Generator) -> bytes:
    """Bytes that read as finite numbers."""
    if field.role is Role.OFFSET:
        return json.dumps({field.element: 0.25, "shape": list(SHAPE), "dtype": "float16"}).encode()
    if field.role is Role.SHAPE:
        return np.array(SHAPE, "<i8").tobytes()
    rows, cols = field.grid(*shape)
    own = ELEMENTS[field.element]
    if field.role is Role.ORDER:
        return rng.permutation(np.arange(rows) // GROUP).astype("<i4").tobytes()
    if own.bits > 8:
        return np.exp2(rng.uniform(-6, 2, rows * cols)).astype(WIDE[field.dtype]).tobytes()
    low, high = {"e8m0": (118, 130), "e4m3fn": (1, 0x7E), "e4m3": (0, 0x77), "e4m3fnuz": (1, 0x7F), "e5m2": (0, 0x7B), "dynamic8": (128, 256)}.get(field.element, (0, 256))
    units = field.packing.units(rows if field.packing.axis == -2 else cols) * (cols if field.packing.axis == -2 else rows)
    return rng.integers(low, high, units * field.packing.size, dtype=np.uint8).tobytes()


def make(folder: Path, name: str, order: bool = False, seed: int = 0) -> Weight:
    """A checkpoint with one weight of 64 x 96 values in the scheme `name`."""
    scheme, rng = SCHEMES[name], np.random.default_rng(seed)
    encoding = filled(scheme, BLOCK, GROUP)
    stacked = not encoding.code.suffix.startswith(".")
    lead = 2 if stacked else 1
    stem = "model.layers.0.mlp.experts.gate_up_proj" if stacked else NAME
    raw: dict[str, list[bytes]] = {}
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}

    def add(field: Field, shape: tuple[int, int], outer: tuple[int, ...]) -> None:
        if field.role in SKIPPED or field.role is Role.ORDER and not order:
            return
        raw[field.suffix] = [random_raw(field, shape, rng) for _ in range(lead)]
        one = raw[field.suffix][0]
        tensors[stem + field.suffix] = (field.dtype, (len(one),) if field.role is Role.OFFSET else field.shapes(outer)[0])
        for part in field.inner:
            add(part, field.grid(*shape), field.grid(*shape))

    whole = (lead, *SHAPE) if stacked else SHAPE
    for field in encoding.fields:
        add(field, SHAPE, whole)
    for field in every_field(encoding.fields):  # the JSON text of a codebook is a tensor of its own
        if field.role is Role.NOTE and "quant_state" in field.suffix and field.suffix not in raw:
            raw[field.suffix] = [json.dumps({"shape": list(SHAPE)}).encode()]
            tensors[stem + field.suffix] = ("U8", (len(raw[field.suffix][0]),))
        elif field.role is Role.NOTE and "quant_map" in field.suffix:
            raw[field.suffix] = [np.zeros(16, np.float32).tobytes()]
            tensors[stem + field.suffix] = ("F32", (16,))
    method = scheme.methods[0]
    claim: dict[str, Any] = {"quant_method": "gptq" if method == "gptq_v2" else method, "weight_block_size": list(BLOCK), "group_size": GROUP,
                             "bits": encoding.code.packing.width}
    if method == "gptq_v2":
        claim["checkpoint_format"] = "gptq_v2"
    config: dict[str, Any] = {"model_type": "nobody"} if method == "neuron" else {"model_type": "nobody", "quantization_config": claim}
    files = {"neuron_config": json.dumps({"quantized": True, "quantization_dtype": "f8e4m3", "quantization_block_size": list(BLOCK)}).encode()} if method == "neuron" else {}
    write(folder, tensors, {stem + suffix: b"".join(parts) for suffix, parts in raw.items()}, config, **files)
    return Weight(folder, stem, name, encoding, lead, SHAPE, raw)


def stand_apart(root: ElementTree.Element) -> None:
    """No text of a picture reaches into another one on its line, or out of the picture. Widths are those of the fonts' usual letters."""
    svg = "{http://www.w3.org/2000/svg}"
    wide, tall = (float(v) for v in root.get("viewBox", "").split()[2:])
    lines: dict[float, list[tuple[float, float, str]]] = {}
    for element in root.iter(svg + "text"):
        words, kind = element.text or "", element.get("class", "")
        size = 7.3 if "mono" in kind else 5.4 if "small" in kind else 8.2 if "head" in kind else 6.6
        x, width = float(element.get("x", 0)), size * len(words)
        left = x - width / 2 if "mid" in kind else x - width if "end" in kind else x
        assert left >= -1 and left + width <= wide + 1 and float(element.get("y", 0)) <= tall, (words, left, left + width, wide)
        lines.setdefault(float(element.get("y", 0)), []).append((left, left + width, words))
    for row in lines.values():
        row.sort()
        for one, two in zip(row, row[1:], strict=False):
            assert one[1] <= two[0] + 2, (one, two)
