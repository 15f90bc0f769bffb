"""What lies in memory and what is read again and again, decided before the first weight is read."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.engine.attention import SCORES
from weighbridge.engine.kernels.jobs import SCRATCH
from weighbridge.engine.linear import LOT, threads
from weighbridge.engine.panels import PANEL
from weighbridge.engine.weights import KINDS, expert_names, slot_bytes, stored_bytes
from weighbridge.errors import Problem, Refused
from weighbridge.models.architecture import Architecture
from weighbridge.layouts.source import Source

BLOCK = 256  # tokens that go through the layers together
SLACK = 8 << 20  # what allocators and threads keep; tests/engine/test_memory.py measures the whole


@dataclass(frozen=True)
class LayerPlan:
    """Bytes of one layer: always used, of all its experts, and those that one token uses."""

    layer: int
    resident_bytes: int
    expert_bytes: int
    active_bytes: int


@dataclass(frozen=True)
class MemoryPlan:
    """`streamed_bytes` is 0 where everything stays in memory; else experts of that many bytes are read when they are chosen.

    `cache_bytes` is the room for experts, `reserved_bytes` that for keys and values, `base_bytes` what the process held before,
    `working_bytes` what a block of tokens needs beside weights, keys and values. `floor_bytes_per_token` must come from the disk for each token if every
    expert is chosen equally often; a model with habits needs less.
    """

    limit: int | None
    base_bytes: int
    working_bytes: int
    reserved_bytes: int
    resident_bytes: int
    streamed_bytes: int
    cache_bytes: int
    active_bytes_per_token: int
    floor_bytes_per_token: int
    layers: tuple[LayerPlan, ...]

    @property
    def weight_bytes(self) -> int:
        """All weights of the layers that run."""
        return self.resident_bytes + self.streamed_bytes


def make_plan(source: Source, arch: Architecture, layers: range, limit: int | None, base: int, reserve: int, row_bytes: int) -> MemoryPlan:
    """Weights of `layers` under a limit for the whole process, of which `base` is in use and `reserve` is kept for keys and values.

    `row_bytes`: bytes of one row of an embedding that need not stay in memory, or 0. Refuses a limit that the always used weights exceed.
    """
    always = _always(source)
    rows = tuple(_layer(source, arch, layer, always[layer]) for layer in layers)
    rest = ["norm"] if arch.tied else ["norm", "head"]
    embedding = stored_bytes(source, ["embed"])
    outside = stored_bytes(source, rest) + (embedding if arch.tied else 0)
    resident, experts = sum(row.resident_bytes for row in rows) + outside, sum(row.expert_bytes for row in rows)
    active = sum(row.active_bytes for row in rows) + outside + (0 if arch.tied else row_bytes or embedding // arch.vocab)
    working = working_bytes(arch)
    kept = resident if arch.tied else resident + embedding
    if limit is None or base + working + reserve + kept + experts <= limit:
        return MemoryPlan(limit, base, working, reserve, kept + experts, 0, 0, active, 0, rows)
    kept = resident if row_bytes else kept
    room = limit - base - working - reserve - kept
    largest = max((arch.routing.top_k * slot_bytes(source, name) for row in rows if row.expert_bytes  # type: ignore[union-attr]
                   for name in expert_names(source, row.layer)), default=0)
    if room < largest or not experts:
        need = base + working + reserve + kept + (largest if experts else experts)
        parts = (f"process {base:,}, weights that every token uses {kept:,}, experts of one token in one layer {largest:,}, keys and values {reserve:,}, "
                 f"room to work {working:,}")
        hint = f"allow {need:,} bytes" + ("" if experts else "; this model has no experts that could be read when they are needed")
        raise Refused([Problem("memory", f"{limit:,} bytes are allowed, at least {need:,} are needed: {parts}", "--max-memory", hint)])
    floor = int(sum(row.active_bytes - row.resident_bytes for row in rows) * max(0.0, 1 - room / experts))
    return MemoryPlan(limit, base, working, reserve, kept, experts, room, active, floor + row_bytes, rows)


def _always(source: Source) -> dict[int, list[str]]:
    """Names of the weights of each layer that every token uses."""
    found: dict[int, list[str]] = {}
    for name in source.inventory.weights:
        if name.startswith("layers.") and ".experts." not in name:
            found.setdefault(int(name.split(".", 2)[1]), []).append(name)
    return found


def _layer(source: Source, arch: Architecture, layer: int, always: list[str]) -> LayerPlan:
    resident = stored_bytes(source, always)
    if not arch.sparse[layer]:
        return LayerPlan(layer, resident, 0, resident)
    sizes = [stored_bytes(source, [f"{name}.{kind}" for kind in KINDS]) for name in expert_names(source, layer)]
    return LayerPlan(layer, resident, sum(sizes), resident + arch.routing.top_k * max(sizes))  # type: ignore[union-attr]


def working_bytes(arch: Architecture) -> int:
    """What a block of tokens needs: activations, scores, decoded panels and the logits of one token."""
    query, key = arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    inter = max(arch.sizes.get("inter", 0), arch.sizes.get("moe_inter", 0))
    pairs = BLOCK * arch.routing.top_k if arch.routing else 0
    floats = BLOCK * (6 * arch.hidden + 4 * query + 4 * key + 4 * inter) + min(pairs, BLOCK + LOT) * 3 * arch.hidden + 4 * arch.vocab
    return 4 * floats + 6 * SCORES + threads() * (PANEL + SCRATCH) + SLACK  # 4 bytes for a score, 2 for what hides it


def resident_set() -> int:
    """Bytes of memory that this process holds now (VmRSS), 0 where the system does not tell."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmRSS:")), 0)
    except OSError:
        return 0
