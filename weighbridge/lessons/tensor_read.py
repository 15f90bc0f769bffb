"""The bytes of one weight as codes, scales and values, a band of rows at a time; never the whole of a large tensor.

`FORMS` says what is decoded: one row for each kind of code. A weight is seen as `lead` matrices of [rows, cols] values, in stored axes;
"flat" rows count through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.header import Tensor
from weighbridge.encoding import codec, kernels
from weighbridge.errors import WeighbridgeError
from weighbridge.lessons.tensor_source import SECOND, Found

LOOK = 24 << 20  # values that are looked at in a file on this machine: all of a [6144, 3072] weight
LOOK_FAR = 2 << 20  # values that are fetched from elsewhere
SCALES = 8 << 20  # scales that are read at once; of more, those of the rows that are looked at
BANDS = 32  # places that a sample comes from
BAND = 1 << 19  # values of one band
SMALL = 1 << 14  # values: smaller matrices of a stack without scales are seen as the rows of one
STACK = 1 << 14  # matrices of a stack; the most that a published model has is 512 experts


class Form(NamedTuple):
    """A kind of code: the value of each (float32), its fields from the highest bit down, and the largest magnitude."""

    fmt: str
    table: np.ndarray | None
    fields: tuple[int, ...]  # bits of sign, exponent, mantissa
    bias: int
    max: float


def _float_form(fmt: str) -> Form:
    own = codec.FORMATS[fmt]
    return Form(fmt, codec.decode_table(fmt), (1, own.exponent_bits, own.mantissa_bits), own.bias, own.max)


def _integers(bits: int, offset: bool) -> Form:
    """Packed integers are stored with half of their range added (compressed-tensors), INT8 as two's complement."""
    code = np.arange(1 << bits)
    value = code - (1 << bits - 1) if offset else np.where(code < 128, code, code - 256)
    return Form(f"int{bits}", value.astype(np.float32), (bits,), 0, float(1 << bits - 1))


# (dtype, packing) -> form. `{bits}` of packed words come from the config.
FORMS: dict[tuple[str, str], Callable[[Found], Form]] = {
    ("F8_E4M3", ""): lambda found: _float_form("e4m3" if found.neuron else "e4m3fn"),
    ("F8_E5M2", ""): lambda found: _float_form("e5m2"),
    ("F8_E4M3FNUZ", ""): lambda found: _float_form("e4m3fnuz"),
    ("U8", "pairs"): lambda found: _float_form("e2m1"),
    ("I8", "pairs"): lambda found: _float_form("e2m1"),
    ("I8", ""): lambda found: _integers(8, False),
    ("I32", "words"): lambda found: _integers(found.claims.bits if found.claims.bits in (2, 4, 8) else 4, True),
    ("BF16", ""): lambda found: Form("bfloat16", None, (1, 8, 7), 127, 3.3895313892515355e38),
    ("F16", ""): lambda found: Form("float16", None, (1, 5, 10), 15, 65504.0),
    ("F32", ""): lambda found: Form("float32", None, (1, 8, 23), 127, 3.4028234663852886e38),
    ("F64", ""): lambda found: Form("float64", None, (1, 11, 52), 1023, 1.7976931348623157e308),
}
PLAIN = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
_SCALE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "F32": lambda raw: raw.view("<f4"), "BF16": lambda raw: codec.from_bf16(raw.view("<u2")), "F16": lambda raw: raw.view("<f2").astype(np.float32),
    "F64": lambda raw: raw.view("<f8").astype(np.float32), "U8": lambda raw: codec.decode_table("e8m0")[raw],
    "F8_E8M0": lambda raw: codec.decode_table("e8m0")[raw], "F8_E4M3": lambda raw: codec.decode_table("e4m3fn")[raw],
}
_SCALE_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "U8": 1, "F8_E8M0": 1, "F8_E4M3": 1}


