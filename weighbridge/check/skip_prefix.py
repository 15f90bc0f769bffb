"""Entries that match nothing, and would match plain modules if a renamed prefix were spelled as the reader spells it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from weighbridge.check.views import View
from weighbridge.runtimes import EntryFails, EntryRefused, skip

_PATH = re.compile(r"[\w.]+")
MOST = 2000  # entries that are tried
# Pairs that readers exchange, each tried both ways.
PAIRS = (("model.language_model.", "model."), ("language_model.model.", "model."), ("model.language_model.", "language_model.model."),
         ("model.visual.", "visual."), ("model.vision_tower.", "vision_tower."), ("language_model.", ""), ("model.", ""),
         (".block_sparse_moe.", ".mlp."),
         (".conv.", ".short_conv."), ("visual.", "visual.vision_model."), ("thinker.", ""))


def other_prefix(view: View) -> dict[str, tuple[str, ...]]:
    """Entry -> paths of plain modules that it would name with another prefix, of those that nothing names now."""
    open_ = [b for b in view.built if b.candidate is not False and not b.draft and not b.coded and not b.skipped]
    paths = {path: b.path for b in open_ for path in b.asked}
    found: dict[str, tuple[str, ...]] = {}
    if not paths or not view.reader:
        return found
    matches = skip.RULES[view.reader].matches
    for entry in view.entries[:MOST]:
        if not entry.strip() or view.hits(entry) or view.failure(entry) or view.refusal(entry):
            continue
        for text in dict.fromkeys(_variants(entry)):
            try:
                hit = tuple(dict.fromkeys(paths[path] for path in paths if matches(text, path)))
            except (EntryFails, EntryRefused):
                continue
            if hit:
                found[entry] = hit
                break
        else:
            kin = _same_place(entry, paths)
            if kin and not any(entry == u.path for b in view.built for u in b.units):
                found[entry] = tuple(paths[path] for path in kin)
    return found


def _same_place(entry: str, paths: dict[str, str]) -> list[str]:
    """Paths with the same layer, last word and length as a whole path that names nothing: what other library versions call it."""
    words = entry.split(".")
    number = next((i for i, word in enumerate(words) if word.isdigit()), -1)
    if number < 0 or not _PATH.fullmatch(entry):
        return []
    found = []
    for path in paths:
        other = path.split(".")
        if len(other) == len(words) and other[-1] == words[-1] and other[: number + 1] == words[: number + 1]:
            # One word differs, and only a little: shared_expert, shared_experts.
            odd = [(a, b) for a, b in zip(words, other, strict=True) if a != b]
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
