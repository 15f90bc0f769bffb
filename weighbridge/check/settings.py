"""What the user says of the run: degrees, batch, context, device, and the reader's own settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from weighbridge.errors import Usage

MOST = 1 << 24


@dataclass(frozen=True)
class Settings:
    """Sizes of 0 and empty texts mean "not said". `neuron` holds settings of NxD Inference as it spells them.

    `tp` ranks cut attention and vocabulary. `ep` is the reader's expert-parallel degree; `expert_parallel` is vLLM's flag, which deals the
    experts out to all TP x DP ranks. `moe_tp` x `moe_ep` are NxD's and TensorRT-LLM's. `device_memory` is in bytes, of one rank.
    `sources` tells where a setting came from (`-tp`, `neuron_config.json: tp_degree`), for findings to name.
    """

    tp: int = 0
    ep: int = 0
    dp: int = 0
    pp: int = 0
    moe_tp: int = 0
    moe_ep: int = 0
    batch: int = 0
    context: int = 0
    device_memory: int = 0
    expert_parallel: bool = False
    kv_cache_dtype: str = ""
    quantization: str = ""
    dtype: str = ""
    device: str = ""  # h100, mi300x, trn2, …: what number formats it takes
    trust_remote_code: bool = False
    neuron: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tp", "ep", "dp", "pp", "moe_tp", "moe_ep", "batch", "context"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST:
                raise Usage(f"{value!r:.40} is not a size", self.where(name), "give a whole number")

    def where(self, name: str) -> str:
        """How the user said `name`: the flag or key that it came from."""
        return self.sources.get(name, f"--{name.replace('_', '-')}")


@dataclass(frozen=True, slots=True)
class Target:
    """A reader that the checkpoint is checked against, and the version that the user names (empty: the one that the rules were read in)."""

    runtime: str
    version: str = ""

    def before(self, version: str) -> bool:
        """Whether the user's version is older than `version`. False where the user named none."""
        return bool(self.version) and _numbers(self.version) < _numbers(version)


def _numbers(version: str) -> tuple[int, ...]:
    out = []
    for part in version.lstrip("v").split("."):
        digits = "".join(c for c in part if c.isdigit())
        if not digits:
            break
        out.append(int(digits))
    return tuple(out)
