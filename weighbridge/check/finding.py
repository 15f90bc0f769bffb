"""What a rule finds: where, the numbers that disagree, what follows, and the change that mends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a finding. `tensor` and `module` may be folded names (`model.layers.{0-61}.…`), `count` says how many they are."""

    file: str = ""
    tensor: str = ""
    module: str = ""
    key: str = ""
    count: int = 1


class Remove:
    """The value of an edit that takes a key away."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a JSON file of the configuration: the value at `path` becomes `value` (or goes, for `Remove`)."""

    file: str
    path: tuple[str, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class Fix:
    """What mends a finding: a sentence, the exact new value (a list is printed whole), and the edits of `--fix`."""

    text: str
    value: Any = None
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `severity` is error (will fail or compute wrongly), warning (loses accuracy or speed) or note.

    `evidence` holds the numbers that disagree, `consequence` the reader's own error text where there is one. `read_in` is the version of
    the reader in which the rule was read; empty for rules about the files alone.
    """

    code: str
    severity: str
    title: str
    where: Where = field(default_factory=Where)
    evidence: str = ""
    consequence: str = ""
    fix: Fix = field(default_factory=lambda: Fix(""))
    runtime: str | None = None
    read_in: str = ""
