"""Routed experts that do not fit into memory: read when a token chooses them, kept by use.

An expert is worth how often it was chosen, divided by the number of layers until its own comes again: a pass goes through
the layers in a circle, where the order of last use would throw out just what comes next. Those worth least make room.
"""

from __future__ import annotations

import heapq
import mmap
from collections import Counter

import numpy as np

from weighbridge.checkpoint.header import Tensor
from weighbridge.engine.linear import Experts, Linear
from weighbridge.engine.positional import Positional
from weighbridge.engine.team import threads, together
from weighbridge.engine.weights import ALIGN, KINDS, Weights, expert_names, slot_bytes
from weighbridge.formats.qtensor import QTensor
from weighbridge.layouts.source import Bound, Source

READERS = 2  # reads under way for each thread
Key = tuple[int, int]  # layer, expert
Three = tuple[Linear, Linear, Linear]


class Store:
    """Experts in slots of equal size. `slots` is how many may be held; more are needed than one token chooses."""

    def __init__(self, source: Source, reader: Positional, layers: list[int], *, reads: str, rounded: bool) -> None:
        self.source, self.reader, self.reads, self.rounded = source, reader, reads, rounded
        self.layers, self.slots = layers, 0
        self.slot_bytes = max(slot_bytes(source, name) for layer in layers for name in expert_names(source, layer))
        self.held: dict[Key, tuple[Three, mmap.mmap]] = {}
        self.uses: Counter[Key] = Counter()
        self.turn = {layer: number for number, layer in enumerate(layers)}  # a layer's place in the circle
        self.hits = self.misses = 0

    def resize(self, budget: int) -> None:
        """Hold no more than `budget` bytes of experts."""
        self.slots = budget // self.slot_bytes
        self._spare(self.slots, set(), self.layers[-1])

    def take(self, layer: int, experts: list[int]) -> dict[int, Three]:
        """gate, up and down of these experts of a layer; at most `slots` of them."""
        keys = [(layer, e) for e in experts]
        missing = [key for key in keys if key not in self.held]
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        self.uses.update(keys)
        free = self._spare(self.slots - len(missing), set(keys), layer)
        memory = [free.pop() if free else mmap.mmap(-1, self.slot_bytes) for _ in missing]
        if missing:
            self._load_all(list(zip(missing, memory)))
        return {e: self.held[layer, e][0] for e in experts}

    def _spare(self, keep: int, needed: set[Key], layer: int) -> list[mmap.mmap]:
        """Throw out experts until `keep` are held, when `layer` has its turn; returns their memory."""
        over = len(self.held) - max(keep, 0)
        if over <= 0:
            return []
        now, circle = self.turn[layer], len(self.turn)
        worth = {key: self.uses[key] / ((self.turn[key[0]] - now) % circle or circle) for key in self.held if key not in needed}
        return [self.held.pop(key)[1] for key in heapq.nsmallest(over, worth, key=worth.__getitem__)]

    def _load_all(self, pairs: list[tuple[Key, mmap.mmap]]) -> None:
        """A few at a time: a disk answers several reads faster than one after the other."""
        def drain(_: int) -> None:
            while pairs:
                try:
                    pair = pairs.pop()
                except IndexError:
                    return
                self._load(*pair)

        together(drain, range(min(len(pairs), READERS * threads())))

    def _load(self, key: Key, memory: mmap.mmap) -> None:
        weights = Weights(self.source, _Slot(self.reader, memory), reads=self.reads, rounded=self.rounded)
        name = expert_names(self.source, key[0])[key[1]]
        gate, up, down = (weights.linear(f"{name}.{kind}") for kind in KINDS)
        self.held[key] = (gate, up, down), memory


class _Slot(Positional):
    """A reader whose matrices lie one behind the other in given memory, each read once."""

    def __init__(self, reader: Positional, memory: mmap.mmap) -> None:
        super().__init__(reader.source)
        self.reader = reader
        self.memory, self.end = np.frombuffer(memory, np.uint8), 0
        self.matrices: dict[tuple[str, int], QTensor] = {}

    def rows(self, bound: Bound, lead: int, start: int, stop: int) -> QTensor:
        key, placed = (bound.stored.name, lead), bound.stored.placement
        if key not in self.matrices:
            self.matrices[key] = super().rows(bound, lead, 0, placed.rows)
        return self.matrices[key].cut(start, 0, stop - start, placed.cols)

    def part(self, tensor: Tensor, start: int, size: int) -> np.ndarray:
        into = self.memory[self.end : self.end + size]
        self.end += -(-size // ALIGN) * ALIGN
        return self.reader.read(tensor, start, into)


class StreamedExperts:
    """The experts of one layer, called as `Experts` is."""

    def __init__(self, store: Store, layer: int) -> None:
        self.store, self.layer = store, layer

    def __call__(self, x_TH: np.ndarray, chosen_Tk: np.ndarray, weights_Tk: np.ndarray, activation: str = "silu") -> np.ndarray:
        """float32 [T, H]. Equal to the bit where the experts that a block chooses fit at once, else summed in another order."""
        wanted = np.unique(chosen_Tk)
        if len(wanted) <= self.store.slots:
            return self._some(wanted)(x_TH, np.searchsorted(wanted, chosen_Tk), weights_Tk, activation)
        out = np.zeros(x_TH.shape, np.float32)
        tokens, places = np.divmod(np.arange(chosen_Tk.size), chosen_Tk.shape[1])
        held = np.array([(self.layer, int(e)) in self.store.held for e in wanted])
        ordered = np.concatenate([wanted[held], wanted[~held]])
        for start in range(0, len(ordered), self.store.slots):
            group = np.sort(ordered[start : start + self.store.slots])
            pairs = np.flatnonzero(np.isin(chosen_Tk.reshape(-1), group))
            chosen = np.searchsorted(group, chosen_Tk[tokens[pairs], places[pairs]])[:, None]
            y = self._some(group)(x_TH[tokens[pairs]], chosen, weights_Tk[tokens[pairs], places[pairs]][:, None], activation)
            first = np.flatnonzero(np.diff(tokens[pairs], prepend=-1))  # pairs lie in the order of their tokens
            out[tokens[pairs][first]] += np.add.reduceat(y, first)
        return out

    def _some(self, experts: np.ndarray) -> Experts:
        taken = self.store.take(self.layer, [int(e) for e in experts])
        return Experts(*zip(*(taken[int(e)] for e in experts)))
