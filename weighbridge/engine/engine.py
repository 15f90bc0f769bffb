"""`load` a bound checkpoint, `session`, `feed`: logits from the stored bytes, in any layout that can be bound.

    engine = load(bind(open_checkpoint(folder)))
    session = engine.session(1024)
    logits = session.feed([1, 2, 3])
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np

from weighbridge.encoding import kernels as codec_kernels
from weighbridge.engine import kernels
from weighbridge.engine.attention import Rotary
from weighbridge.engine.cache import KeyValues, cache_bytes
from weighbridge.engine.forward import Attention, Decoder, Groups, Layer, Mlp, Moe, Observe
from weighbridge.engine.linear import Linear
from weighbridge.engine.memory import BLOCK, MemoryPlan, make_plan, resident_set
from weighbridge.engine.positional import Positional, Rows
from weighbridge.engine.streamed import Store, StreamedExperts
from weighbridge.engine.weights import Weights, fragments
from weighbridge.errors import Problem, Refused, Usage, WeighbridgeError
from weighbridge.models.architecture import Architecture, architecture
from weighbridge.models.inventory import Inventory
from weighbridge.layouts.source import Source
from weighbridge.plan.reader import Reader, require_scales
from weighbridge.runtimes import neuron

RESERVE = 2048  # positions for which a limit keeps room, if nobody says how many are needed
NUMERICS = ("plain", "neuron")


class Engine:
    """A model that can be run. `plan` says what is kept in memory; `bytes_used` and `bytes_read` count while it runs."""

    def __init__(self, source: Source, arch: Architecture, plan: MemoryPlan, decoder: Decoder, reader: Reader, store: Store | None) -> None:
        self.source, self.architecture, self.plan = source, arch, plan
        self.decoder, self._reader, self._store = decoder, reader, store
        self._taken = 0

    @property
    def inventory(self) -> Inventory:
        return self.source.inventory

    @property
    def vocab(self) -> int:
        return self.architecture.vocab

    @property
    def context(self) -> int:
        """Positions that the config promises."""
        return self.architecture.context

    @property
    def bytes_used(self) -> int:
        """Bytes of weights that passes multiplied with so far; a pass over a block of tokens counts a matrix once."""
        return self.decoder.used

    @property
    def bytes_read(self) -> int:
        """As `bytes_used` where files are mapped; under a limit that streams, the bytes that were read from files, loading included."""
        return self._reader.bytes_read if isinstance(self._reader, Positional) else self.bytes_used

    def unchanged(self) -> AbstractContextManager[None]:
        """What is computed under it counts only if the files of the weights stay as they are: else it raises `source-changed`."""
        return self._reader.unchanged()

    def session(self, capacity: int) -> Session:
        """A sequence of at most `capacity` tokens. Refuses what a memory limit cannot hold."""
        if not isinstance(capacity, int) or not 0 < capacity <= 1 << 24:
            raise Usage(f"{capacity!r:.40} is not a number of positions", "capacity")
        arch, layers = self.architecture, len(self.decoder.layers)
        need = cache_bytes(layers, arch.kv_heads, arch.head_dim, capacity)
        self._give(need, capacity)
        try:
            session = Session(self, KeyValues(layers, arch.kv_heads, arch.head_dim, capacity))
        except WeighbridgeError:
            self._give(-need, 0)
            raise
        weakref.finalize(session, self._give, -need, 0)
        return session

    def _give(self, need: int, capacity: int) -> None:
        """Take `need` bytes for keys and values, from the room for experts if they pass what was kept for them; or give them back."""
        plan, store = self.plan, self._store
        if plan.limit is None:
            return
        least = self.architecture.routing.top_k * store.slot_bytes if store else 0  # type: ignore[union-attr]
        room = plan.limit - plan.base_bytes - plan.working_bytes - plan.resident_bytes - least - self._taken
        if capacity and need > room:
            says = f"keys and values of {capacity:,} positions are {need:,} bytes; the limit of {plan.limit:,} leaves {room:,}"
            raise Refused([Problem("memory", says, "--max-memory", f"at most {max(0, room * capacity // need):,} positions fit")])
        self._taken += need
        if store:
            store.resize(plan.cache_bytes - max(0, self._taken - plan.reserved_bytes))


class Session:
    """One sequence. `position` is the number of tokens that were fed."""

    def __init__(self, engine: Engine, cache: KeyValues) -> None:
        self.engine, self.cache, self.position = engine, cache, 0

    def feed(self, ids: Sequence[int] | np.ndarray, *, rows: str = "last", observe: Observe | None = None) -> np.ndarray:
        """Logits after the tokens `ids`: float32 [V] of the last one, or with `rows="all"` [n, V].

        Tokens go through the layers in blocks of 256. `observe(name, array)` is called for each block, in order, with arrays
        [tokens, width]: "embed"; for each layer "layers.N.attn", "layers.N.router" (logits), "layers.N.chosen" (int64, best first),
        "layers.N.experts", "layers.N.block"; then "norm" and "logits" of the rows that were asked for.
        """
        tokens = self._checked(ids, rows)
        decoder = self.engine.decoder
        out = np.empty((len(tokens) if rows == "all" else 1, self.engine.vocab), np.float32)
        with self.engine.unchanged(), np.errstate(all="ignore"):  # weights that are infinite to their reader make NaN; they stand in the logits
            for start in range(0, len(tokens), BLOCK):
                block = tokens[start : start + BLOCK]
                x = decoder.block(block, self.cache, self.position, observe)
                self.position += len(block)
                if rows == "all":
                    out[start : start + len(block)] = decoder.logits(x, observe)
                elif start + len(block) == len(tokens):
                    out[:] = decoder.logits(x[-1:], observe)
        return out if rows == "all" else out[0]

    def _checked(self, ids: Sequence[int] | np.ndarray, rows: str) -> np.ndarray:
        if rows not in ("last", "all"):
            raise Usage(f"{rows!r:.40} is neither last nor all", "rows")
        tokens = np.asarray(ids)
        if tokens.ndim != 1 or not len(tokens) or tokens.dtype.kind not in "iu":
            raise Usage(f"{tokens.dtype} {list(tokens.shape)} is no sequence of token numbers", "ids", "feed at least one whole number")
        if not (0 <= tokens.min() and tokens.max() < self.engine.vocab):
            wrong = tokens[(tokens < 0) | (tokens >= self.engine.vocab)][0]
            raise WeighbridgeError("token", f"the token {wrong} is not one of {self.engine.vocab:,}", "ids", "use the tokenizer of this checkpoint")
        if self.position + len(tokens) > self.cache.capacity:
            says = f"{self.position:,} tokens were fed, {len(tokens):,} more pass the session's {self.cache.capacity:,}"
            raise WeighbridgeError("capacity", says, "ids", "ask for a session of more positions")
        return tokens.astype(np.int64)


def load(source: Source, *, max_memory: int | None = None, numerics: str = "plain", layers: tuple[int, int] | None = None, tp: int = 0,
         capacity: int = 0, allow: Sequence[str] = ()) -> Engine:
    """An engine over a bound source. Refuses with all findings before a weight is read.

    `max_memory`: bytes that the process may hold; weights that do not fit are read when they are needed. `capacity`: positions for
    which a limit keeps room (2,048 or the model's context if not given). `numerics`: "plain", or "neuron": codes from 0x78 on are infinity
    and NaN, q and k are normalized by each of `tp` ranks alone, float32 weights (the router) are rounded to bfloat16.
    `layers=(a, b)` runs layers a to b - 1 only. `allow`: codes of findings to pass over, as for a conversion.
    """
    if numerics not in NUMERICS:
        raise Usage(f"{numerics!r:.40} is none of {', '.join(NUMERICS)}", "--numerics")
    problems = [p for p in source.problems if p.code not in allow]
    if problems:
        raise Refused(problems)
    arch = architecture(source.checkpoint.config)
    chosen = _layers(arch, layers)
    groups = head_groups(arch, source, numerics, tp)
    reader: Reader = require_scales(source) if max_memory is None else require_scales(source, Positional)
    row = Rows.can(source, fragments(source, "embed")) and not arch.tied
    load_kernels()
    reserve = cache_bytes(len(chosen), arch.kv_heads, arch.head_dim, capacity or min(RESERVE, arch.context))
    row_bytes = source.bound[fragments(source, "embed")[0].source].encoding.bytes_of(arch.hidden)
    plan = make_plan(source, arch, chosen, max_memory, resident_set() if max_memory is not None else 0, reserve, row_bytes if row else 0)
    reads, rounded = ("e4m3", True) if numerics == "neuron" else ("e4m3fn", False)
    store = None
    if plan.streamed_bytes:
        assert isinstance(reader, Positional)
        store = Store(source, reader, [layer for layer in chosen if arch.sparse[layer]], reads=reads, rounded=rounded)
    elif max_memory is not None:
        reader = Reader(source)
    weights = Weights(source, reader, reads=reads, rounded=rounded)
    with reader.unchanged():
        decoder = _decoder(weights, arch, chosen, groups, store, plan, row_bytes if row else 0)
    if store:
        store.resize(plan.cache_bytes)
    return Engine(source, arch, plan, decoder, reader, store)


def _decoder(weights: Weights, arch: Architecture, chosen: range, groups: tuple[Groups, Groups], store: Store | None, plan: MemoryPlan,
             row: int) -> Decoder:
    rotary = Rotary(arch.rope)
    each = {p.layer: (p.active_bytes - p.resident_bytes) // arch.routing.top_k for p in plan.layers} if arch.routing else {}
    experts = weights.experts if store is None else lambda layer: StreamedExperts(store, layer)
    made = []
    for layer in chosen:
        name = f"layers.{layer}."
        feed = Moe(weights, arch, layer, experts, each[layer]) if arch.sparse[layer] else Mlp(weights, arch, layer)
        norms = weights.vector(name + "input_norm"), weights.vector(name + "post_norm")
        made.append(Layer(layer, *norms, Attention(weights, arch, layer, rotary, groups), feed))
    embed: Linear | Rows = weights.linear("embed") if store is None or not row else Rows(store.reader, weights.fragments("embed"), (arch.vocab, arch.hidden))
    head = weights.linear("embed" if arch.tied else "head")
    return Decoder(arch, embed, made, weights.vector("norm"), head, row)


def head_groups(arch: Architecture, source: Source, numerics: str, tp: int) -> tuple[Groups, Groups]:
    """Which heads of q and of k share the mean of their RMSNorm.

    With "neuron" numerics those of one rank, zero heads that pad it included: the contrib port's `MiniMaxM2QKNorm` sums no further.
    """
    one = [([h], arch.head_dim) for h in range(arch.heads)], [([h], arch.head_dim) for h in range(arch.kv_heads)]
    if arch.qk_norm != "whole":
        return one
    if numerics == "plain":
        return tuple([(range(n), n * arch.head_dim)] for n in (arch.heads, arch.kv_heads))  # type: ignore[return-value]
    degree = tp or source.options.tp or 1
    problems = neuron.attention_problems(arch.sizes, degree, None)
    if problems:
        raise Refused(problems)
    found = []
    for slots in (neuron.query_slots(arch.sizes, degree), neuron.kv_slots(arch.sizes, degree)):
        each = len(slots) // degree
        ranks = [slots[r * each : (r + 1) * each] for r in range(degree)]
        found.append([(sorted({h for h in rank if h is not None}), each * arch.head_dim) for rank in ranks])
    return found[0], found[1]


def load_kernels() -> None:
    """All that the engine calls, before its memory is counted."""
    for name in kernels.STORY:
        kernels.load(name)
    codec_kernels.load("decode_f32")


def _layers(arch: Architecture, layers: tuple[int, int] | None) -> range:
    first, end = layers or (0, arch.layers)
    if not 0 <= first < end <= arch.layers:
        raise Usage(f"layers {first} to {end - 1} are not among the model's {arch.layers}", "--layers",
                    f"give two numbers from 0 to {arch.layers}; the second is not run")
    return range(first, end)
