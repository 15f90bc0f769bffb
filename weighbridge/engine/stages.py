"""What one stage of two runs has in common, added up chunk by chunk: nothing of the activations is kept."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from weighbridge.engine.capture import order
from weighbridge.errors import WeighbridgeError

SLAB = 1 << 20  # values that are compared at a time, in float64


class Meter:
    """Sums over all positions of one stage. Values that are not finite on either side are counted and left out of the sums."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = self.lost_a = self.lost_b = 0
        self.aa = self.bb = self.ab = self.dd = self.d = self.most = 0.0
        self.tokens = self.other = self.swaps = self.odd = 0  # of the router only

    def take(self, a: np.ndarray, b: np.ndarray) -> None:
        """Add [positions, width] of both sides."""
        step = max(1, SLAB // max(1, a.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, len(a), step):
                self._take(a[start : start + step], b[start : start + step])

    def _take(self, a: np.ndarray, b: np.ndarray) -> None:
        finite_a, finite_b = np.isfinite(a), np.isfinite(b)
        self.lost_a += a.size - int(np.count_nonzero(finite_a))
        self.lost_b += b.size - int(np.count_nonzero(finite_b))
        x, y = np.asarray(a, np.float64).reshape(-1), np.asarray(b, np.float64).reshape(-1)
        both = (finite_a & finite_b).reshape(-1)
        if not both.all():
            x, y = x[both], y[both]
        if not len(x):
            return
        difference = y - x
        self.values += len(x)
        self.aa, self.bb = self.aa + float(x @ x), self.bb + float(y @ y)
        self.ab, self.dd = self.ab + float(x @ y), self.dd + float(difference @ difference)
        np.abs(difference, out=difference)
        self.d += float(difference.sum())
        self.most = max(self.most, float(difference.max()))

    def take_choice(self, scores_a: np.ndarray, scores_b: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        """Add the experts that both chose, int64 [positions, k], with the scores [positions, experts] that they were chosen by.

        A chose expert i and not j, B the other way round. With one selection bias on both sides that needs
        score_B[j] - score_B[i] > score_A[j] - score_A[i], whatever the bias is. A swap that breaks this is `odd`.
        """
        self.tokens += len(a)
        for token in np.flatnonzero((np.sort(a, 1) != np.sort(b, 1)).any(1)):
            self.other += 1
            only_a, only_b = np.setdiff1d(a[token], b[token]), np.setdiff1d(b[token], a[token])
            gained = (scores_b[token, only_b] - scores_a[token, only_b])[:, None] - (scores_b[token, only_a] - scores_a[token, only_a])[None]
            self.swaps += gained.size
            self.odd += int(np.count_nonzero(~(gained > 0)))

    @property
    def relative(self) -> float | None:
        """Norm of the difference over the norm of A; None where no value is finite or A is zero and B is not."""
        if not self.values:
            return None
        if not self.aa:
            return 0.0 if not self.dd else None
        return math.sqrt(self.dd / self.aa)

    @property
    def cosine(self) -> float | None:
        if not self.values:
            return None
        if not self.dd:
            return 1.0
        return self.ab / math.sqrt(self.aa * self.bb) if self.aa and self.bb else 0.0

    @property
    def ratio(self) -> float | None:
        """Norm of B over norm of A."""
        return math.sqrt(self.bb / self.aa) if self.values and self.aa else None

    def row(self) -> dict[str, Any]:
        """As it stands in `layers` of the document. Numbers that do not exist are null."""
        row = {"name": self.name, "max_abs": self.most if self.values else None, "mean_abs": self.d / self.values if self.values else None,
               "cosine": self.cosine, "relative": self.relative, "norm_ratio": self.ratio, "not_finite": [self.lost_a, self.lost_b]}
        if self.tokens:
            row |= {"other_experts": self.other / self.tokens, "unexplained": self.odd / self.swaps if self.swaps else 0.0}
        return row


class Meters:
    """All stages of a comparison, in the order of the pass."""

    def __init__(self, score: str | None = None) -> None:
        self.score = score  # what a selection bias is added to: sigmoid or softmax of the router's logits
        self.found: dict[str, Meter] = {}
        self.missing: dict[str, set[str]] = {"a": set(), "b": set()}
        self.scores: tuple[np.ndarray, np.ndarray] | None = None

    def take(self, name: str, a: np.ndarray | None, b: np.ndarray) -> None:
        """One stage of one chunk; a stage that A does not have is noted and left out."""
        if a is None:
            self.missing["a"].add(name)
            return
        if a.shape != b.shape:
            raise WeighbridgeError("two-shapes", f"A gives {list(a.shape)}, B {list(b.shape)}", name,
                                   "compare two forms of one model; a recording with padding needs steps in its mapping file")
        stem = name.removesuffix(".chosen")
        if stem != name:
            if self.scores is not None and stem + ".router" in self.found:
                self.found[stem + ".router"].take_choice(*self.scores, a, b)
            self.scores = None
            return
        meter = self.found.get(name)
        if meter is None:
            meter = self.found[name] = Meter(name)
        meter.take(a, b)
        if name.endswith(".router"):
            self.scores = _scores(a, self.score), _scores(b, self.score)

    def all(self) -> list[Meter]:
        return sorted(self.found.values(), key=lambda meter: order(meter.name))


def _scores(logits: np.ndarray, score: str | None) -> np.ndarray:
    """What a selection bias is added to, float64. Softmax has a sum in it that is the token's own: its logits decide the same choice."""
    x = np.asarray(logits, np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        return 1 / (1 + np.exp(-x)) if score == "sigmoid" else x


class Outcome:
    """What the logits of both sides say, position by position: KL(A||B), the most likely token, the loss on the text."""

    def __init__(self) -> None:
        self.kl: list[np.ndarray] = []
        self.same: list[np.ndarray] = []
        self.losses: list[np.ndarray] = []  # [2, positions]: -log p of the token that follows

    def take(self, a: np.ndarray, b: np.ndarray, follows: np.ndarray) -> np.ndarray:
        """Add logits [positions, vocab]; `follows` are the tokens after them, -1 where the text ends. Returns most likely tokens [2, positions]."""
        top = np.stack([_top(a), _top(b)])
        for start in range(0, len(a), 16):
            stop = start + 16
            x, y = _log_softmax(a[start:stop]), _log_softmax(b[start:stop])
            with np.errstate(invalid="ignore"):
                self.kl.append(np.where(np.isneginf(x), 0.0, np.exp(x) * (x - y)).sum(1))
            known = np.flatnonzero(follows[start:stop] >= 0)
            self.losses.append(-np.stack([x[known, follows[start:stop][known]], y[known, follows[start:stop][known]]]))
        self.same.append((top[0] == top[1]) & (top[0] >= 0))
        return top

    def document(self) -> dict[str, Any]:
        """Means with standard errors over positions; null where something is not finite or was not recorded."""
        if not self.kl:
            return dict.fromkeys(("kl", "kl_stderr", "top1_agreement", "top1_stderr", "nats_a", "nats_b", "nats_difference", "nats_stderr"))
        losses = np.concatenate(self.losses, axis=1)
        kl, kl_error = _mean(np.concatenate(self.kl))
        same, same_error = _mean(np.concatenate(self.same).astype(np.float64))
        more, more_error = _mean(losses[1] - losses[0])
        return {"kl": kl, "kl_stderr": kl_error, "top1_agreement": same, "top1_stderr": same_error, "nats_a": _mean(losses[0])[0],
                "nats_b": _mean(losses[1])[0], "nats_difference": more, "nats_stderr": more_error}


def _mean(values: np.ndarray) -> tuple[float | None, float | None]:
    if not len(values) or not np.isfinite(values).all():
        return None, None
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _top(logits: np.ndarray) -> np.ndarray:
    """The most likely token of each row, -1 where the row holds a NaN or no finite value: then there is none."""
    top = logits.argmax(1)
    best = logits[np.arange(len(logits)), top]
    return np.where(np.isfinite(best) & ~np.isnan(logits).any(1), top, -1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    x = np.asarray(logits, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        x = x - x.max(1, keepdims=True)
        return x - np.log(np.exp(x).sum(1, keepdims=True))
