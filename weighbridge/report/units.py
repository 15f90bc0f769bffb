"""Numbers for people: sizes in decimal units, counts with thousands separators."""

from __future__ import annotations

_STEPS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def size(nbytes: int) -> str:
    """A size in bytes as `230.12 GB`: decimal units, as disks and the hub count them."""
    value, step = float(nbytes), 0
    # 999.995 would be printed as 1000.00: step up where rounding gets there.
    while abs(value) >= 999.995 and step < len(_STEPS) - 1:
        value, step = value / 1000, step + 1
    return f"{nbytes:,} bytes" if step == 0 else f"{value:.2f} {_STEPS[step]}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 tensor`, `96,103 tensors`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
