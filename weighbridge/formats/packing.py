"""Packings: a field is an index map of bits. For value i of a unit, where its bits lie.

A unit is the smallest run of bytes that can be cut out: one byte with two codes, a word of eight, three words of thirty-two 3-bit codes.
Sources: compressed-tensors 0.20 `pack_quantized.py` (dense little-endian bit streams), AutoAWQ 0.2.9 (`[0, 2, 4, 6, 1, 3, 5, 7]`),
bitsandbytes 0.50 (high nibble first), ModelOpt 0.47 `int4_tensor.py` (rows in pairs).
"""

from __future__ import annotations

from math import gcd
from typing import NamedTuple


class Packing(NamedTuple):
    """`values` codes of `width` bits lie in `size` bytes; code i begins at bit `starts[i]`, counted from the lowest bit of the first byte.

    Units follow one another along the stored `axis`: -1 columns, -2 rows. A unit is `size / word` stored elements of `word` bytes, which follow one
    another along that axis, too: three words of 3-bit codes along the rows lie in three rows, one below the other.
    """

    values: int
    size: int
    width: int
    starts: tuple[int, ...]
    axis: int = -1
    word: int = 1

    @property
    def packed(self) -> bool:
        """Whether a unit holds more than one code."""
        return self.values > 1

    def units(self, length: int) -> int:
        """Units that hold `length` values; the last may be filled up."""
        return -(-length // self.values)


def whole(bits: int) -> Packing:
    """One value in each unit of whole bytes."""
    return Packing(1, bits // 8, bits, (0,), word=bits // 8)


def dense(width: int, word: int = 32, axis: int = -1) -> Packing:
    """A little-endian bit stream in words of `word` bits: as few words as hold a whole number of codes."""
    words = width // gcd(width, word)
    values = words * word // width
    return Packing(values, words * word // 8, width, tuple(width * i for i in range(values)), axis, word // 8)


def ordered(width: int, order: tuple[int, ...], axis: int = -1) -> Packing:
    """A word in which place p holds value `order[p]`."""
    starts = [0] * len(order)
    for place, value in enumerate(order):
        starts[value] = width * place
    size = len(order) * width // 8
    return Packing(len(order), size, width, tuple(starts), axis, size)


LOW_FIRST = dense(4, 8)  # two codes in a byte, the first in the low nibble
HIGH_FIRST = ordered(4, (1, 0))  # bitsandbytes
ROW_PAIRS = dense(4, 8, axis=-2)  # ModelOpt INT4: row 2i in the low nibble, row 2i + 1 in the high one
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
