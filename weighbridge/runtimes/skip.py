"""What a skip list matches in each reader: the same entry means different things to each of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from weighbridge.errors import Usage
from weighbridge.runtimes import FUSED, LONGEST_ENTRY, STRIDE, EntryFails, EntryRefused, Patience, llama_cpp, neuron, required_words, sglang, shown, tensorrt_llm, transformers, vllm

MOST_ENTRIES, MOST_MODULES, LONGEST_MODULE = 20_000, 1_000_000, 1000
_NO_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Rule:
    """One reader's way. `split` is what follows when the parts of a fused layer disagree; empty if the reader fuses nothing.

    `kind`, `marked` and `reverse` only make long lists fast: how the entry is read (`literal`, `glob`, `regex`, `open`: no word need stand in the
    path), whether `re:` marks a regex, and whether an expert's path is also looked for in the entry, not only the other way round.
    `part` is the row by which a part of a fused layer is compared, where `matches` looks at the layer as the reader joins it; empty where parts are
    all that is compared.
    """

    matches: Callable[[str, str], bool]
    way: str
    read_in: str
    split: str = ""
    kind: str = "literal"
    marked: bool = False
    reverse: bool = False
    part: str = ""

    def pattern(self, entry: str) -> bool:
        """Whether the reader takes the entry for a pattern, not for a text."""
        return self.kind == "regex" or (self.marked and entry.startswith("re:")) or (self.kind == "glob" and not _NO_GLOB.isdisjoint(entry))


RULES: Mapping[str, Rule] = {
    "transformers": Rule(transformers.matches, "regex at the start up to a dot, or plain text at the end", "transformers 5.23.0", kind="regex"),
    "compressed-tensors": Rule(transformers.matches_compressed_tensors, "whole path, `re:` regex at the start, or class name",
                               "compressed-tensors 0.20.0", marked=True),
    "vllm-fp8": Rule(vllm.matches_fp8, "whole path; parts of a fused layer must agree", "vLLM main", split=vllm.SPLIT, reverse=True),
    "vllm-compressed-tensors": Rule(vllm.matches_compressed_tensors, "whole path, or `re:` regex at the start; parts must agree", "vLLM main",
                                    split=vllm.SPLIT_COMPRESSED_TENSORS, marked=True),
    "vllm-modelopt": Rule(vllm.matches_modelopt, "whole path, any part of the text, or shell pattern", "vLLM main", split=vllm.SPLIT,
                          kind="glob", reverse=True, part="vllm-fp8"),
    "vllm-awq": Rule(vllm.matches_awq, "any part of the text; parts of a fused layer must agree", "vLLM main", split=vllm.SPLIT),
    "vllm-quark": Rule(vllm.matches_quark, "whole path, `re:` regex at the start, or shell pattern; parts must agree", "not read: vllm-project/vllm#48606",
                       split=vllm.SPLIT_COMPRESSED_TENSORS, kind="glob", marked=True),
    "gptq-dynamic": Rule(vllm.matches_gptq_dynamic, "regex at the start (keys of `dynamic` without `-:`)", "vLLM main, GPTQModel main", kind="regex"),
    "autoawq": Rule(vllm.matches_awq, "any part of the text", "AutoAWQ main"),
    "sglang": Rule(sglang.matches, "whole dotted segments", "sglang after #23467", split=vllm.SPLIT, reverse=True),
    "sglang-before-23467": Rule(sglang.matches_before_23467, "any part of the text", "SGLang before #23467"),
    "sglang-modelopt": Rule(sglang.matches_modelopt, "whole segments, or a pattern with `*` for the whole path or one segment", "SGLang main",
                            split=vllm.SPLIT, kind="open", part="sglang"),
    "neuron": Rule(neuron.matches, "any part of the text", "NxD 2.29"),
    "tensorrt-llm": Rule(tensorrt_llm.matches, "shell pattern or `re:` regex for the whole path or a parent", "TensorRT-LLM main",
                         split="no error: the whole fused layer {prefix} is left unquantized", kind="glob", marked=True),
    "llama.cpp": Rule(llama_cpp.matches, "no list: a weight with a scale is quantized", "llama.cpp master"),
}
COLUMNS = ("transformers", "compressed-tensors", "vllm-fp8", "sglang", "neuron", "vllm-modelopt")


@dataclass(frozen=True, slots=True)
class Split:
    """A layer that the reader fuses, some parts of which are skipped and some not; `consequence` is the reader's own text."""

    fused: str
    skipped: tuple[str, ...]
    kept: tuple[str, ...]
    consequence: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a list does in one reader; entries and modules in the order in which they were given."""

    reader: str
    matched: dict[str, tuple[str, ...]] = field(default_factory=dict)  # entry -> modules
    unmatched: tuple[str, ...] = ()  # entries without a module
    failing: dict[str, str] = field(default_factory=dict)  # entry -> the error that the reader raises
    refused: dict[str, str] = field(default_factory=dict)  # entry -> why Weighbridge does not try it
    skipped: tuple[str, ...] = ()  # modules with an entry
    kept: tuple[str, ...] = ()  # modules without
    split: tuple[Split, ...] = ()


def rule(reader: str) -> Rule:
    if reader not in RULES:
        raise Usage(f"{reader!r} is no reader whose skip lists are known", hint=f"readers: {', '.join(RULES)}")
    return RULES[reader]


def resolve(entries: Iterable[str], modules: Iterable[str], reader: str, patience: Patience | None = None) -> Resolution:
    """Match a whole list with all modules as `reader` does. `modules` are paths as the reader spells them, parts of fused layers apart.

    One bad entry does not hide the others: it is named in `failing` or `refused`, and so are entries for which no time is left (plain
    ones are matched first). Raises Usage for lists out of all bounds.
    """
    how, patience = rule(reader), patience or Patience()
    listed, paths = _bounded("entries", entries, MOST_ENTRIES, LONGEST_ENTRY), _bounded("modules", modules, MOST_MODULES, LONGEST_MODULE)
    matched: dict[str, tuple[str, ...]] = {}
    failing: dict[str, str] = {}
    refused: dict[str, str] = {}
    with patience.spent() as end:
        candidates = _candidates(listed, paths, how)
        for entry in sorted(listed, key=lambda entry: how.pattern(entry)):
            try:
                matched[entry] = _hits(entry, candidates, how, end)
            except EntryFails as error:
                failing[entry] = error.reason
            except EntryRefused as error:
                refused[entry] = error.reason
            except TimeoutError:
                refused[entry] = patience.over
    matched = {entry: matched[entry] for entry in listed if entry in matched}
    hit = {module for found in matched.values() for module in found}
    return Resolution(
        reader, {entry: found for entry, found in matched.items() if found}, tuple(entry for entry, found in matched.items() if not found),
        failing, refused, tuple(m for m in paths if m in hit), tuple(m for m in paths if m not in hit), tuple(_splits(paths, hit, how)))


def _hits(entry: str, candidates: Callable[[str], Sequence[str]], how: Rule, end: float) -> tuple[str, ...]:
    """The modules that an entry matches. Raises TimeoutError at `end`, also where there is no module."""
    if time.thread_time() > end:
        raise TimeoutError
    modules, found = candidates(entry), []
    for start in range(0, len(modules), STRIDE):
        found += [module for module in modules[start : start + STRIDE] if how.matches(entry, module)]
        if time.thread_time() > end:
            raise TimeoutError
    return tuple(found)


def _bounded(what: str, given: Iterable[str], most: int, longest: int) -> list[str]:
    """The values once each, if they are texts of a size that a model can have."""
    values = [given] if isinstance(given, str) else list(given)
    if values == [given] or len(values) > most:
        wrong = f"{shown(given)} is a text, not a list," if values == [given] else f"{len(values)}, more than {most},"
        raise Usage(f"{wrong} for the {what} of a skip list", hint="look at the file that they come from")
    for value in values:
        if not isinstance(value, str) or len(value) > longest:
            wrong = "is no text" if not isinstance(value, str) else f"is longer than {longest} characters"
            raise Usage(f"{shown(value)} among the {what} of a skip list {wrong}", hint="a skip list holds dotted paths or patterns for them")
    return list(dict.fromkeys(values))


def _candidates(entries: list[str], modules: list[str], how: Rule) -> Callable[[str], Sequence[str]]:
    """For an entry the modules that it may match: those with its rarest words in a segment. Long lists would take minutes else.

    A word is a stretch without dots and signs, so the text that matches it lies within one segment of the path; between two dots of a plain
    text it is the whole segment.
    """
    if len(entries) <= 16:
        return lambda entry: modules
    by_segment: dict[str, list[int]] = {}
    by_last: dict[str, list[int]] = {}
    for number, module in enumerate(modules):
        segments = module.split(".")
        by_last.setdefault(segments[-1], []).append(number)
        for segment in set(segments):
            by_segment.setdefault(segment, []).append(number)
    text = "." + ".".join(by_segment) + "."

    @cache
    def holding(word: str) -> list[list[int]]:
        """The numbers of the modules for each segment that holds the word."""
        found, at = [], text.find(word)
        while at >= 0:
            end = text.find(".", at)
            found.append(by_segment[text[text.rfind(".", 0, at) + 1 : end]])
            at = text.find(word, end)
        return found

    def candidates(entry: str) -> Sequence[str]:
        whole, words = _words(entry, how)
        sets = [by_segment.get(word, []) for word in whole]
        if words and not (sets and min(map(len, sets)) < 64):
            word = min(sorted(words, key=len)[-8:], key=lambda word: sum(map(len, holding(word))))
            sets.append([number for found in holding(word) for number in found])
        if not sets:
            return modules
        sets.sort(key=len)
        numbers = set(sets[0]).intersection(*sets[1:3])
        if how.reverse and "experts" in entry:  # a path within the entry has its last segment there too
            numbers.update(number for last, found in by_last.items() if last in entry for number in found)
        return [modules[number] for number in sorted(numbers)]

    return candidates


def _words(entry: str, how: Rule) -> tuple[list[str], list[str]]:
    """Words that must stand in every module that `entry` matches: as whole segments, and within segments. None where that cannot be said simply."""
    text, kind = (entry[3:], "regex") if how.marked and entry.startswith("re:") else (entry, how.kind)
    if kind == "open" or kind == "glob" and "[" in text:
        return [], []
    if kind == "regex":
        return [], required_words(text)
    if kind == "literal" or _NO_GLOB.isdisjoint(text):
        segments = text.split(".")
        return [word for word in segments[1:-1] if word], [word for word in segments if word]
    return [], [word for word in re.split(r"[.*?]", text) if word]


def _splits(modules: list[str], hit: set[str], how: Rule) -> Iterable[Split]:
    if not how.split:
        return
    fused_name = {part: fused for fused, parts in FUSED.items() for part in parts}
    layers: dict[str, list[str]] = {}
    for module in modules:
        parent, _, name = module.rpartition(".")
        # Experts are one layer to the readers, whatever their matrices are called.
        if name in fused_name and "experts" not in parent.split("."):
            layers.setdefault(f"{parent}.{fused_name[name]}".lstrip("."), []).append(module)
    for fused, parts in layers.items():
        skipped = tuple(part for part in parts if part in hit)
        if skipped and len(skipped) < len(parts):
            yield Split(fused, skipped, tuple(part for part in parts if part not in hit), how.split.format(prefix=fused))


def table(entries: Iterable[str], modules: Iterable[str], readers: Iterable[str] = COLUMNS) -> dict[str, dict[str, tuple[str, ...] | str]]:
    """Entry -> reader -> the modules that the entry alone matches, or the error that it raises."""
    listed, paths = list(entries), list(modules)
    return {entry: {reader: _cell(entry, paths, reader) for reader in readers} for entry in listed}


def _cell(entry: str, modules: list[str], reader: str) -> tuple[str, ...] | str:
    found = resolve([entry], modules, reader)
    return found.failing.get(entry) or found.refused.get(entry) or found.matched.get(entry, ())


def markdown(entries: Iterable[str], modules: Iterable[str], readers: Sequence[str] = COLUMNS) -> str:
    """The table as docs/skip-lists.md shows it; `model.layers.0` is written `L0`."""
    rows = table(entries, modules, readers)
    lines = ["| entry | " + " | ".join(readers) + " |", "| --- " * (len(readers) + 1) + "|",
             "| | " + " | ".join(f"*{RULES[reader].way}*" for reader in readers) + " |"]
    for entry, cells in rows.items():
        lines.append(f"| `{entry}` | " + " | ".join(_text(cells[reader]) for reader in readers) + " |")
    return "\n".join(lines) + "\n"


def _text(cell: tuple[str, ...] | str) -> str:
    if isinstance(cell, str):
        return f"**{cell}**"
    return "<br>".join(f"`{re.sub(r'^model[.]layers[.]', 'L', module)}`" for module in cell) or "nothing"
