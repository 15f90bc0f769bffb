"""Runs command lines on the demo checkpoint, for pages: what a page shows is what ran. Times, speeds and memory become `…`, so that a page is the same each time."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import tempfile
from pathlib import Path
from typing import Self

# What differs from run to run: the summary line of `convert`, and the median of a speed anywhere.
MEASURED = ((re.compile(r"in [\d.,]+ (?:m?s|min) \([\d.,]+ [kMG]?B/s\), peak memory [\d.,]+ [kMG]?B"), "in … s (… MB/s), peak memory … MB"),
            (re.compile(r"(?<= at )[\d.,]+ tokens/s"), "… tokens/s"))


class Stage:
    """A folder that holds `DEMO`, a link to the demo checkpoint, and is the current one while the stage is open."""

    def __enter__(self) -> Self:
        from weighbridge.cli.demo import CHECKPOINT

        self._held = contextlib.ExitStack()
        folder = self._held.enter_context(tempfile.TemporaryDirectory(prefix="weighbridge-docs-"))
        self._held.enter_context(contextlib.chdir(folder))
        self._plain = {name: os.environ.pop(name, None) for name in ("WEIGHBRIDGE_DEBUG", "FORCE_COLOR", "WEIGHBRIDGE_MEMORY")}
        Path("DEMO").symlink_to(CHECKPOINT)
        return self

    def __exit__(self, *raised: object) -> None:
        os.environ.update({name: value for name, value in self._plain.items() if value is not None})
        self._held.close()

    def run(self, command: str, code: int = 0) -> str:
        """What `weighbridge …` puts on stdout. Raises RuntimeError where the exit code is not `code`."""
        from weighbridge.cli import main

        words = shlex.split(command)
        if words[0] != "weighbridge":
            raise ValueError(f"{command!r} is no command of this tool")
        out, talk = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(talk):
            ended = main(words[1:])
        if ended != code:
            raise RuntimeError(f"{command} ended with {ended}, not {code}: {talk.getvalue()[-800:]}")
        return normal(out.getvalue() or talk.getvalue() * (code == 2))

    def fence(self, command: str, code: int = 0, most: int = 0) -> str:
        """The command and its output as a fenced block, with an exit code that is not 0; after `most` lines (0: all) the rest is `…`."""
        lines = self.run(command, code).strip("\n").splitlines()
        if most and len(lines) > most:
            lines = [*lines[:most], "…"]
        return "\n".join(["```text", f"$ {command}" + (f"   # exit {code}" if code else ""), *([""] if lines else []), *lines, "```"])


def normal(text: str) -> str:
    """`text` without what is measured anew each time, and without blanks at the ends of lines."""
    for pattern, instead in MEASURED:
        text = pattern.sub(instead, text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
