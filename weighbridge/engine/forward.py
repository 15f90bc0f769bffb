"""The forward pass: one decoder for all families, as its `Architecture` says. Activations are float32."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from weighbridge.engine.attention import HeadNorm, Rotary, attend, rms_norm
from weighbridge.engine.cache import KeyValues
from weighbridge.engine.linear import Experts, Linear, silu
from weighbridge.engine.positional import Rows
from weighbridge.engine.streamed import StreamedExperts
from weighbridge.engine.weights import Weights
from weighbridge.models.architecture import Architecture, Routing

Observe = Callable[[str, np.ndarray], None]
Groups = Sequence[tuple[Sequence[int], int]]  # heads whose values share one mean, and the number of values


class Biased:
    """A linear layer with its bias, if it has one."""

    def __init__(self, weights: Weights, name: str, biased: bool) -> None:
        self.linear = weights.linear(name)
        self.bias = weights.vector(name + "_bias") if biased else None
        self.nbytes = self.linear.nbytes

    def __call__(self, x_TK: np.ndarray) -> np.ndarray:
        y = self.linear(x_TK)
        if self.bias is not None:
            y += self.bias
        return y


class Attention:
    """q, k, v, norms, rotary positions, softmax, o."""

    def __init__(self, weights: Weights, arch: Architecture, layer: int, rotary: Rotary, groups: tuple[Groups, Groups]) -> None:
        name = f"layers.{layer}.attn."
        self.arch, self.rotary, self.window = arch, rotary, arch.window[layer]
        self.q, self.k, self.v, self.o = (Biased(weights, name + p, p in arch.biases) for p in "qkvo")
        self.norms: tuple[HeadNorm, HeadNorm] | None = None
        if arch.qk_norm != "none":
            self.norms = (HeadNorm(weights.vector(name + "q_norm"), arch.heads, arch.head_dim, arch.eps, groups[0]),
                          HeadNorm(weights.vector(name + "k_norm"), arch.kv_heads, arch.head_dim, arch.eps, groups[1]))
        self.nbytes = sum(p.nbytes for p in (self.q, self.k, self.v, self.o))

    def __call__(self, x_TH: np.ndarray, cache: KeyValues, slot: int, position: int) -> np.ndarray:
        """float32 [T, hidden]; `slot` is the layer's place in the cache."""
        arch = self.arch
        q = self.q(x_TH).reshape(len(x_TH), arch.heads, arch.head_dim)
        k, v = (p(x_TH).reshape(len(x_TH), arch.kv_heads, arch.head_dim) for p in (self.k, self.v))
        if self.norms:
            q, k = self.norms[0](q), self.norms[1](k)
        keys, values = cache.put(slot, position, self.rotary(k, position), v)
        mixed = attend(self.rotary(q, position), keys, values, position, self.window)
        return self.o(mixed.reshape(len(x_TH), -1))


class Mlp:
    """down(silu(gate x) * up x)."""

    def __init__(self, weights: Weights, arch: Architecture, layer: int) -> None:
        self.gate, self.up, self.down = (Biased(weights, f"layers.{layer}.mlp.{p}", p in arch.biases) for p in ("gate", "up", "down"))
        self.nbytes = sum(p.nbytes for p in (self.gate, self.up, self.down))

    def __call__(self, x_TH: np.ndarray) -> np.ndarray:
        hidden = silu(self.gate(x_TH))
        hidden *= self.up(x_TH)
        return self.down(hidden)


