"""Two runs of one model on the same tokens: where the output parts, and at which stage of which layer it begins.

A side is an engine over a checkpoint, or a capture. Both are fed chunk by chunk; only one chunk of A's activations is held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weighbridge.engine import diagnosis
from weighbridge.engine.capture import Capture, Observe, chunks, order
from weighbridge.engine.diagnosis import Tolerance
from weighbridge.engine.memory import BLOCK
from weighbridge.engine.stages import Meters, Outcome
from weighbridge.errors import Problem, Refused, WeighbridgeError
from weighbridge.models import Inventory

HELD = 256 << 20  # bytes of one chunk of A's activations
Progress = Callable[[int, int], None]


class Feed(Protocol):
    """One sequence on its way through a side."""

    def __call__(self, ids: Sequence[int], observe: Observe) -> np.ndarray | None:
        """Feed tokens; every stage goes to `observe`; logits [tokens, vocab] where the side has them."""
        ...


class Side(Protocol):
    """What can be compared."""

    label: str
    layout: str
    numerics: str
    vocab: int | None
    source: Any  # what `bind` gave, or None
    digest: str  # of the checkpoint, or empty
    score: str | None  # of the router: "sigmoid" or "softmax", where it is known

    def begin(self, number: int, capacity: int) -> Feed:
        """Start sequence `number`, of at most `capacity` tokens."""
        ...


@dataclass
class EngineSide:
    """A checkpoint that runs."""

    engine: Any
    source: Any
    numerics: str = "plain"

    def __post_init__(self) -> None:
        self.label, self.layout, self.vocab = self.source.checkpoint.label, self.source.layout, int(self.engine.vocab)
        self.digest = self.source.checkpoint.digest
        routing = self.engine.architecture.routing
        self.score = routing.score if routing else None

    def begin(self, number: int, capacity: int) -> Feed:
        session = self.engine.session(capacity)
        return lambda ids, observe: session.feed(ids, rows="all", observe=observe)


@dataclass
class CaptureSide:
    """Activations that were recorded."""

    capture: Capture
    source: Any = None

    def __post_init__(self) -> None:
        self.label, self.numerics, self.digest = self.capture.label, self.capture.numerics, self.capture.source.get("digest", "")
        self.layout, self.score = self.capture.source.get("layout", "capture"), self.capture.source.get("score")
        self.vocab = self.capture.arrays["logits"].shape[1] if "logits" in self.capture.arrays else None

    def begin(self, number: int, capacity: int) -> Feed:
        place = sum(len(each.ids) for each in self.capture.sequences[:number])

        def feed(ids: Sequence[int], observe: Observe) -> np.ndarray | None:
            nonlocal place
            start, place = place, place + len(ids)
            logits = None
            for name in self.capture.names:
                rows = self.capture.rows(name, start, place)
                logits = rows if name == "logits" else logits
                observe(name, rows)
            return logits

        return feed


@dataclass
class Report:
    """What was found. `document()` has the keys of `weighbridge.compare/1`."""

    a: Side
    b: Side
    positions: int
    prompts: int
    outcome: dict[str, Any]
    layers: list[dict[str, Any]]
    first_different_token: dict[str, Any] | None
    tolerance: Tolerance
    first_bad_layer: str | None
    says: list[str]
    ok: bool
    missing: dict[str, list[str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        sides = {name: {"source": side.label, "layout": side.layout, "numerics": side.numerics} for name, side in (("a", self.a), ("b", self.b))}
        return {**sides, "prompts": self.prompts, "positions": self.positions, **self.outcome, "first_different_token": self.first_different_token,
                "layers": self.layers, "first_bad_layer": self.first_bad_layer, "tolerance": self.tolerance.document(), "says": self.says,
                "missing": self.missing, "ok": self.ok}


def compare(a: Side, b: Side, sequences: Sequence[Sequence[int]], *, tokens: int = 32, inventory: Inventory | None = None,
            tolerance: float | None = None, progress: Progress | None = None) -> Report:
    """Feed `sequences` of token ids to both sides, and go on for `tokens` greedy steps of A where both are engines.

    `tolerance` is the largest relative error of a stage; without it, `diagnosis.tolerance` chooses from what the
    manifests say. Raises WeighbridgeError where the two sides cannot be sides of one model.
    """
    _require_alike(a, b, sequences)
    meters, outcome = Meters(a.score or b.score), Outcome()
    size = _chunk(inventory)
    total, done = sum(map(len, sequences)), 0
    parts: dict[str, Any] | None = None
    greedy = tokens if isinstance(a, EngineSide) and isinstance(b, EngineSide) else 0
    for number, ids in enumerate(sequences):
        pair = a.begin(number, len(ids) + greedy), b.begin(number, len(ids) + greedy)
        top = None
        for at, part in zip(range(0, len(ids), size), chunks(ids, size), strict=True):
            logits = _step(*pair, part, meters)
            if logits is not None:
                follows = np.array([*ids[at + 1 : at + 1 + len(part)], *([-1] * (at + len(part) >= len(ids)))])
                top = outcome.take(*logits, follows)
                if not greedy and parts is None:
                    parts = _parted(number, at, top)
            done += len(part)
            if progress:
                progress(done, total)
        if greedy and parts is None and top is not None:
            parts = _greedy(number, pair, len(ids), top[:, -1], greedy)
    return _report(a, b, sequences, meters, outcome, parts, tolerance)


def _step(a: Feed, b: Feed, part: Sequence[int], meters: Meters) -> tuple[np.ndarray, np.ndarray] | None:
    """One chunk through both. A's stages are held until B gives the same ones."""
    held: dict[str, np.ndarray] = {}
    first = a(part, lambda name, array: held.__setitem__(name, np.array(array)))
    second = b(part, lambda name, array: meters.take(name, held.pop(name, None), array))
    meters.missing["b"] |= held.keys()
    return None if first is None or second is None else (first, second)


