"""Numbers that pages about FP8 quote: counted over all codes, or over one block of Gaussian weights. numpy loads when one is asked for.

The block is no random one: it holds the 128 x 128 quantiles of the normal distribution, so everybody gets the same numbers.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist
from typing import Any

SIDE = 128


@cache
def codes() -> dict[str, int]:
    """Counts over the 256 codes of e4m3fn: what Neuron's e4m3 reads alike, and what its way of getting there changes."""
    import numpy as np

    from weighbridge.encoding import codec

    fn, ieee = codec.decode_table("e4m3fn"), codec.decode_table("e4m3")
    every = np.arange(256, dtype=np.uint8)
    magnitude = every & 0x7F
    normal = (magnitude >= 0x08) & (magnitude < 0x7F)
    legacy = codec.decode_table("e4m3fn")[codec.legacy_rescale(every)] * codec.LEGACY_FACTOR
    halved = codec.decode_table("e4m3fn")[codec.halve(every)] * 2.0
    changed = np.abs(legacy - fn) > 1e-6 * np.abs(fn)
    relative = np.abs(legacy - fn)[normal] / np.abs(fn)[normal]
    return {
        "alike": int(np.count_nonzero(fn == ieee)), "above": int(np.count_nonzero(np.abs(fn) > 240)), "normals": int(np.count_nonzero(normal)),
        "halving_rounds": int(np.count_nonzero(codec.halve_is_inexact(every))),
            "halving_rounds_normals": int(np.count_nonzero((halved != fn) & normal)),
        "legacy_changes_normals": int(np.count_nonzero(changed & normal)),
        "legacy_mean_ppm": round(float(relative.mean()) * 1e6), "legacy_max_ppm": round(float(relative.max()) * 1e6),
    }


@cache
def block() -> dict[str, float]:
    """One block of Gaussian weights through FP8 and on to Neuron: relative errors (root mean square, 0..1), shares of values, and its scale."""
    import numpy as np

    from weighbridge.encoding import codec

    weight = np.array([NormalDist().inv_cdf((i + 0.5) / SIDE**2) for i in range(SIDE**2)], np.float32).reshape(SIDE, SIDE) * np.float32(0.02)
    code, scale = codec.quantize(weight, (SIDE, SIDE))
    fp8 = codec.decode(code, scale, (SIDE, SIDE))
    half = codec.decode(codec.halve(code), scale * 2, (SIDE, SIDE))
    legacy = codec.decode(codec.legacy_rescale(code), codec.legacy_scale(scale), (SIDE, SIDE))
    clamped = np.clip(codec.decode_table("e4m3fn")[code], -240, 240) * scale
    wrong = codec.decode_table("e4m3fn")[code] / scale

    def off(made: Any, true: Any) -> float:
        return float(np.sqrt(np.sum((made.astype(np.float64) - true) ** 2) / np.sum(true.astype(np.float64) ** 2)))

    return {
        "amax": float(np.abs(weight).max()), "scale": float(scale[0, 0]), "fp8": off(fp8, weight), "halving": off(half, fp8),
            "legacy": off(legacy, fp8),
        "legacy_total": off(legacy, weight), "clamped": off(clamped, fp8), "reciprocal_factor": float(np.abs(wrong).max() / np.abs(fp8).max()),
        "above_240": float(np.mean(np.abs(codec.decode_table("e4m3fn")[code]) > 240)), "halving_changed": float(np.mean(half != fp8)),
        "legacy_changed": float(np.mean(np.abs(legacy - fp8) > 1e-6 * np.abs(fp8))), "bf16": off(codec.from_bf16(codec.to_bf16(weight)), weight),
    }


def percent(share: float, digits: int = 3) -> str:
    """0.0267 as `2.67 %`, small ones in scientific notation."""
    value = share * 100
    return f"{value:.{digits}g} %" if value >= 1e-3 or not value else f"{value:.1e} %"
