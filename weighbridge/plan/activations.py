"""Static scales of activations from a file that somebody's calibration wrote.

The file's convention: safetensors with `MODULE.input_scale` for each layer, F32, one value: what the codes of an FP8 (E4M3FN) activation are multiplied
by, that is its largest magnitude / 448. A layout with other codes gets a scale, or a divisor, of the same magnitude.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from weighbridge.checkpoint.header import read_header
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.formats.element import ELEMENTS
from weighbridge.formats.scheme import Encoding, Field, Role

SUFFIX = ".input_scale"
FLAG = "--activation-scales"
LIMIT = 1 << 28  # bytes; a model of 100,000 layers has 12 MB
MEANT = ELEMENTS["e4m3fn"].largest


@dataclass(frozen=True)
class ActivationScales:
    """Multipliers of FP8 activations by module, and the hash of the file that held them."""

    values: dict[str, float]
    sha256: str


def load(path: str | Path) -> ActivationScales:
    """Read and check a file. Raises WeighbridgeError where it is no safetensors file, Usage where it holds something else than scales."""
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > LIMIT:
            raise Usage(f"{file}: {size:,} bytes, the limit is {LIMIT:,}", FLAG, "give a file of MODULE.input_scale alone")
        data = file.read_bytes()
    except OSError as error:
        raise WeighbridgeError("not-found", f"cannot be read: {error.strerror}", str(file), "name a safetensors file with MODULE.input_scale") from error
    header, problems = read_header(str(file), len(data), lambda offset, length: data[offset : offset + length])
    if problems or header is None:
        raise Refused(problems)
    values = {}
    for name, tensor in header.tensors.items():
        if not name.endswith(SUFFIX) or tensor.dtype != "F32" or tensor.parameters != 1:
            raise Usage(f"{file}: {name} is {tensor.dtype} {list(tensor.shape)}", FLAG, "it takes MODULE.input_scale, F32, one value each")
        (value,) = struct.unpack("<f", data[tensor.start : tensor.start + 4])
        if not (math.isfinite(value) and value > 0):
            raise Usage(f"{file}: {name} is {value}", FLAG, "a scale is finite and positive")
        values[name.removesuffix(SUFFIX)] = value
    return ActivationScales(values, hashlib.sha256(data).hexdigest())


def field_of(encoding: Encoding) -> Field | None:
    """Where an encoding stores the scale of a layer's input."""
    return next((f for f in encoding.factors if f.role in (Role.ACTIVATION, Role.ACTIVATION_DIVISOR)), None)


def converted(value: float, encoding: Encoding, field: Field) -> float:
    """The file's multiplier as a field means it: over the largest code there, and where blocks have scales of their own, over the largest of these, too."""
    top = ELEMENTS[encoding.element].largest
    scale = encoding.scale
    if scale is not None and scale.inner:
        top *= ELEMENTS[scale.element].largest
    if ELEMENTS[encoding.element].kind == "int":
        top = 2.0 ** (ELEMENTS[encoding.element].bits - 1) - 1
    own = value * (MEANT / top)
    return 1 / own if field.role is Role.ACTIVATION_DIVISOR else own


__all__ = ["ActivationScales", "converted", "field_of", "load"]
