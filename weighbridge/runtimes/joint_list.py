"""One skip list that several readers read right: entries that no reader takes for a quantized module, as few as name the others."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from weighbridge.runtimes import skip
from weighbridge.runtimes.list_questions import ListReader, Question
from weighbridge.runtimes.skiplist import whole_entries, word_entries

Atom = tuple[int, int]  # (number of the reader, number of its question)


class Effect(NamedTuple):
    """What each entry does to all readers: the questions that it answers with "leave out". `failing` entries stop a reader's load.

    `parts` are the parts of joined layers that it names one by one, with the number of the reader that looks at parts.
    """

    hits: dict[str, set[Atom]]
    failing: set[str]
    parts: dict[str, set[tuple[int, str]]]


def joint_list(readers: Sequence[ListReader], first: Iterable[str] = (), *, containers: bool = True, unneeded: bool = True) -> list[str]:
    """The list; `first` are entries to prefer, as the makers write them. What no safe entry can name stays out: `wrong_answers` tells of it.

    Without `containers` no entry names all that stands below a module: norms stand there, too, and a list of what *is* quantized must not name them.
    With `unneeded` it also names what no reader would quantize, where that takes one entry: people look for routers and heads in a list.
    """
    wanted = {(i, j) for i, reader in enumerate(readers) for j, q in enumerate(reader.questions) if q.wanted}
    forbidden = {(i, j) for i, reader in enumerate(readers) for j, q in enumerate(reader.questions) if q.wanted is False}
    chosen: list[str] = []
    effect: dict[str, set[Atom]] = {}
    left = wanted
    for make, given in ((_folded, tuple(first)), (_single, ()), (_strict, ())):
        entries = [entry for entry in dict.fromkeys([*given, *_entries(readers, left, make)])
                   if entry not in effect and (containers or not entry.endswith("*"))]
        more = _whole_layers(readers, effects(readers, entries), forbidden) if entries else {}
        chosen += _cover(more, left)
        effect |= more
        left = left.difference(*(effect[entry] for entry in chosen))
    chosen = _without_idle(chosen, effect, wanted)
    return sorted(chosen + (_unneeded(readers, chosen, forbidden) if unneeded else []), key=_natural)


def effects(readers: Sequence[ListReader], entries: Sequence[str]) -> Effect:
    """What each entry does alone."""
    hits: dict[str, set[Atom]] = {entry: set() for entry in entries}
    failing: set[str] = set()
    single: dict[str, set[tuple[int, str]]] = {entry: set() for entry in entries}
    for number, reader in enumerate(readers):
        by_path = _by_path(reader)
        for entry, (named, parts, fails) in _named(reader, entries).items():
            if fails:
                failing.add(entry)
            near = {j for p in named | parts for j in by_path.get(p, ())}
            hits[entry] |= {(number, j) for j in near if _hit(reader.questions[j], named, parts)}
            single[entry] |= {(number, p) for p in parts}
    return Effect(hits, failing, single)


def _named(reader: ListReader, entries: Sequence[str]) -> dict[str, tuple[set[str], set[str], bool]]:
    """For each entry the paths that it names, the parts of fused layers that it names as parts, and whether the reader fails on it."""
    texts = {entry: reader.spelled(entry) for entry in entries}
    flat = list(dict.fromkeys(t for each in texts.values() for t in each))
    part = skip.RULES[reader.rule].part
    paths = dict.fromkeys(p for q in reader.questions for p in ((q.fused,) if q.fused else q.paths))
    parts = dict.fromkeys(p for q in reader.questions if q.fused for p in q.paths)
    found = skip.resolve(flat, paths, reader.rule) if flat and paths else skip.Resolution(reader.rule)
    alone = skip.resolve(flat, parts, part) if flat and parts and part else skip.Resolution(part)
    return {entry: ({p for t in each for p in found.matched.get(t, ())}, {p for t in each for p in alone.matched.get(t, ())},
                    any(t in found.failing or t in found.refused for t in each)) for entry, each in texts.items()}


def _by_path(reader: ListReader) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for j, question in enumerate(reader.questions):
        for path in {*question.paths, question.fused}:
            found.setdefault(path, []).append(j)
    return found


def _hit(question: Question, named: set[str], parts: set[str]) -> bool:
    """An unquantized module needs all of its paths named; a quantized one must have none."""
    paths = question.paths
    if question.fused:
        return question.fused in named or all(p in parts for p in paths)
    return any(p in named for p in paths) if question.wanted is False else all(p in named for p in paths)


def wrong_answers(reader: ListReader, entries: Sequence[str]) -> list[Question]:
    """Questions that the reader answers wrong with this list. An entry that it fails on makes all of them wrong."""
    each = _named(reader, entries)
    if any(fails for _, _, fails in each.values()):
        return [q for q in reader.questions if q.wanted is not None]
    named = set().union(*(n for n, _, _ in each.values()))
    parts = set().union(*(p for _, p, _ in each.values()))
    half = _half_named(reader, parts)
    return [q for q in reader.questions if q.wanted is not None and (_hit(q, named, parts) != q.wanted or q.fused in half)]


def _half_named(reader: ListReader, named: set[str]) -> set[str]:
    """Fused layers of which the list names some parts one by one and others not: the reader raises before it looks at the layer."""
    return {fused for fused, parts in _groups(reader).items() if parts & named and not parts <= named}


def _safe(effect: Effect, forbidden: set[Atom]) -> dict[str, set[Atom]]:
    return {entry: atoms for entry, atoms in effect.hits.items() if entry not in effect.failing and atoms.isdisjoint(forbidden)}


def _whole_layers(readers: Sequence[ListReader], effect: Effect, forbidden: set[Atom]) -> dict[str, set[Atom]]:
    """Safe entries; of those that name parts of a joined layer one by one only where all its parts can be named so.

    Readers raise an error where some are named and others are not.
    """
    safe = _safe(effect, forbidden)
    named = {part for entry in safe for part in effect.parts[entry]}
    broken: set[tuple[int, str]] = set()
    for number, reader in enumerate(readers):
        for group in _groups(reader).values():
            parts = {(number, path) for path in group}
            if parts & named and not parts <= named:
                broken |= parts
    return {entry: atoms for entry, atoms in safe.items() if broken.isdisjoint(effect.parts[entry])}


def _groups(reader: ListReader) -> dict[str, set[str]]:
    """Joined layer -> the paths of its parts, where the reader looks at both."""
    groups: dict[str, set[str]] = {}
    for question in reader.questions:
        if question.fused:
            groups.setdefault(question.fused, set()).update(question.paths)
    return groups


def _cover(effect: dict[str, set[Atom]], wanted: set[Atom]) -> list[str]:
    """Greedy: always the entry that names most of what is left; of equal ones the first.

    What an entry gains only shrinks, so most are looked at once.
    """
    left, chosen = set(wanted), []
    queue = [(-len(atoms & left), order, entry) for order, (entry, atoms) in enumerate(effect.items())]
    heapq.heapify(queue)
    while left and queue:
        gain, order, entry = heapq.heappop(queue)
        now = -len(effect[entry] & left)
        if not now:
            continue
        if now > gain:  # it has shrunk since it was put there
            heapq.heappush(queue, (now, order, entry))
            continue
        chosen.append(entry)
        left -= effect[entry]
    return chosen


def _without_idle(chosen: list[str], effect: dict[str, set[Atom]], wanted: set[Atom]) -> list[str]:
    """Without entries whose work the others do, too: first those that were chosen first, since readers with exact names come last."""
    count = Counter(atom for entry in chosen for atom in effect[entry] & wanted)
    kept = []
    for entry in chosen:
        mine = effect[entry] & wanted
        if all(count[atom] > 1 for atom in mine):
            count.subtract(mine)
        else:
            kept.append(entry)
    return kept


def _unneeded(readers: Sequence[ListReader], chosen: list[str], forbidden: set[Atom]) -> list[str]:
    """Entries for what no reader would quantize, one for all layers as at least one reader spells them."""
    open_atoms = {(i, j) for i, reader in enumerate(readers) for j, q in enumerate(reader.questions) if q.unit.plain and q.wanted is None}
    done = set().union(*effects(readers, chosen).hits.values()) if chosen else set()
    units = {id(readers[i].questions[j].unit) for i, j in done}
    open_atoms = {(i, j) for i, j in open_atoms if id(readers[i].questions[j].unit) not in units}
    kinds: dict[str, set[Atom]] = {}
    for i, j in open_atoms:
        question = readers[i].questions[j]
        kinds.setdefault(re.sub(r"\d+", "#", question.unit.stem), set()).add((i, j))
    more: list[str] = []
    for atoms in kinds.values():
        effect = _safe(effects(readers, list(dict.fromkeys(_entries(readers, atoms, _folded)))), forbidden)
        by_reader = [{atom for atom in atoms if atom[0] == i} for i in range(len(readers))]
        most = [entry for entry, hit in effect.items() if any(mine and mine <= hit for mine in by_reader)]
        if most:
            more.append(max(most, key=lambda entry: len(effect[entry] & atoms)))
    return list(dict.fromkeys(more))


def _entries(readers: Sequence[ListReader], atoms: set[Atom], make: Callable[[str, str, str, bool], Iterator[str]]) -> Iterator[str]:
    for i, j in sorted(atoms):
        question = readers[i].questions[j]
        for path in question.paths:
            yield from make(readers[i].grammar, path, question.fused, question.unit.expert)


def _folded(rule: str, path: str, fused: str, expert: bool) -> Iterator[str]:
    """Entries without a number of a layer, but for paths that have none: they name all layers at once."""
    stem = path.partition(".experts")[0] + ".experts" if expert else path
    if "." not in path:
        yield from whole_entries(rule, path)
    heads = [p for p in _heads(path) if not re.search(r"\d", p) and p not in ("model", "model.layers")]
    if rule == "compressed-tensors":
        yield from (f"re:{re.escape(p)}\\..*" for p in heads)
    elif rule == "gptq-dynamic":
        yield from (f"{re.escape(p)}\\..*" for p in heads)
    elif rule in ("tensorrt-llm", "vllm-modelopt", "sglang-modelopt"):
        yield from (f"{p}.*" for p in heads)
    for text in dict.fromkeys((stem, fused, path)):
        vague = _vague(text)
        yield from (e for e in word_entries(rule, text) if text and e not in vague and not re.search(r"\d", e.replace(r"\d", "")))
    if not re.search(r"\.\d+(\.|$)", path):
        yield from whole_entries(rule, path)
    if expert:
        last = re.escape(".".join(stem.split(".")[-2:]))
        yield from {"compressed-tensors": [f"re:.*{last}.*"], "gptq-dynamic": [f".*{last}.*"]}.get(rule, [])


def _vague(path: str) -> set[str]:
    """Entries of the last word alone, where a word stands before it: `gate` says less than `mlp.gate`, and may mean more than was looked at."""
    words = path.split(".")
    leaf = re.escape(words[-1])
    return {words[-1], f"*.{words[-1]}", f"re:.*{leaf}$", f".*{leaf}$"} if len(words) > 1 and not words[-2].isdigit() else set()


def _single(rule: str, path: str, fused: str, expert: bool) -> Iterator[str]:
    """Entries for this module, or for its layer."""
    stem = path.partition(".experts")[0] + ".experts" if expert else path
    yield from (e for e in word_entries(rule, stem) if re.search(r"\d", e.replace(r"\d", "")))
    yield whole_entries(rule, path)[0]
    if rule == "compressed-tensors" and expert:
        yield f"re:{re.escape(stem)}.*"
        yield f"re:{re.escape(stem)}\\.\\d+\\.{re.escape(path.rpartition('.')[2])}$"
    elif rule in ("tensorrt-llm", "vllm-modelopt", "sglang-modelopt"):
        yield from (f"{p}.*" for p in _heads(path))
        yield from (text for name in (path, fused) if name for text in (name, name + "*"))
    elif rule == "gptq-dynamic" and expert:
        yield f"{re.escape(stem)}.*"


def _strict(rule: str, path: str, fused: str, expert: bool) -> Iterator[str]:
    """Entries that can mean nothing else, for what plain words could not name."""
    yield from whole_entries(rule, path)[1:]


def _heads(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:n]) for n in range(1, len(words))]


def _natural(entry: str) -> list[tuple[int, int | str]]:
    return [(0, int(p)) if p.isdigit() else (1, p) for p in re.split(r"(\d+)", entry) if p]