def decoded(codes: np.ndarray, scale: np.ndarray, block: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """float32 values of e4m3fn codes: `codec.decode`, by the kernel that agrees with it bit for bit."""
    codes, scale = np.ascontiguousarray(codes), np.ascontiguousarray(scale, np.float32)
    out = np.empty(codes.shape, np.float32)
    rows, cols = codes.shape
    kernels.decode_f32(codes.ctypes.data, cols, rows, cols, scale.ctypes.data, scale.shape[1], *origin, *block, out.ctypes.data, cols)
    return out


def form_of(found: Found) -> Form:
    """The row of `FORMS`. Raises WeighbridgeError with what is not decoded."""
    why = _not_decoded(found)
    row = FORMS.get((found.weight.dtype, found.packing))
    if row is None and not why:
        why = f"{found.weight.dtype} values are no float and no code that is known here"
    if why:
        raise WeighbridgeError("not-decoded", why, f"{found.weight.file}: {found.key}",
                               "weighbridge inspect SRC shows its headers; explain works FP8, MXFP8, FP4, INT8, packed INT4 and plain floats by hand")
    assert row is not None
    return row(found)


def _not_decoded(found: Found) -> str:
    if found.suffix == ".qweight":
        return "AWQ and GPTQ keep codes in another order, beside zero points (qzeros) and, in GPTQ, an order of inputs (g_idx): these are not decoded"
    if found.scale_suffix in (".weight.absmax", ".qscale_weight"):
        return f"codes with {found.scale_suffix.lstrip('.')} (bitsandbytes keeps its codebook in quant_map and quant_state) are not decoded"
    return ""


class Matrix:
    """A weight with its scales, read from the store by rows."""

    def __init__(self, checkpoint: Checkpoint, found: Found) -> None:
        self.checkpoint, self.found, self.form = checkpoint, found, form_of(found)
        self.lead, self.rows, self.cols = self._sizes()
        self.problem = found.kind.problem
        self.stride = found.weight.nbytes // max(1, self.lead * self.rows)
        self.near = checkpoint.store.path(found.weight.file) is not None
        self.block, self.slots = self._block()
        self.grid_rows, self.grid_cols = -(-self.rows // self.block[0]), -(-self.cols // self.block[1])
        self.second = self._second()
        if found.scale is not None and not self.problem:
            self._check_scale(found.scale)

    @property
    def scaled(self) -> bool:
        """Whether a scale that fits goes with the codes."""
        return self.found.scale is not None and not self.problem and self.form.table is not None

    @property
    def values(self) -> int:
        return self.lead * self.rows * self.cols

    def _sizes(self) -> tuple[int, int, int]:
        shape, packing = self.found.weight.shape, self.found.packing
        if self.found.suffix == "_blocks" and len(shape) >= 2:
            shape = (*shape[:-2], shape[-2] * shape[-1] * 2)
        elif packing and shape:
            shape = (*shape[:-1], shape[-1] * (2 if packing == "pairs" else 32 // self.form.fields[0]))
        if packing == "words":
            shape = (*shape[:-1], self._true_width(shape[-1]))
        lead, rows, cols = (prod(shape[:-2]), *((1, 1, *shape)[-2:]))
        if self.found.scale is None and rows * cols < SMALL:
            return 1, lead * rows, cols  # a convolution is a stack of tiny matrices
        if lead > STACK:
            raise WeighbridgeError("stack-too-high", f"{lead:,} matrices of {rows:,} x {cols:,}; the limit is {STACK:,}",
                                   f"{self.found.weight.file}: {self.found.key}", "weighbridge inspect SRC shows its headers")
        return lead, rows, cols

    def _true_width(self, packed: int) -> int:
        """Packed rows can be padded; `weight_shape` holds the real width."""
        held = self.checkpoint.tensors.get(self.found.key[: len(self.found.key) - len(self.found.suffix)] + ".weight_shape")
        module = self.found.key[: len(self.found.key) - len(self.found.suffix)]
        for helper in ("weight_zero_point", "weight_g_idx"):
            if f"{module}.{helper}" in self.checkpoint.tensors:
                raise WeighbridgeError("not-decoded", f"packed integers with {helper} are not decoded: only symmetric ones in their own order are",
                                       f"{self.found.weight.file}: {self.found.key}", "weighbridge inspect SRC shows its headers")
        if held is None or held.dtype not in ("I64", "I32") or held.shape != (2,):
            return packed
        width = int(np.frombuffer(self.read(held, 0, held.nbytes), "<i8" if held.dtype == "I64" else "<i4")[1])
        return width if 0 < width <= packed else packed

    def _block(self) -> tuple[tuple[int, int], np.ndarray | None]:
        """(rows, columns) that share one scale in the stored axes; a tensor without scale is one block."""
        whole, scale, kind = (max(1, self.rows), max(1, self.cols)), self.found.scale, self.found.kind
        if scale is None or self.problem:
            return whole, None
        if kind.block is not None:
            return (min(kind.block[0], whole[0]), min(kind.block[1], whole[1])), self._slots(scale, kind.block)
        if kind.strategy == "tensor":
            return whole, None
        fewer = len(scale.shape) < len(self.found.weight.shape) and scale.shape[-1:] == (self.cols,) != (self.rows,)
        across = scale.shape[-2:] == (1, self.cols) or fewer
        return ((whole[0], 1) if across else (1, whole[1])), None

    def _slots(self, scale: Tensor, block: tuple[int, int]) -> np.ndarray | None:
        """Columns of a stored grid that is padded for NxD (o_proj of the exact form), from the layout."""
        wanted = -(-self.cols // block[1])
        if not self.found.neuron or not scale.shape or scale.shape[-1] <= wanted:
            return None
        from weighbridge.plan.bind import bind

        try:
            held = next((b for b in bind(self.checkpoint).bound if b.weight is self.found.weight), None)
        except WeighbridgeError:
            return None
        return None if held is None or not held.stored.scale_slots else np.array(held.stored.scale_slots)

    def _check_scale(self, scale: Tensor) -> None:
        wanted, held = self.lead * self.grid_rows * self.grid_cols, prod(scale.shape)
        if scale.dtype not in _SCALE:
            self.problem = f"the scale is {scale.dtype}, which is no number format of a scale"
        elif not wanted:
            self.problem = "the tensor is empty"
        elif self.slots is None and held not in (wanted, 1):
            self.problem = f"the scale {list(scale.shape)} holds {held:,} values, blocks of {self.block[0]}x{self.block[1]} need {wanted:,}"

    def _second(self) -> np.ndarray | None:
        """The scale of the whole tensor over the scales of its groups (NVFP4): a factor for each matrix, float32 [lead] or [1]."""
        held = self.found.second
        if held is None or held.dtype not in ("F32", "BF16", "F16") or prod(held.shape) not in (1, self.lead):
            return None
        return _SCALE[held.dtype](np.frombuffer(self.read(held, 0, held.nbytes), np.uint8))

    @property
    def operation(self) -> str:
        return SECOND[self.found.second.name.rpartition(".")[2]] if self.found.second is not None else ""

    def read(self, tensor: Tensor, offset: int, length: int) -> bytes:
        raw = self.checkpoint.store.read(tensor.file, tensor.start + offset, length)
        if len(raw) != length:
            raise WeighbridgeError("io", f"the file ended: {len(raw):,} of {length:,} bytes could be read", f"{tensor.file}: {tensor.name}", "download the file again")
        return raw

    def raw(self, row: int, count: int) -> np.ndarray:
        """Stored elements of flat rows: codes uint8 [count, cols], or the bits or floats of a plain dtype."""
        raw = np.frombuffer(self.read(self.found.weight, row * self.stride, count * self.stride), np.uint8).reshape(count, self.stride)
        if self.form.table is None:
            return raw.view(np.dtype(PLAIN[self.found.weight.dtype]).newbyteorder("<"))
        if self.found.packing == "pairs":
            codes = np.empty((count, raw.shape[1] * 2), np.uint8)
            codes[:, 0::2], codes[:, 1::2] = raw & 15, raw >> 4  # the low nibble is first
            return codes[:, : self.cols]
        if self.found.packing == "words":
            bits = self.form.fields[0]
            words = raw.view("<u4")[:, :, None] >> np.arange(0, 32, bits, dtype=np.uint32)
            return (words & np.uint32((1 << bits) - 1)).reshape(count, -1)[:, : self.cols].astype(np.uint8)
        return raw

    def scales(self, start: int, count: int) -> np.ndarray:
        """float32 [count, grid columns]: rows of the grid, counted through all matrices. A second scale is in them."""
        scale, grid = self.found.scale, self.lead * self.grid_rows
        assert scale is not None
        each = _SCALE_BYTES[scale.dtype]
        if prod(scale.shape) == 1:
            value = _SCALE[scale.dtype](np.frombuffer(self.read(scale, 0, each), np.uint8))
            held = np.full((count, self.grid_cols), value[0], np.float32)
        else:
            width = scale.nbytes // max(1, grid)
            held = _SCALE[scale.dtype](np.frombuffer(self.read(scale, start * width, count * width), np.uint8)).reshape(count, -1)
        held = held[:, self.slots] if self.slots is not None else held
        if self.found.scale_suffix == ".SCB":
            held = held / np.float32(127)  # bitsandbytes stores the row's amax
        if self.second is None:
            return held
        factor = self.second[(start + np.arange(count)) // self.grid_rows][:, None] if self.second.size > 1 else self.second[0]
        with np.errstate(all="ignore"):
            return held * factor if self.operation == "x" else held / factor

    def decode(self, raw: np.ndarray, scale: np.ndarray | None, row: int = 0, col: int = 0) -> np.ndarray:
        """float32 values of a region whose corner lies at (row, col) inside the first block of `scale`."""
        if self.form.table is None:
            return codec.from_bf16(raw) if self.found.weight.dtype == "BF16" else raw.astype(np.float32)
        if scale is None:
            return self.form.table[raw]
        if self.form.fmt == "e4m3fn":
            return decoded(raw, scale, self.block, (row, col))
        with np.errstate(all="ignore"):
            return self.form.table[raw] * codec.expand(scale, raw.shape, self.block, (row, col))

    @property
    def tile(self) -> int:
        """Rows that are looked at together: those of a block where a band holds them, 128 for a tensor without scale."""
        if not self.scaled:
            return 128
        return self.block[0] if self.block[0] * self.cols <= 8 * BAND else 1

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """(flat row, count) of what is looked at: all of it, or bands at even distances, in whole rows of blocks where they are small."""
        total, most = self.lead * self.rows, LOOK if self.near else LOOK_FAR
        if self.cols > most:
            raise WeighbridgeError("row-too-long", f"one row has {self.cols:,} values, the limit is {most:,}", f"{self.found.weight.file}: {self.found.key}",
                                   "weighbridge inspect SRC shows its headers")
        if self.values <= most:
            return [(0, total)] if self.values else []
        unit = self.tile if self.tile * self.cols <= most else 1
        each = max(unit, most // BANDS // self.cols // unit * unit)
        count = max(1, min(BANDS, most // (each * self.cols)))
        starts = [(total - each) * place // max(1, count - 1) for place in range(count)]
        snapped = dict.fromkeys(row // self.rows * self.rows + row % self.rows // unit * unit for row in starts)
        return _apart([(row, min(each, total - row)) for row in snapped])

    @property
    def looked(self) -> int:
        return sum(count for _, count in self.runs) * self.cols

    def bands(self) -> Iterator[tuple[int, int]]:
        """The runs in bands of about `BAND` values and whole tiles, none over the edge of a matrix."""
        each = max(1, BAND // max(1, self.cols)) // self.tile * self.tile or self.tile
        for start, count in self.runs:
            row = start
            while row < start + count:
                stop = min(row + each, start + count, (row // self.rows + 1) * self.rows)
                yield row, stop - row
                row = stop

    def scale_of(self, row: int, count: int) -> tuple[np.ndarray | None, int]:
        """Scales of flat rows, and how far down in the first block the first of them lies."""
        if not self.scaled:
            return None, 0
        matrix, inside = divmod(row, self.rows)
        first, last = inside // self.block[0], (inside + count - 1) // self.block[0]
        return self.scales(matrix * self.grid_rows + first, last - first + 1), inside % self.block[0]


def _apart(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs in order, cut where the next one begins."""
    return [(row, min(count, following - row)) for (row, count), following in zip(runs, [*(r for r, _ in runs[1:]), 1 << 62], strict=True)]
