"""What devices are called, as far as number formats hang on them."""

from __future__ import annotations

FNUZ = ("mi300", "mi308", "mi325", "gfx940", "gfx941", "gfx942")  # CDNA 3: FP8 without a negative zero


def is_fnuz(device: str) -> bool:
    """Whether the device computes in E4M3FNUZ (AMD's gfx94x)."""
    return device.lower().replace("amd-", "").replace("amd ", "").startswith(FNUZ)
