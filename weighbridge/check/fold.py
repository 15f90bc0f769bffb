"""Many names as one: `model.layers.{0-61}.mlp.experts.{0-255}.w1`, never 15,872 lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from weighbridge.errors import Problem

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def fold(names: Iterable[str]) -> list[tuple[str, int]]:
    """(folded name, how many it stands for), in the order in which the patterns are met.

    Numbers between dots are folded where the names of a pattern fill the product of their sets of numbers; else only the first
    number (the layer) stays apart from the rest, and the name says `…`.
    """
    groups: dict[str, list[tuple[str, ...]]] = {}
    for name in names:
        groups.setdefault(_NUMBER.sub("#", name), []).append(tuple(_NUMBER.findall(name)))
    return [(_filled(pattern, numbers), len(numbers)) for pattern, numbers in groups.items()]


def alike(problems: Iterable[Problem], most: int = 20) -> Iterator[tuple[Problem, int]]:
    """Each problem alone, as (problem, 1); of more than `most` of one code in one file the first, and how many they are."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.code, problem.where.partition(": ")[0] if ": " in problem.where else ""), []).append(problem)
    for group in groups.values():
        yield from [(group[0], len(group))] if len(group) > most else [(problem, 1) for problem in group]


def folded(names: Iterable[str], most: int = 4) -> str:
    """The folded names as one text, at most `most` patterns of them."""
    patterns = [text for text, _ in fold(names)]
    more = f" and {len(patterns) - most:,} more patterns" if len(patterns) > most else ""
    return ", ".join(patterns[:most]) + more


def _filled(pattern: str, numbers: list[tuple[str, ...]]) -> str:
    columns = [sorted({int(n) for n in column}) for column in zip(*numbers, strict=True)]
    size = 1
    for column in columns:
        size *= len(column)
    exact = size == len(set(numbers))
    for column in columns:
        text = str(column[0]) if len(column) == 1 else "{" + ranges(column) + "}"
        pattern = pattern.replace("#", text, 1)
    return pattern if exact else pattern + " (some)"


def ranges(values: list[int]) -> str:
    """Sorted whole numbers as `0-3,7`."""
    out: list[str] = []
    start = before = values[0]
    for value in [*values[1:], None]:
        if value is not None and value == before + 1:
            before = value
            continue
        out.append(str(start) if start == before else f"{start}-{before}")
        if value is not None:
            start = before = value
    return ",".join(out)
