"""Write the skip list that a reader needs: as short as its way of matching allows, and proved by matching it again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping

from weighbridge.errors import WeighbridgeError
from weighbridge.runtimes import EntryFails, EntryRefused, Patience, skip

MOST_TRIED = 400  # short entries that are tried on all modules

_PLAIN, _GLOB = re.compile(r"[\w.-]+"), re.compile(r"([*?\[])")


class Unwritable(WeighbridgeError):
    """No list of this reader separates the modules: `module` must be skipped, and whatever names it also names `also`."""

    def __init__(self, reader: str, module: str, also: str) -> None:
        super().__init__("skip-list-unwritable", f"in {reader} every entry that names {module} also names {also}", module,
                         "quantize that module too, or leave the other one unquantized")
        self.module, self.also = module, also


def skip_list(reader: str, candidates: Mapping[str, bool], spell: Callable[[str], tuple[str, ...]] | None = None,
              patience: Patience | None = None) -> list[str]:
    """The list for `candidates` (path as the reader spells it -> whether the reader must leave it unquantized).

    `spell` is what the reader makes of an entry before it compares (renames, variants); the entry itself where it is not given.
    Raises Unwritable where no list gives exactly that split, Usage for a reader that is not known, and WeighbridgeError where no time is left.
    """
    patience = patience or Patience()
    with patience.spent() as end:
        return _written(reader, candidates, spell or (lambda entry: (entry,)), end)


def _written(reader: str, candidates: Mapping[str, bool], spelled: Callable[[str], tuple[str, ...]], end: float) -> list[str]:
    how = skip.rule(reader)
    wanted = [path for path, skipped in candidates.items() if skipped]
    kept = [path for path, skipped in candidates.items() if not skipped]
    if not wanted or reader == "llama.cpp":
        return []

    def hits(entry: str, paths: list[str]) -> list[str]:
        if time.thread_time() > end:
            raise WeighbridgeError("skip-list-long", f"to find a short list for {len(candidates):,} modules took too much work", reader,
                                   "give whole paths as entries")
        try:
            return [path for path in paths if any(how.matches(text, path) for text in spelled(entry))]
        except (EntryFails, EntryRefused):
            return []

    chosen = _short(reader, wanted, kept, hits)
    covered = {path for entry in chosen for path in hits(entry, wanted)}
    for path in wanted:
        if path not in covered:
            also = [hits(entry, kept) for entry in whole_entries(reader, path)]
            if all(also):
                raise Unwritable(reader, path, also[-1][0])
            chosen.append(next(entry for entry, others in zip(whole_entries(reader, path), also, strict=True) if not others))
    _prove(reader, chosen, wanted, kept, spelled)
    return chosen


def _short(reader: str, wanted: list[str], kept: list[str], hits: Callable[[str, list[str]], list[str]]) -> list[str]:
    """Greedy cover: of the entries that name no kept module always the one that names most of what is left."""
    tried: dict[str, set[str]] = {}
    for path in wanted:
        for entry in (*word_entries(reader, path), *whole_entries(reader, path)):
            if entry in tried or len(tried) >= MOST_TRIED:
                continue
            tried[entry] = set() if hits(entry, kept) else set(hits(entry, wanted))
    left, chosen = dict.fromkeys(wanted), []
    while left:
        entry = max(tried, key=lambda e: (len(tried[e] & left.keys()), -len(e)), default="")
        got = tried.get(entry, set()) & left.keys()
        if not got:
            break
        chosen.append(entry)
        left = {path: None for path in left if path not in got}
    return chosen


def _prove(reader: str, chosen: list[str], wanted: list[str], kept: list[str], spelled: Callable[[str], tuple[str, ...]]) -> None:
    """Match the list with every module again: exactly those that are wanted must be hit."""
    texts = dict.fromkeys(text for entry in chosen for text in spelled(entry))
    found = skip.resolve(texts, [*wanted, *kept], reader)
    wrong = set(found.skipped).symmetric_difference(wanted)
    if wrong:
        raise WeighbridgeError("internal", f"the written list is wrong for {min(wrong)}", reader)


def whole_entries(reader: str, path: str) -> tuple[str, ...]:
    """Entries that name one module alone, as far as the reader can: the plain one first, then the strict one."""
    exact = re.escape(path) + "$"
    if reader == "sglang-modelopt":
        # A dot as `\x2e` leaves the whole path alone to match: neither its segments nor the last of them are looked at.
        strict = "".join(c if c == "_" or c.isalnum() else f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}" for c in path)
        return (path, strict) if _PLAIN.fullmatch(path) else (strict,)
    if reader == "transformers":
        return (path, exact) if _PLAIN.fullmatch(path) else (exact,)
    if reader == "gptq-dynamic":
        return (exact,)
    if skip.RULES[reader].marked:
        strict = "re:" + exact
        odd = path.startswith("re:") or (reader == "compressed-tensors" and path[:1].isupper() and "." not in path)  # it could be read as a class
        return (strict,) if odd or (skip.RULES[reader].kind == "glob" and _GLOB.search(path)) else (path, strict)
    return (_GLOB.sub(r"[\1]", path),) if skip.RULES[reader].kind == "glob" else (path,)


def word_entries(reader: str, path: str) -> Iterator[str]:
    """Entries that may name this module together with its kin in other layers, the shortest first."""
    segments = path.split(".")
    if not _PLAIN.fullmatch(path):
        return
    tail = _tail(segments)
    runs = [".".join(segments[i:j]) for i in range(len(segments)) for j in range(i + 1, len(segments) + 1)
            if not any(s.isdigit() for s in segments[i:j])]
    number = next((i for i, s in enumerate(segments) if s.isdigit()), -1)
    layer = ".".join(segments[max(0, number - 1): number + 1]) if number >= 0 else ""
    if reader in ("neuron", "vllm-awq", "autoawq", "sglang-before-23467"):
        yield from sorted(runs, key=len)
        if layer:
            yield layer + "."
    elif reader in ("sglang", "sglang-modelopt"):
        yield from sorted(runs, key=len)
        if layer:
            yield layer
    elif reader == "transformers":
        yield from tail
        yield from (r"\d+".join(re.split(r"(?<=\.)\d+(?=\.|$)", ".".join(segments[:j]))) for j in range(1, len(segments)))
        yield from (".".join(segments[:j]) for j in range(number + 1, len(segments)) if number >= 0)
    elif reader in ("compressed-tensors", "vllm-compressed-tensors"):
        yield from (f"re:.*{re.escape(t)}$" for t in tail)
        yield from (f"re:.*\\.{re.escape(s)}\\..*" for s in segments[1:-1] if not s.isdigit())
        if layer:
            yield f"re:.*{re.escape(layer)}\\..*"
    elif reader == "gptq-dynamic":
        yield from (f".*{re.escape(t)}$" for t in tail)
        yield from (f".*\\.{re.escape(s)}\\..*" for s in segments[1:-1] if not s.isdigit())
        if layer:
            yield f".*{re.escape(layer)}\\..*"
    elif reader in ("tensorrt-llm", "vllm-quark", "vllm-modelopt"):
        yield from (f"*.{t}" for t in tail)
        yield from (f"*.{s}.*" for s in segments[1:-1] if not s.isdigit())
        if number >= 0:
            yield ".".join(segments[: number + 1]) + ".*"


def _tail(segments: list[str]) -> list[str]:
    """`o_proj`, `self_attn.o_proj`: the last words up to a number."""
    found = []
    for start in range(len(segments) - 1, -1, -1):
        if segments[start].isdigit():
            break
        found.append(".".join(segments[start:]))
    return found
