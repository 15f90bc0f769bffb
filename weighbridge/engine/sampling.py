"""From logits to the next token: temperature, then top-k, then top-p, as transformers orders them; repeatable by seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from weighbridge.errors import Usage, WeighbridgeError

CONFIG = "generation_config.json"
# What Sampling takes, so that the error names the file's key and not a flag that nobody gave.
NEEDED: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda v: 0 <= v <= 100, "a number from 0 to 100"),
    "top_p": (lambda v: 0 < v <= 1, "a number above 0, at most 1"),
    "top_k": (lambda v: isinstance(v, int) and 0 <= v <= 1 << 24, "a whole number from 0 on"),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 takes the likeliest token. `top_k` 0 and `top_p` 1 leave all tokens in."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise Usage(f"{self.temperature} is no temperature", "--temperature", "give 0 (the likeliest token) to 100")
        if not 0 < self.top_p <= 1:
            raise Usage(f"{self.top_p} is no share", "--top-p", "give more than 0, at most 1")
        if not 0 <= self.top_k <= 1 << 24:
            raise Usage(f"{self.top_k} is no number of tokens", "--top-k", "give 0 (all) or more")
        if not 0 <= self.seed < 1 << 63:
            raise Usage(f"{self.seed} is no seed", "--seed", "give a whole number from 0 on")


class Sampler:
    """Picks tokens one after the other; equal seeds give equal tokens from equal logits."""

    def __init__(self, settings: Sampling) -> None:
        self.settings = settings
        self._random = np.random.Generator(np.random.PCG64(settings.seed))

    def pick(self, logits_V: np.ndarray) -> int:
        """One token. Refuses logits that are NaN: there is no likeliest one."""
        if np.isnan(logits_V).any():
            raise WeighbridgeError("nan", f"{int(np.isnan(logits_V).sum()):,} of {len(logits_V):,} logits are NaN", "logits",
                                   "weighbridge compare finds the layer where it begins; with --numerics neuron, published FP8 must be converted first: "
                                   "its codes above 240 are NaN there")
        if self.settings.temperature == 0:
            return int(np.argmax(logits_V))
        kept, probabilities = distribution(logits_V, self.settings)
        return int(kept[np.searchsorted(np.cumsum(probabilities), self._random.random() * probabilities.sum(), side="right").clip(0, len(kept) - 1)])


def distribution(logits_V: np.ndarray, settings: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Tokens that are left, likeliest first, and their float64 probabilities, which add up to 1."""
    scaled = logits_V.astype(np.float64) / settings.temperature
    order = np.argsort(-scaled, kind="stable")
    if settings.top_k and settings.top_k < len(order):
        least = scaled[order[settings.top_k - 1]]
        order = order[scaled[order] >= least]  # equal ones stay, as there
    probabilities = np.exp(scaled[order] - scaled[order[0]])
    probabilities /= probabilities.sum()
    if settings.top_p < 1:
        # transformers drops from the unlikeliest on while their sum stays within 1 - top_p; one always stays.
        tail = np.cumsum(probabilities[::-1])[::-1]
        keep = tail > 1 - settings.top_p
        keep[0] = True
        order, probabilities = order[keep], probabilities[keep]
        probabilities = probabilities / probabilities.sum()
    return order, probabilities


def read_settings(config: dict[str, Any] | None, given: dict[str, Any]) -> Sampling:
    """What the user says, then generation_config.json (`do_sample` false is temperature 0), then the likeliest token."""
    stated = config or {}
    sample = stated.get("do_sample")
    if sample is not None and not isinstance(sample, bool):
        raise _wrong("do_sample", sample, "true or false")
    chosen = {
        "temperature": _number(stated, "temperature", 1.0) if sample else 0.0,
        "top_p": _number(stated, "top_p", 1.0) if sample else 1.0, "top_k": _number(stated, "top_k", 50) if sample else 0}
    if given.get("temperature"):  # the user samples: then the file's shares hold, whatever it says of sampling
        chosen |= {"top_p": _number(stated, "top_p", 1.0), "top_k": _number(stated, "top_k", 0)}
    return Sampling(**{**chosen, **{name: value for name, value in given.items() if value is not None}})


def end_tokens(generation: dict[str, Any] | None, config: dict[str, Any], vocab: int) -> frozenset[int]:
    """Ids at which a text ends, from generation_config.json or else config.json: one number or a list."""
    for name, settings in ((CONFIG, generation or {}), ("config.json", config)):
        value = settings.get("eos_token_id")
        if value is None:
            continue
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v for v in listed):
            raise WeighbridgeError("config", f"eos_token_id is {value!r:.60}; a token or a list of tokens is needed", f"{name}: eos_token_id")
        beyond = next((v for v in listed if v >= vocab), None)
        if beyond is not None:
            raise WeighbridgeError("config", f"eos_token_id is {beyond:,}; the vocabulary ends before {vocab:,}", f"{name}: eos_token_id",
                                   "take the file that belongs to these weights")
        return frozenset(listed)
    return frozenset()


def _number(stated: dict[str, Any], key: str, default: float) -> float:
    value = stated.get(key)
    if value is None:
        return default
    good, needed = NEEDED[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not good(value):
        raise _wrong(key, value, needed)
    return value


def _wrong(key: str, value: object, needed: str) -> WeighbridgeError:
    return WeighbridgeError("config", f"{key} is {value!r:.60}; {needed} is needed", f"{CONFIG}: {key}", "take the file from the publisher again")
