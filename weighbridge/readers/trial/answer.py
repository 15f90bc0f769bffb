"""What a probe may answer, read as data from a stranger, and the entry of `tried` in a document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from weighbridge.readers.trial.fold import Fold

LOADED, REFUSED, UNFILLED, UNAVAILABLE = "loaded", "refused", "unfilled", "unavailable"
OUTCOMES = (LOADED, REFUSED, UNFILLED, UNAVAILABLE)
MOST_NAMES = 10_000
LONGEST_NAME, LONGEST_TEXT = 1_000, 4_000


@dataclass(frozen=True)
class Tried:
    """One reader's answer. `stage` is where it ended (`configuration`, `construction`, `weights`, `processing`), `error` the reader's own words.

    `unfilled`: parameters that no tensor filled, as the reader names them. `partly`: those of them that were filled in part, in words.
    `ignored`: tensors that it did not use, as the checkpoint names them. `ranks`: which ranks of how many were loaded.
    """

    reader: str
    outcome: str
    version: str = ""
    stage: str = ""
    error: str = ""
    unfilled: tuple[str, ...] = ()
    partly: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    python: str = ""
    ranks: tuple[int, ...] = ()
    of_ranks: int = 0
    layers: tuple[int, int] = (0, 0)  # kept, and of how many
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)  # of unfilled and ignored, where the lists are cut

    def document(self) -> dict[str, Any]:
        return {"reader": self.reader, "version": self.version or None, "outcome": self.outcome, "stage": self.stage or None, "error": self.error or None,
                "unfilled": list(self.unfilled), "partly": list(self.partly), "ignored": list(self.ignored), "stand_ins": list(self.stand_ins),
                "python": self.python or None, "ranks": {"loaded": list(self.ranks), "of": self.of_ranks} if self.of_ranks else None,
                "layers": {"kept": self.layers[0], "of": self.layers[1]} if self.layers[1] else None,
                "counts": {key: self.counts.get(key, len(getattr(self, key))) for key in ("unfilled", "ignored")}, "seconds": round(self.seconds, 1)}


class NotAnAnswer(Exception):
    """The probe's answer has another form than it may have."""


def parse(reader: str, value: dict[str, Any], fold: Fold) -> Tried:
    """The answer of a probe. Raises `NotAnAnswer` where a field is missing, of another type, or not one of the known words."""
    outcome = value.get("outcome")
    if outcome not in OUTCOMES:
        raise NotAnAnswer(f"outcome is {str(outcome)!r:.40}")
    unfilled, ignored = _names(value, "unfilled"), _names(value, "ignored")
    ranks = value.get("ranks", [])
    if not isinstance(ranks, list) or len(ranks) > 10_000 or not all(type(rank) is int and rank >= 0 for rank in ranks):
        raise NotAnAnswer("ranks are no list of numbers")
    return Tried(reader, outcome, _text(value, "version"), _text(value, "stage"), _text(value, "error"), unfilled[:MOST_NAMES], _names(value, "partly")[:MOST_NAMES],
                 tuple(fold.original(name) for name in ignored[:MOST_NAMES]), _names(value, "stand_ins")[:100],
                 ranks=tuple(ranks), of_ranks=_number(value, "of_ranks"), layers=(fold.kept, fold.layers) if fold.folds else (0, 0),
                 counts={"unfilled": len(unfilled), "ignored": len(ignored)})


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise NotAnAnswer(f"{key} is no text")
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}… ({len(text):,} characters)"


def _number(value: dict[str, Any], key: str) -> int:
    number = value.get(key, 0)
    if type(number) is not int or not 0 <= number < 1 << 24:
        raise NotAnAnswer(f"{key} is no number of ranks")
    return number


def _names(value: dict[str, Any], key: str) -> tuple[str, ...]:
    names = value.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise NotAnAnswer(f"{key} is no list of texts")
    return tuple(name[:LONGEST_NAME] for name in names)
