"""A checkpoint's own tokenizer.json, by the library `tokenizers`; and text that appears token by token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.errors import Usage, WeighbridgeError

FILE, LIMIT = "tokenizer.json", 64_000_000  # bytes; Kimi-K2's has 20 MB
BROKEN = "\ufffd"  # what a part of a character decodes to


class Tokenizer:
    """`encode` and `decode`. `vocab` is the model's, 0 if it is not known: an id beyond it is refused, as the model has no row for it."""

    def __init__(self, checkpoint: Checkpoint, vocab: int = 0) -> None:
        self.vocab = vocab
        self._inner = _load(checkpoint)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of `text`. `special` adds what the tokenizer puts around a text (mostly nothing, or a begin token).

        A user's text that spells a control token becomes that token, as in transformers. Refuses text that was no UTF-8.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Usage(f"character {error.start:,} of {len(text):,} is half a code ({ord(text[error.start]):#x}): the text was not UTF-8", "text",
                        "give the text in UTF-8") from error
        ids: list[int] = self._inner.encode(text, add_special_tokens=special).ids
        wrong = next((i for i in ids if self.vocab and i >= self.vocab), None)
        if wrong is not None:
            raise WeighbridgeError("tokenizer", f"gives the token {wrong:,}; the model's vocabulary ends before {self.vocab:,}", FILE,
                                   "take the tokenizer.json that belongs to these weights")
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of `ids`, without control tokens unless they are wanted."""
        return self._inner.decode(list(ids), skip_special_tokens=skip_special)

    def token(self, number: int) -> str:
        """The token as it stands in the vocabulary; empty for an unknown one."""
        return self._inner.id_to_token(number) or ""

    def stream(self) -> Stream:
        return Stream(self)


class Stream:
    """Text of a growing sequence: `push` gives what is new. A character that is not whole yet waits for its last token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._ids, self._done = tokenizer, [], 0
        self._given = ""

    def push(self, number: int) -> str:
        """The text that this token completes; may be empty."""
        self._ids.append(number)
        text = self._tokenizer.decode(self._ids[self._done:])
        if text.endswith(BROKEN):
            return ""
        new = text[len(self._given):]
        self._given = text
        if len(self._ids) - self._done > 64:
            self._forget()
        return new

    def _forget(self) -> None:
        """Let go of all but the last tokens. They stay, because what a token reads as may hang on the ones before it.

        The cut must not go through a character: where bytes are tokens, half a character would spoil the whole ones after it. Five lengths
        in a row hold a good one for characters of one to four bytes.
        """
        for kept in range(8, 13):
            tail = self._tokenizer.decode(self._ids[-kept:])
            if tail and BROKEN not in tail and self._given.endswith(tail):
                self._done, self._given = len(self._ids) - kept, tail
                return

    def rest(self) -> str:
        """What is left at the end, a broken character included."""
        text = self._tokenizer.decode(self._ids[self._done:])
        return text[len(self._given):]


def _load(checkpoint: Checkpoint) -> Any:
    size = checkpoint.files.get(FILE)
    if size is None:
        raise WeighbridgeError("tokenizer", "there is no tokenizer.json here, so text cannot become tokens", f"{checkpoint.label}/{FILE}",
                               "copy tokenizer.json from the publisher's repository into the folder")
    if size > LIMIT:
        raise WeighbridgeError("tokenizer", f"{size:,} bytes, the limit is {LIMIT:,}", FILE)
    tokenizers = require("tokenizers")
    raw = checkpoint.store.read(FILE, 0, size)
    try:
        return tokenizers.Tokenizer.from_str(raw.decode("utf-8"))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics are no Exception
        raise WeighbridgeError("tokenizer", f"cannot be read: {str(error)[:200]}", FILE, "take tokenizer.json from the publisher again") from error


def require(module: str) -> Any:
    """A library of the extra `run`, or a refusal that says how to get it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise WeighbridgeError("not-installed", f"the library {module} is needed for text", module, "pip install 'weighbridge[run]'") from error
