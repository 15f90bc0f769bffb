"""Errors for people and for scripts: what, where, the numbers that disagree, what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from weighbridge.errors import Problem, WeighbridgeError
from weighbridge.report.visible import visible

MANY, SHOWN = 20, 5
_NUMBER = re.compile(r"\d[\d,.]*")


def text(error: WeighbridgeError) -> str:
    """All problems. More than 20 alike (same code, same words around the numbers) are counted, five of them shown."""
    lines: list[str] = []
    groups = _groups(error.problems)
    if len(error.problems) > 1:
        lines.append(f"{len(error.problems):,} problems:")
    for group in groups:
        shown = group if len(group) <= MANY else group[:SHOWN]
        if len(group) > MANY:
            lines.append(f"{len(group):,} times {group[0].code}, the first {SHOWN}:")
        for number, problem in enumerate(shown):
            last = number == len(shown) - 1 or shown[number + 1].hint != problem.hint
            lines += _problem(problem, with_hint=last)
    return "\n".join(lines)


def document(error: WeighbridgeError) -> dict[str, Any]:
    """`weighbridge.error/1`: the first problem as `error`, all of them as `problems`."""
    problems = [_fields(problem) for problem in error.problems]
    return {"schema": "weighbridge.error/1", "error": problems[0], "problems": problems}


def _fields(problem: Problem) -> dict[str, str]:
    return {"code": problem.code, "message": problem.message, "where": problem.where, "hint": problem.hint}


def _groups(problems: Iterable[Problem]) -> list[list[Problem]]:
    alike: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.code, _NUMBER.sub("#", problem.message)), []).append(problem)
    return list(alike.values())


def _problem(problem: Problem, with_hint: bool) -> list[str]:
    place = f"{visible(problem.where)}: " if problem.where else ""
    lines = [f"error[{problem.code}]: {place}{visible(problem.message)}"]
    if problem.hint and with_hint:
        lines.append(f"  next: {visible(problem.hint)}")
    return lines
