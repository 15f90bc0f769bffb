"""How well a model predicts a text, teacher-forced: nats per token, and bits per byte, which do not hang on the tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from weighbridge.engine.engine import Engine
from weighbridge.errors import Usage

WINDOW = 512  # tokens; each window is scored from its own start


@dataclass(frozen=True)
class Score:
    """`nats` of each scored token in order; `nbytes` are the UTF-8 bytes of these tokens."""

    nats: np.ndarray
    nbytes: int

    @property
    def scored_tokens(self) -> int:
        return len(self.nats)

    @property
    def nats_per_token(self) -> float:
        return float(self.nats.mean())

    @property
    def stderr(self) -> float:
        """Standard error of the mean, over tokens."""
        return float(self.nats.std(ddof=1) / sqrt(len(self.nats))) if len(self.nats) > 1 else float("nan")

    @property
    def bits_per_byte(self) -> float:
        return float(self.nats.sum()) / log(2) / self.nbytes if self.nbytes else float("nan")


def score(engine: Engine, ids: Sequence[int], nbytes: int, *, window: int = WINDOW, progress: Callable[[int, int], None] | None = None) -> Score:
    """Score all tokens but the first, in windows of `window` predictions. The first token of a window is given, not predicted twice.

    `nbytes`: bytes of the text of `ids[1:]`.
    """
    if len(ids) < 2:
        raise Usage(f"the text has {len(ids)} tokens; the first is given, so at least 2 are needed", "--score", "give a longer text")
    window = min(window, engine.context)
    found = []
    for at in range(0, len(ids) - 1, window):
        part = list(ids[at : at + window + 1])
        session = engine.session(len(part) - 1)
        found.append(nats_of(session.feed(part[:-1], rows="all"), np.asarray(part[1:])))
        if progress:
            progress(min(at + window, len(ids) - 1), len(ids) - 1)
    return Score(np.concatenate(found), nbytes)


def nats_of(logits_TV: np.ndarray, targets_T: np.ndarray) -> np.ndarray:
    """-log p of each target, float64 [T]."""
    wide = logits_TV.astype(np.float64)
    top = wide.max(-1)
    return np.log(np.exp(wide - top[:, None]).sum(-1)) + top - wide[np.arange(len(targets_T)), targets_T]
