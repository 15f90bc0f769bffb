"""Text from a model: a prompt is fed, then token after token is picked; and the same as one loaded value for Python."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from weighbridge.engine.chat import Chat
from weighbridge.engine.engine import Engine, Session
from weighbridge.engine.sampling import CONFIG, Sampler, Sampling, end_tokens, read_settings
from weighbridge.engine.tokenizer import Tokenizer
from weighbridge.errors import Usage


class Piece(NamedTuple):
    """One token, and the text that it completes (empty while a character is not whole)."""

    id: int
    text: str


@dataclass
class Timing:
    """Seconds and tokens of the two parts of a run, and bytes of weights that the second used."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0
    used: int = 0
    ended: str = ""  # eos, length or context

    @property
    def tokens_per_second(self) -> float:
        return max(0, len(self.tokens) - 1) / self.seconds if self.seconds > 0 else 0.0

    @property
    def bytes_per_token(self) -> int:
        """Bytes that one decoded token multiplied with; the first token comes from the prompt's pass."""
        steps = len(self.tokens) - 1
        return self.used // steps if steps > 0 else 0


class Model:
    """A loaded checkpoint that talks: `generate`, `logits`, `capture`."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.checkpoint = engine, engine.source.checkpoint
        self.timing = Timing()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return Tokenizer(self.checkpoint, self.engine.vocab)

    @cached_property
    def generation_config(self) -> dict[str, Any] | None:
        return self.checkpoint.json(CONFIG)

    @cached_property
    def ends(self) -> frozenset[int]:
        return end_tokens(self.generation_config, self.checkpoint.config, self.engine.vocab)

    def sampling(self, **given: Any) -> Sampling:
        """Settings of the checkpoint, with those given instead."""
        return read_settings(self.generation_config, given)

    def generate(self, prompt: str | Sequence[int], *, max_tokens: int = 128, temperature: float | None = None, top_p: float | None = None,
                 top_k: int | None = None, seed: int | None = None, chat: bool = False) -> Iterator[Piece]:
        """Pieces of text as they are made. `prompt` is text or token ids; with `chat` it is one message in the checkpoint's template."""
        if chat:
            if not isinstance(prompt, str):
                raise Usage("a chat needs text, not token ids", "prompt")
            ids = self.tokenizer.encode(Chat(self.checkpoint).prompt(prompt), special=False)
        else:
            ids = self.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
        yield from self.pieces(ids, max_tokens, self.sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed))

    def pieces(self, ids: Sequence[int], max_tokens: int, sampling: Sampling) -> Iterator[Piece]:
        """Pieces after the tokens `ids`. `timing` is filled while they come."""
        session = self._session(ids, max_tokens)
        sampler, stream = Sampler(sampling), self.tokenizer.stream()
        timing = self.timing = Timing(len(ids))
        started = time.perf_counter()
        logits = session.feed(ids)
        timing.prompt_seconds = time.perf_counter() - started
        before = self.engine.bytes_used
        started = time.perf_counter()
        for number in range(max_tokens):
            token = sampler.pick(logits)
            timing.tokens.append(token)
            timing.seconds, timing.used = time.perf_counter() - started, self.engine.bytes_used - before
            if token in self.ends:
                timing.ended = "eos"
                yield Piece(token, stream.rest())
                return
            yield Piece(token, stream.push(token))
            if number + 1 < max_tokens:
                if session.position >= self.engine.context:
                    timing.ended = "context"
                    break
                logits = session.feed([token])
        else:
            timing.ended = "length"
        if rest := stream.rest():
            yield Piece(timing.tokens[-1], rest)

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """Float32 [n, V]: the logits after each of the tokens."""
        return self._session(ids, 0).feed(ids, rows="all")

    def capture(self, ids: Sequence[int]) -> dict[str, np.ndarray]:
        """Activations by stage ("embed", "layers.0.attn", …), each [n, width]."""
        parts: dict[str, list[np.ndarray]] = {}
        self._session(ids, 0).feed(ids, rows="all", observe=lambda name, array: parts.setdefault(name, []).append(np.array(array)))
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _session(self, ids: Sequence[int], max_tokens: int) -> Session:
        if not len(ids):
            raise Usage("the prompt is empty: there is nothing to go on from", "-p", "give at least one token of text")
        if max_tokens < 0 or max_tokens > 1 << 24:
            raise Usage(f"{max_tokens} is no number of tokens", "--max-tokens", "give 0 or more")
        if len(ids) > self.engine.context:
            raise Usage(f"the prompt has {len(ids):,} tokens, the model's context {self.engine.context:,}", "-p", "give a shorter text")
        return self.engine.session(min(len(ids) + max_tokens, self.engine.context))
