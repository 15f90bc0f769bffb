"""One file per reader: how it matches, fuses, cuts and is configured.

Here is what the readers' skip lists share: the refusal of an entry, and a regular expression that cannot run for ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import comb

from weighbridge.errors import WeighbridgeError

LONGEST_ENTRY = 1000  # characters; the longest published entry has fewer than 100
MOST_STEPS = 10_000_000  # of one match, by the estimate below: about 0.1 s

SECONDS = 2.0  # of this thread's work, for all lists of one question; the longest published list, 712 entries against 61,000 modules, takes 0.5
STRIDE = 64  # comparisons between two looks at the clock

# Module names that most model classes join to one weight. A reader that joins them wants one precision for all parts.
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj"),
         "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa")}

# One expert's matrix -> the stacked matrix that holds it in readers which stack.
STACKED = {"w1": "gate_up_proj", "w3": "gate_up_proj", "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "gate_up_proj": "gate_up_proj",
           "w2": "down_proj", "down_proj": "down_proj"}

_TOKEN = re.compile(r"""
    \\. | \[\^?\]?(?:\\.|[^\]\\])*\]                                   # an escape, a set of characters
  | \(\?P=\w+\) | \(\?[aiLmsu]+\)                                      # a back reference, flags
  | (?P<open>\((?:\?(?:[aiLmsu]*:|[=!>]|<[=!]|P<\w+>)|(?!\?)))         # a group that is understood
  | (?P<odd>\(\?)                                                      # comments, conditions, verbose mode
  | (?P<close>\)) | (?P<choice>\|)
  | (?P<repeat>[*+?]|\{(?:(?P<least>\d+)(?P<comma>,)?|,)(?P<most>\d*)\})
  | .""", re.VERBOSE | re.DOTALL)


class EntryFails(WeighbridgeError):
    """The reader itself raises `reason` on this entry, and so does not load the model."""

    def __init__(self, entry: str, reason: str) -> None:
        super().__init__("skip-entry-fails", f"skip entry {shown(entry)}: {reason}", hint="remove the entry, or write it as this reader matches")
        self.reason = reason


class EntryRefused(WeighbridgeError):
    """Weighbridge does not try this entry, because the answer could take for ever. The reader may well try."""

    def __init__(self, entry: str, reason: str) -> None:
        super().__init__("skip-entry-refused", f"skip entry {shown(entry)}: {reason}", hint="write the entry without nested or many repeats")
        self.reason = reason


class Patience:
    """The work that matching may take, in seconds of this thread's CPU time: other jobs on the machine change no answer much.

    One for each question that a user asks: all lists and readers of it share what is left.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds, self.used = seconds, 0.0

    @contextmanager
    def spent(self) -> Iterator[float]:
        """The moment (of `time.thread_time`) at which it is over; what the block takes is counted."""
        start = time.thread_time()
        try:
            yield start + self.seconds - self.used
        finally:
            self.used += time.thread_time() - start

    @property
    def over(self) -> str:
        return f"it was not tried: matching of all lists took {self.seconds:g} s of work before it"


def shown(entry: object) -> str:
    """An entry for a message: quoted, and cut when it is long."""
    text = repr(entry)
    return text if len(text) <= 80 else f"{text[:77]}… ({len(text)} characters)"


def regex(entry: str, pattern: str, text: str, *, whole: bool = False) -> bool:
    """Python's `re.match` (or `re.fullmatch`) of `pattern`, which a reader makes of `entry`; bounded.

    Raises EntryFails where `re` cannot compile it, and EntryRefused where one match could take more than MOST_STEPS.
    """
    if len(entry) > LONGEST_ENTRY:
        raise EntryRefused(entry, f"{len(entry)} characters, more than {LONGEST_ENTRY}")
    try:
        compiled, repeats, choices = _read(pattern)
    except re.error as error:
        raise EntryFails(entry, f"re.error: {error}") from None
    except (RecursionError, OverflowError) as error:
        raise EntryFails(entry, f"{type(error).__name__}: {error}") from None
    except _Endless as error:
        raise EntryRefused(entry, str(error)) from None
    # Backtracking may try every way of sharing the text out to the repeats, for every choice.
    if choices * comb(len(text) + repeats, repeats) > MOST_STEPS:
        raise EntryRefused(entry, f"{repeats} repeats and {choices} choices over {len(text)} characters may take more than {MOST_STEPS} steps")
    return (compiled.fullmatch(text) if whole else compiled.match(text)) is not None


def required_words(pattern: str) -> list[str]:
    """Words (letters, digits, `_`, `-`) that stand in every text that the expression matches; none where that cannot be said simply."""
    if "|" in pattern or "(?" in pattern:
        return []
    words, depth = [""], 0
    for token in _TOKEN.finditer(pattern):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if token["repeat"]:
            words[-1] = words[-1][:-1]  # its last letter may not be there
        elif not depth and re.fullmatch(r"[\w-]", token[0]):
            words[-1] += token[0]
            continue
        words.append("")
    return [word for word in words if word]


class _Endless(Exception):
    pass


@lru_cache(maxsize=4096)
def _read(pattern: str) -> tuple[re.Pattern[str], int, int]:
    """(compiled, repeats of open length that follow one another, product of all choices)."""
    compiled = re.compile(pattern)
    choices, groups = 1, [_Group()]
    varies = after_repeat = False  # of what stands just before
    grouped = False
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup if token["repeat"] is None else "repeat"
        if kind == "repeat" and after_repeat:
            after_repeat = False  # the mark of a lazy or possessive repeat
            continue
        after_repeat = kind == "repeat"
        if kind == "odd":
            raise _Endless("it has a comment, a condition or verbose mode, which is not read here")
        if kind == "open":
            groups.append(_Group())
        elif kind == "close":
            inner = groups.pop()
            choices, varies = choices * inner.choices, inner.varies
            groups[-1].add(inner.repeats, varies)
        elif kind == "choice":
            groups[-1].choose()
        elif kind == "repeat":
            least, most = _bounds(token)
            if most > 1 and varies:
                raise _Endless("it repeats something that itself repeats or chooses: the time may grow exponentially")
            # A group may match nothing, and is then repeated without an end of the text to stop it.
            choices *= 2 if most <= 1 else max(1, least) if grouped else 1
            groups[-1].add(int(most > 1 and most != least), True)
        varies = varies if kind == "close" else False
        grouped = kind == "close"
    return compiled, groups[0].repeats, choices * groups[0].choices


def _bounds(token: re.Match[str]) -> tuple[float, float]:
    if token["repeat"] in ("*", "+", "?"):
        return {"*": (0, float("inf")), "+": (1, float("inf")), "?": (0, 1)}[token["repeat"]]
    least = int(token["least"] or 0)
    if token["least"] and not token["comma"]:
        return least, least
    return least, int(token["most"]) if token["most"] else float("inf")


class _Group:
    """An open bracket: repeats of its worst alternative, and how many alternatives there are."""

    def __init__(self) -> None:
        self.worst, self.here, self.choices, self.varies = 0, 0, 1, False

    @property
    def repeats(self) -> int:
        return max(self.worst, self.here)

    def add(self, repeats: int, varies: bool) -> None:
        self.here += repeats
        self.varies |= varies

    def choose(self) -> None:
        self.worst, self.here, self.choices, self.varies = self.repeats, 0, self.choices + 1, True
