"""What a user may choose about a destination; one value, recorded in plan and manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from weighbridge.errors import Usage

ATTENTION = ("published", "row", "bf16", "exact")
SCALE_RULES = ("halve", "legacy-448-240", "reciprocal")
SCALE_DTYPES = ("F32", "BF16", "F16", "E8M0")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a layout. `tp`, `moe_tp`, `moe_ep`, `batch` of 0 mean "choose what the reader's rules allow"."""

    attention: str = "published"
    scale_rule: str = "halve"
    scale_dtype: str = ""
    block: tuple[int, int] = (128, 128)
    group: int = 0  # input channels that share a scale; 0 means the layout's usual number
    zero_points: bool = False
    keep_scales: bool = False
    inexact: bool = False
    activations: str = ""  # SHA-256 of the file with scales of activations, where one was given
    tp: int = 0
    moe_tp: int = 0
    moe_ep: int = 0
    batch: int = 0
    context: int = 0
    allow: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        _one_of(self.attention, ATTENTION, "--attention")
        _one_of(self.scale_rule, SCALE_RULES, "--scale-rule")
        _one_of(self.scale_dtype or "F32", SCALE_DTYPES, "--scale-dtype")
        if len(self.block) != 2 or not all(0 < b <= 1 << 20 for b in self.block):
            raise Usage(f"block {self.block} is not rows,columns", "--block")
        for name in ("group", "tp", "moe_tp", "moe_ep", "batch", "context"):
            if not 0 <= getattr(self, name) <= 1 << 24:
                raise Usage(f"{getattr(self, name)} is not a size", f"--{name.replace('_', '-')}")

    def asdict(self) -> dict[str, Any]:
        values = asdict(self)
        values["block"], values["allow"] = list(self.block), list(self.allow)
        return values


def _one_of(value: str, known: tuple[str, ...], flag: str) -> None:
    if value not in known:
        raise Usage(f"{value!r} is none of {', '.join(known)}", flag)
