"""Causal attention with grouped key/value heads, rotary positions, and RMSNorm; float32 throughout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from weighbridge.models.architecture import Rope

SCORES = 4 << 20  # attention scores that are held at a time: 16 MB of float32


def rms_norm(x_TH: np.ndarray, weight_H: np.ndarray, eps: float) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    mean = np.einsum("th,th->t", x_TH, x_TH) / np.float32(x_TH.shape[1])
    return x_TH * (1 / np.sqrt(mean + np.float32(eps)))[:, None] * weight_H


class HeadNorm:
    """RMSNorm of q or k whose mean runs over groups of heads: one head, all heads, or the heads of one rank.

    `weight` has head_dim values (one set for every head) or heads * head_dim. `groups` are lists of heads, each with the
    number of values that its mean is taken over; zero heads that a rank adds count there.
    """

    def __init__(self, weight: np.ndarray, heads: int, head_dim: int, eps: float, groups: Sequence[tuple[Sequence[int], int]]) -> None:
        self.weight_HD, self.eps = weight.reshape(-1, head_dim), np.float32(eps)
        self.share_HH = np.zeros((heads, heads), np.float32)
        for members, width in groups:
            self.share_HH[np.ix_(members, members)] = 1 / width

    def __call__(self, x_THD: np.ndarray) -> np.ndarray:
        mean_TH = np.einsum("thd,thd->th", x_THD, x_THD) @ self.share_HH
        return x_THD * (1 / np.sqrt(mean_TH + self.eps))[:, :, None] * self.weight_HD


class Rotary:
    """Cosines and sines by position. Frequencies are made in float32, as transformers makes them."""

    def __init__(self, rope: Rope) -> None:
        self.half = rope.dims // 2
        self.inverse = frequencies(rope)

    def __call__(self, x_THD: np.ndarray, position: int) -> np.ndarray:
        """Turns the first 2 * half values of every head, in place; token t is at `position` + t."""
        angle = np.arange(position, position + len(x_THD), dtype=np.float32)[:, None] * self.inverse
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        low, high = x_THD[..., : self.half], x_THD[..., self.half : 2 * self.half]
        turned = low * cos - high * sin
        high[:] = high * cos + low * sin
        low[:] = turned
        return x_THD


def frequencies(rope: Rope) -> np.ndarray:
    """Radians per position, float32 [dims / 2]."""
    inverse = (1 / np.float32(rope.theta) ** (np.arange(0, rope.dims, 2, dtype=np.float32) / np.float32(rope.dims))).astype(np.float32)
    if rope.kind == "linear":
        return inverse / np.float32(rope.factor)
    if rope.kind != "llama3":
        return inverse
    wavelength = 2 * math.pi / inverse
    blend = (rope.original / wavelength - rope.low) / (rope.high - rope.low)
    between = (1 - blend) * inverse / np.float32(rope.factor) + blend * inverse
    out = np.where(wavelength > rope.original / rope.low, inverse / np.float32(rope.factor), inverse)
    middle = (wavelength <= rope.original / rope.low) & (wavelength >= rope.original / rope.high)
    return np.where(middle, between, out).astype(np.float32)


def attend(q_THD: np.ndarray, keys_KLD: np.ndarray, values_KLD: np.ndarray, position: int, window: int) -> np.ndarray:
    """float32 [T, heads, head_dim]: token t, at `position` + t, sees keys up to its own position and not before `window` of them.

    Keys and values are [kv_heads, position + T, head_dim].
    """
    tokens, heads, dim = q_THD.shape
    kv_heads, length, _ = keys_KLD.shape
    group = heads // kv_heads
    out = np.empty_like(q_THD)
    step = max(1, min(tokens, SCORES // (group * length)))
    for start in range(0, tokens, step):
        block = q_THD[start : start + step] * np.float32(dim**-0.5)
        first = position + start
        low = max(0, first - window + 1) if window else 0
        seen = slice(low, first + len(block))
        hidden = _hidden(first, len(block), low, window)
        for k in range(kv_heads):
            heads_here = slice(k * group, (k + 1) * group)
            flat = np.ascontiguousarray(block[:, heads_here]).reshape(-1, dim)
            scores = (flat @ keys_KLD[k, seen].T).reshape(len(block), group, -1)
            _softmax(scores, hidden)
            mixed = scores.reshape(len(flat), -1) @ values_KLD[k, seen]
            out[start : start + step, heads_here] = mixed.reshape(len(block), group, dim)
    return out


def _hidden(first: int, tokens: int, low: int, window: int) -> np.ndarray | None:
    """True [T, 1, L] where token t must not look; None for a single token that sees everything in reach."""
    if tokens == 1:
        return None
    token = np.arange(first, first + tokens)[:, None, None]
    key = np.arange(low, first + tokens)
    return (key > token) | (key <= token - window) if window else key > token


def _softmax(scores_TGL: np.ndarray, hidden: np.ndarray | None) -> None:
    if hidden is not None:
        np.copyto(scores_TGL, -np.inf, where=hidden)
    scores_TGL -= scores_TGL.max(-1, keepdims=True)
    np.exp(scores_TGL, out=scores_TGL)
    scores_TGL /= scores_TGL.sum(-1, keepdims=True)