class Moe:
    """A router in float32 and the experts that it picks."""

    def __init__(self, weights: Weights, arch: Architecture, layer: int, experts: Callable[[int], Experts | StreamedExperts], each: int) -> None:
        assert arch.routing
        self.routing, self.layer, self.make, self.made, self.each = arch.routing, layer, experts, None, each
        self.router = weights.linear(f"layers.{layer}.moe.router")
        self.bias = weights.vector(f"layers.{layer}.moe.router_bias") if arch.routing.bias else None
        self.nbytes, self.used = self.router.nbytes, 0

    def route(self, x_TH: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Router logits [T, E], the chosen [T, k] best first, and their weights [T, k]."""
        logits = self.router(x_TH)
        chosen, weights = choose(logits, self.bias, self.routing)
        return logits, chosen, weights

    def __call__(self, x_TH: np.ndarray, chosen_Tk: np.ndarray, weights_Tk: np.ndarray) -> np.ndarray:
        if self.made is None:
            self.made = self.make(self.layer)
        self.used += self.each * len(np.unique(chosen_Tk))
        return self.made(x_TH, chosen_Tk, weights_Tk)


def choose(logits_TE: np.ndarray, bias_E: np.ndarray | None, routing: Routing) -> tuple[np.ndarray, np.ndarray]:
    """Experts by score (with the bias, if there is one), best first, and their float32 weights (without it)."""
    if routing.score == "sigmoid":
        p = 1 / (1 + np.exp(-logits_TE))
    else:
        p = np.exp(logits_TE - logits_TE.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
    ranked = p if bias_E is None else p + bias_E
    chosen = np.argsort(-ranked, axis=-1, kind="stable")[:, : routing.top_k]
    weights = np.take_along_axis(p, chosen, -1)
    if routing.normalize:
        weights /= weights.sum(-1, keepdims=True)
    return chosen, weights


@dataclass(slots=True)
class Layer:
    """One layer of a pre-norm decoder, number `number` of the model."""

    number: int
    input_norm: np.ndarray
    post_norm: np.ndarray
    attention: Attention
    feed: Mlp | Moe

    def __call__(self, x_TH: np.ndarray, eps: float, cache: KeyValues, slot: int, position: int, observe: Observe | None) -> np.ndarray:
        """The residual stream behind the layer; `x_TH` is changed."""
        name = f"layers.{self.number}."
        y = self.attention(rms_norm(x_TH, self.input_norm, eps), cache, slot, position)
        if observe:
            observe(name + "attn", y)
        x_TH += y
        normed = rms_norm(x_TH, self.post_norm, eps)
        if isinstance(self.feed, Mlp):
            y = self.feed(normed)
        else:
            logits, chosen, weights = self.feed.route(normed)
            if observe:
                observe(name + "router", logits)
                observe(name + "chosen", chosen)
            y = self.feed(normed, chosen, weights)
        if observe:
            observe(name + "experts", y)
        x_TH += y
        if observe:
            observe(name + "block", x_TH.copy())
        return x_TH


class Decoder:
    """Embedding, layers, final norm and head."""

    def __init__(self, arch: Architecture, embed: Linear | Rows, layers: list[Layer], norm: np.ndarray, head: Linear, row_bytes: int) -> None:
        self.arch, self.embed, self.layers, self.norm, self.head, self.row_bytes = arch, embed, layers, norm, head, row_bytes
        self._fixed = sum(layer.attention.nbytes + layer.feed.nbytes for layer in layers)
        self._passed = 0

    @property
    def used(self) -> int:
        """Bytes of weights that passes multiplied with so far; a pass over a block counts a matrix once."""
        return self._passed + sum(layer.feed.used for layer in self.layers if isinstance(layer.feed, Moe))

    def block(self, ids: np.ndarray, cache: KeyValues, position: int, observe: Observe | None) -> np.ndarray:
        """The residual stream [T, hidden] behind the last layer, for tokens `ids` from `position` on."""
        x = self.embed.rows(ids)
        if observe:
            observe("embed", x.copy())
        for slot, layer in enumerate(self.layers):
            x = layer(x, self.arch.eps, cache, slot, position, observe)
        self._passed += self._fixed + len(ids) * self.row_bytes
        return x

    def logits(self, x_TH: np.ndarray, observe: Observe | None) -> np.ndarray:
        """float32 [T, vocab]."""
        normed = rms_norm(x_TH, self.norm, self.arch.eps)
        out = self.head(normed)
        self._passed += self.head.nbytes
        if observe:
            observe("norm", normed)
            observe("logits", out)
        return out
