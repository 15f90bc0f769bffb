"""Entries that match nothing, and would match plain modules if a renamed prefix were spelled as the reader spells it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from weighbridge.check.views import View
from weighbridge.runtimes import LONGEST_ENTRY, Patience, skip

_PATH = re.compile(r"[\w.]+")
MOST = 2000  # entries that are tried
# Pairs that readers exchange, each tried both ways.
PAIRS = (("model.language_model.", "model."), ("language_model.model.", "model."), ("model.language_model.", "language_model.model."),
         ("model.visual.", "visual."), ("model.vision_tower.", "vision_tower."), ("language_model.", ""), ("model.", ""),
         (".block_sparse_moe.", ".mlp."),
         (".conv.", ".short_conv."), ("visual.", "visual.vision_model."), ("thinker.", ""))


def other_prefix(view: View, patience: Patience) -> dict[str, tuple[str, ...]]:
    """Entry -> paths of plain modules that it would name with another prefix, of those that nothing names now.

    A help for entries that match nothing, which WB309 names in any case: no entry is tried when the time is up.
    """
    if view.renamed is None:
        view.renamed = _other_prefix(view, patience)
    return view.renamed


def _other_prefix(view: View, patience: Patience) -> dict[str, tuple[str, ...]]:
    open_ = [b for b in view.built if b.candidate is not False and not b.draft and not b.coded and not b.skipped]
    paths = {path: b.path for b in open_ for path in b.asked}
    found: dict[str, tuple[str, ...]] = {}
    if not paths or not view.reader:
        return found
    tried = [entry for entry in view.entries[:MOST] if entry.strip() and not view.hits(entry) and not view.failure(entry) and not view.refusal(entry)]
    variants = {entry: list(dict.fromkeys(_variants(entry))) for entry in tried}
    matched = skip.resolve([v for each in variants.values() for v in each if len(v) <= LONGEST_ENTRY][: skip.MOST_ENTRIES], paths, view.reader, patience).matched
    stored, places = {u.path for b in view.built for u in b.units}, _places(paths)
    for entry in tried:
        hit = next((matched[text] for text in variants[entry] if text in matched), ())
        kin = hit or (() if entry in stored else _same_place(entry, places))
        if kin:
            found[entry] = tuple(dict.fromkeys(paths[path] for path in kin))
    return found


def _places(paths: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    """Paths by their words up to the first number (the layer), their last word and their length."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        found.setdefault(_place(path.split(".")), []).append(path)
    return found


def _place(words: list[str]) -> tuple[str, ...]:
    number = next((i for i, word in enumerate(words) if word.isdigit()), -1)
    return (*words[: number + 1], words[-1], str(len(words))) if number >= 0 else ()


def _same_place(entry: str, places: dict[tuple[str, ...], list[str]]) -> list[str]:
    """Paths with the same layer, last word and length as a whole path that names nothing: what other library versions call it."""
    words = entry.split(".")
    place = _place(words)
    if not place or not _PATH.fullmatch(entry):
        return []
    found = []
    for path in places.get(place, ()):
        # One word differs, and only a little: shared_expert, shared_experts.
        odd = [(a, b) for a, b in zip(words, path.split("."), strict=True) if a != b]
        if len(odd) == 1 and (odd[0][0] in odd[0][1] or odd[0][1] in odd[0][0]):
            found.append(path)
    return found


def _variants(entry: str) -> Iterator[str]:
    mark, body = ("re:", entry[3:]) if entry.startswith("re:") else ("", entry)
    lead, body = ("^", body[1:]) if body.startswith("^") else ("", body)
    for pair in PAIRS:
        for old, new in (pair, pair[::-1]):
            for quote in (str, re.escape):
                a, b = quote(old), quote(new)
                if a.startswith((".", "\\.")):
                    if a in body:
                        yield mark + lead + body.replace(a, b, 1)
                elif body.startswith(a) if a else not body.startswith((".", "*", "\\")):
                    yield mark + lead + b + body[len(a):]
                    if old and body == old.rstrip("."):
                        yield mark + lead + new.rstrip(".")
