"""What a rule is, and where all of them are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from weighbridge.check.finding import Finding, Fix, Where
from weighbridge.errors import Usage

RUNTIMES = ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm", "llama.cpp")
GROUPS = {"1": "files", "2": "claim", "3": "skip lists", "4": "scales", "5": "parallel layout", "6": "number formats", "7": "NxD Inference", "8": "memory"}
SECTIONS = ("What it does", "Why it matters", "Example", "How to mend", "References")
FILE = re.compile(r"^wb(\d)(\d\d)_\w+\.py$")


@dataclass(frozen=True)
class Rule:
    """`code` (WB101) and `name` (kebab-case) are stable. `severity` is the usual one; a finding may have another.

    Without `runtimes` the rule looks at the checkpoint alone: `find(case)`. With them it runs once for each of these that the user
    named: `find(case, target)`. `read_in` says, for each runtime, the version of its code in which the rule was read.
    """

    code: str
    name: str
    severity: str
    runtimes: tuple[str, ...] = ()
    read_in: dict[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        return GROUPS[self.code[2]]

    def finding(self, title: str, where: Where | None = None, *, evidence: str = "", consequence: str = "", fix: Fix | str = "",
                severity: str = "", runtime: str | None = None) -> Finding:
        """A finding of this rule. `title` is one sentence; a `fix` that is only a sentence may be given as text."""
        return Finding(self.code, severity or self.severity, title, where or Where(), evidence, consequence,
                       Fix(fix) if isinstance(fix, str) else fix, runtime, self.read_in.get(runtime or "", ""))


@dataclass(frozen=True)
class Loaded:
    """A rule with its function and its page."""

    rule: Rule
    find: Callable[..., Iterable[Finding]]
    page: str


@cache
def rules() -> dict[str, Loaded]:
    """Every rule by code. The folder is the list: a new file is a new rule."""
    found = {}
    for path in sorted((Path(__file__).parent / "rules").glob("wb*.py")):
        module: Any = import_module(f"weighbridge.check.rules.{path.stem}")
        found[module.RULE.code] = Loaded(module.RULE, module.find, module.__doc__ or "")
    return found


def chosen(select: Iterable[str], ignore: Iterable[str]) -> list[Loaded]:
    """Rules whose code begins with a selected prefix (all, if none is given) and with no ignored one. `WB3` is the group, `WB301` one rule."""
    every, picked, left = rules(), list(select), list(ignore)
    for prefix in picked + left:
        if not any(code.startswith(prefix) for code in every):
            raise Usage(f"no rule has a code that begins with {prefix!r:.60}", "--select, --ignore", "weighbridge explain rules lists them all")
    return [loaded for code, loaded in every.items()
            if (not picked or code.startswith(tuple(picked))) and not (left and code.startswith(tuple(left)))]