def _nothing(name: str, array: np.ndarray) -> None:
    """An observer that looks at nothing."""


def _greedy(number: int, pair: tuple[Feed, Feed], position: int, top: np.ndarray, most: int) -> dict[str, Any] | None:
    """The first token at which greedy decoding from the end of the prompt parts, A's tokens going into both sides."""
    for step in range(most):
        if top[0] != top[1] or top[0] < 0:
            return {"prompt": number, "position": position + step, "decoding": "greedy", "a": int(top[0]), "b": int(top[1])}
        if step + 1 < most:
            logits = [feed([int(top[0])], _nothing) for feed in pair]
            top = Outcome().take(logits[0], logits[1], np.array([-1]))[:, -1]  # type: ignore[arg-type]
    return None


def _parted(number: int, at: int, top: np.ndarray) -> dict[str, Any] | None:
    """The first position of a recorded text at which the most likely next token is another one."""
    other = np.flatnonzero((top[0] != top[1]) | (top[0] < 0))
    if not len(other):
        return None
    place = int(other[0])
    return {"prompt": number, "position": at + place + 1, "decoding": "text", "a": int(top[0, place]), "b": int(top[1, place])}


def _chunk(inventory: Inventory | None) -> int:
    """Tokens that are fed at a time: at most one block of the engine, and A's stages of them stay below HELD."""
    sizes = inventory.sizes if inventory else {}
    each = 4 * (sizes.get("layers", 32) * (3 * sizes.get("hidden", 4096) + 2 * sizes.get("experts", 0)) + 2 * sizes.get("vocab", 65536))
    return max(16, min(BLOCK, HELD // each))


def _require_alike(a: Side, b: Side, sequences: Sequence[Sequence[int]]) -> None:
    if a.vocab and b.vocab and a.vocab != b.vocab:
        raise WeighbridgeError("two-models", f"A has a vocabulary of {a.vocab:,}, B of {b.vocab:,}", b.label, "compare two forms of one model")
    kinds = [side.source.checkpoint.model_type for side in (a, b) if side.source is not None]
    if len(set(kinds)) > 1:
        raise WeighbridgeError("two-models", f"A is a {kinds[0]!r}, B a {kinds[1]!r}", b.label, "compare two forms of one model")
    for side in (a, b):
        recorded = [each.ids for each in side.capture.sequences] if isinstance(side, CaptureSide) else sequences
        if recorded != [list(ids) for ids in sequences]:
            raise WeighbridgeError("two-prompts", f"{sum(map(len, recorded)):,} token ids were recorded, which are not the {sum(map(len, sequences)):,} of the "
                                   "other side", side.label, "record both sides on the same prompt")
    if a.vocab or b.vocab:
        most = min(v for v in (a.vocab, b.vocab) if v)
        wrong = [i for ids in sequences for i in ids if not 0 <= i < most]
        if wrong:
            raise WeighbridgeError("token", f"the token {wrong[0]} is not one of {most:,}", b.label, "use ids of this model's tokenizer")


def _report(a: Side, b: Side, sequences: Sequence[Sequence[int]], meters: Meters, outcome: Outcome, parts: dict[str, Any] | None,
            given: float | None) -> Report:
    found = meters.all()
    if not found:
        raise Refused([Problem("no-stage", f"A and B have no stage in common: A lacks {len(meters.missing['a'])}, B lacks {len(meters.missing['b'])}", b.label,
                               "name the tensors of the recording with --names FILE")])
    chosen = diagnosis.tolerance(a, b, given)
    told = outcome.document()
    first, says, ok = diagnosis.judge(found, told, chosen, a, b)
    says = [*diagnosis.settings_differ(a, b), *says]
    missing = {side: sorted(names, key=order) for side, names in meters.missing.items() if names}
    return Report(a, b, sum(map(len, sequences)), len(sequences), told, [meter.row() for meter in found], parts, chosen, first, says, ok, missing)


def open_capture(path: str, names: Path | None) -> Capture | None:
    """The capture at `path`, or None where it is something else. `names` is used for a folder that has neither manifest nor config."""
    from weighbridge.engine.capture import is_capture

    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        return None
    if is_capture(folder):
        return Capture(folder)
    if names is not None and not (folder / "config.json").is_file():
        return Capture(folder, names)
    return None
