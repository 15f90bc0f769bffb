"""Which layouts a reader loads on a device, and why not the others: what `--for READER --device D` chooses from.

The error of each way is measured elsewhere; here is only what can be loaded.
"""

from __future__ import annotations

from typing import NamedTuple

from weighbridge.errors import Usage
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.schemes import SCHEMES
from weighbridge.layouts.rows import READERS, ROWS, LayoutRow, Loads

# Device -> its class: the CUDA compute capability (`sm90` is 9.0), AMD's name, or Neuron's. NVIDIA's and AMD's own tables.
DEVICES = {"a100": "sm80", "a100-40gb": "sm80", "a100-80gb": "sm80", "l40s": "sm89", "h100": "sm90", "h200": "sm90", "b200": "sm100",
           "mi300x": "gfx942", "trn2": "trn2"}
# Readers that run on one maker's devices alone.
_HOME = {"tensorrt-llm": ("sm",), "neuron": ("trn",)}
_CUDA = "sm"


class Candidate(NamedTuple):
    """A layout that the reader loads. `condition` is in the reader's words, `seen` says whether it was looked at on this class of devices."""

    layout: str
    condition: str
    seen: bool


class Choice(NamedTuple):
    """`refused`: layout -> why. Layouts of which nothing is known for this reader are refused, too: nobody looked."""

    candidates: tuple[Candidate, ...]
    refused: dict[str, str]


def for_reader(reader: str, device: str = "") -> Choice:
    """Candidates from the widest codes to the narrowest. Raises Usage for a reader or a device without a row."""
    if reader not in READERS:
        raise Usage(f"{reader!r:.80} is no reader that is known; known are {', '.join(READERS)}", "--for")
    kind = device_class(device)
    found: list[Candidate] = []
    refused: dict[str, str] = {}
    for row in sorted(ROWS.values(), key=_bits, reverse=True):
        known = row.reader(reader)
        reason = _refusal(reader, known, device, kind)
        if reason or known is None:
            refused[row.name] = reason
        else:
            found.append(Candidate(row.name, known.condition, kind in ("", "trn2") or kind.startswith(_CUDA)))
    if reader == "neuron":  # its own layout is no row: NxD's names and cuts are code
        reason = _refusal(reader, Loads(reader, "yes"), device, kind)
        found, refused = (found, refused | {"neuron": reason}) if reason else ([Candidate("neuron", "", True), *found], refused)
    return Choice(tuple(found), refused)


def conditions(layout: str) -> dict[str, str]:
    """Every reader that loads a layout, with its condition."""
    if layout not in ROWS:
        return {"neuron": ""}
    return {known.reader: known.condition for known in ROWS[layout].readers if known.loads == "yes"}


def device_class(device: str) -> str:
    """`sm90`, `gfx942`, `trn2`; empty where no device is named."""
    if device and device.lower() not in DEVICES:
        raise Usage(f"{device!r:.80} is no device whose class is known; known are {', '.join(DEVICES)}", "--device")
    return DEVICES[device.lower()] if device else ""


def _refusal(reader: str, known: Loads | None, device: str, kind: str) -> str:
    if kind and reader in _HOME and not kind.startswith(_HOME[reader]):
        return f"{reader} does not run on {device}"
    if known is None:
        return f"not known: nobody looked whether {reader} loads it"
    if known.loads != "yes":
        return known.condition
    if kind.startswith(_CUDA) and int(kind[2:]) < known.least:
        return f"{reader} demands compute capability {_capability(known.least)}, {device} has {_capability(int(kind[2:]))}"
    if kind.startswith("trn") and reader not in _HOME:
        return f"not known: nobody looked whether {reader} loads it on {device}"
    return ""


def _capability(number: int) -> str:
    return f"{number // 10}.{number % 10}"


def _bits(row: LayoutRow) -> int:
    """Bits of a code of its usual scheme; plain values have 16."""
    return ELEMENTS[SCHEMES[row.schemes[0]].code.element].bits if row.schemes else 16
