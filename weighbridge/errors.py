"""One exception root. Every message has four parts: what, where, the numbers that disagree, what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding that stops a job.

    `code` is a stable kebab-case word (what `--allow` takes), `message` says what is wrong and
    holds the numbers that disagree, `where` names file, tensor and axis, `hint` the next step.
    """

    code: str
    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.message}"


FEW, NAMED = 8, 3  # problems that stand for themselves; places that a problem of more names


def folded(problems: Iterable[Problem]) -> list[Problem]:
    """The same problems, those that differ in their place alone as one with their number: 43,852 weights with one fault are one sentence."""
    alike: dict[Problem, list[str]] = {}
    for problem in problems:
        alike.setdefault(replace(problem, where=""), []).append(problem.where)
    found = []
    for problem, places in alike.items():
        places = list(dict.fromkeys(places))
        if len(places) <= FEW:
            found += [replace(problem, where=where) for where in places]
        else:
            where = f"{'; '.join(places[:NAMED])} and {len(places) - NAMED:,} more"
            found.append(replace(problem, where=where, message=f"{len(places):,} of one kind, each: {problem.message}"))
    return found


SHOWN = 200  # characters of one value from a file in a message


def brief(value: object, most: int = SHOWN) -> str:
    """A value from a file for a message or a text: its start and its length where it is long. A text stands as it is, anything else as Python writes it."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def utf8(path: str) -> str:
    """A path for a file that others read as UTF-8: bytes that are none are written `\\xff`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class WeighbridgeError(Exception):
    """Root of all errors that a user can cause. `exit_code` is what the command line returns."""

    exit_code = 2

    def __init__(self, code: str, message: str, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.problems: tuple[Problem, ...] = (Problem(code, message, where, hint),)

    @property
    def first(self) -> Problem:
        return self.problems[0]

    def __str__(self) -> str:
        return "\n".join(str(p) for p in self.problems)


class Refused(WeighbridgeError):
    """The job did not start (or did not finish) for one or more stated reasons."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        listed = tuple(problems)
        first = listed[0]
        super().__init__(first.code, first.message, first.where, first.hint)
        self.problems = listed


class Usage(WeighbridgeError):
    """An option or an argument cannot be read as given."""

    def __init__(self, message: str, where: str = "", hint: str = "") -> None:
        super().__init__("usage", message, where, hint)
