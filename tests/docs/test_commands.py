"""Commands that README.md and docs/ show are run, and the output that is shown is the output that is printed.

A command whose files are here (DEMO, files that the page gives, what an earlier command of the page wrote, and MiniMax-M2, which is the full-size
replica) runs; one about a file that is not here (SRC) is only parsed: its verb and all its flags must exist and take the values.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from importlib import import_module
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from tests.docs import commands
from weighbridge import cli
from weighbridge.cli.demo import CHECKPOINT
from weighbridge.testing.replica import write_replica

ROOT = Path(__file__).resolve().parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}
WALK = "docs/demo.md"  # one command prints all of it
MADE = "<!-- Made by docs/"  # test_pages.py makes these pages again, which runs their commands: here they are only parsed
READS = ("config", "prompts", "names", "apply")  # flags whose file must be here for a command to run
SOURCES = {"verify": 2, "compare": 2}  # operands that are read; of other verbs it is the first


def has_commands(path: Path) -> bool:
    """Whether there is anything to try on this page."""
    text = path.read_text(encoding="utf-8")
    return bool(commands.of_page(text) or list(commands.inline(text)))


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names, shapes and scales of the whole MiniMax-M2, in sparse files."""
    return write_replica(tmp_path_factory.mktemp("replica") / "MiniMax-M2")


@pytest.mark.parametrize("name", [name for name, path in PAGES.items() if name != WALK and has_commands(path)])
def test_page(name: str, replica: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path, monkeypatch)
    (tmp_path / "MiniMax-M2").symlink_to(replica)
    text, wrong = PAGES[name].read_text(encoding="utf-8"), []
    for file, content in commands.files(text).items():
        Path(file).write_text(content, encoding="utf-8")
    for command in commands.of_page(text):
        fault = ran(command) if runs(command) and not text.startswith(MADE) else parsed(command)
        wrong += [f"{name}:{command.line}: {command}\n  {fault}"] if fault else []
    for command in commands.inline(text):
        fault = parsed(command)
        wrong += [f"{name}:{command.line}: {command}\n  {fault}"] if fault else []
    assert not wrong, "\n".join(["", *wrong])


def test_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path, monkeypatch)
    (_, _, lines), = commands.fences(PAGES[WALK].read_text(encoding="utf-8"))
    code, printed, said = run(["demo"])
    assert code == 0, said
    assert commands.difference(lines, printed, loose=True) == ""


def stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with `DEMO`, as the pages have it."""
    (folder / "DEMO").symlink_to(CHECKPOINT)
    monkeypatch.chdir(folder)
    for variable in ("WEIGHBRIDGE_DEBUG", "WEIGHBRIDGE_MEMORY", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)


def runs(command: commands.Command) -> bool:
    """Whether all that the command reads is here."""
    verb, bound = command.words[0], parse(command.words)
    if verb == "demo" or bound is None:
        return False  # test_walk runs the demo
    operands, named = bound.args, bound.kwargs
    if verb == "explain" and len([given for given in operands if given is not None]) == 1:
        return True  # a word reads no checkpoint
    return all(Path(path).exists() for path in [*operands[:SOURCES.get(verb, 1)], *(named[flag] for flag in READS if named.get(flag))])


def run(words: list[str]) -> tuple[int, list[str], str]:
    """(exit code, lines of the document, what was said on stderr). The words of a refusal are what a reader of the page sees."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        code = cli.main(words)
    return code, (out.getvalue() or said.getvalue() * (code == cli.USAGE)).splitlines(), said.getvalue()


def ran(command: commands.Command) -> str:
    """"" where the command ends and prints as shown, else the difference."""
    code, printed, said = run(list(command.words))
    expected = codes(command)
    if code not in expected:
        return f"ended with {code}, not {' or '.join(map(str, sorted(expected)))}: {said.strip()}"
    return commands.difference(list(command.shown), printed, loose=command.words[0] == "compare") if command.shown else ""


def codes(command: commands.Command) -> set[int]:
    """The exit codes that fit what the page shows: a refusal ends with 2, errors of `check` with 1, unequal weights or runs with 3."""
    verb, shown = command.words[0], command.shown or ()
    if any(line.startswith("error[") for line in shown):
        return {cli.USAGE}
    if verb == "check":
        return {int(any(line.startswith("error WB") for line in shown))} if shown else {0, 1}
    if verb in ("verify", "compare") and shown:
        return {0 if any(line.startswith("OK: ") for line in shown) else 3}
    return {3} if "exit 3" in command.comment else {0}


def parsed(command: commands.Command) -> str:
    """"" where the verb is here and takes these flags, else what the parser says."""
    if command.words[0] not in cli.VERBS:
        return f"no verb {command.words[0]}"
    if len(command.words) > 1 and command.words[1].startswith("--"):  # `weighbridge check --device-memory` in a sentence: a flag, not a command
        flags = inspect.signature(getattr(import_module(f"weighbridge.cli.{command.words[0]}"), command.words[0])).parameters
        return ", ".join(f"no flag {word}" for word in command.words[1:] if word.startswith("--") and word[2:].replace("-", "_") not in flags)
    try:
        parse(command.words, strict=True)
    except CycloptsError as error:
        return " ".join(str(error).split())
    return ""


def parse(words: tuple[str, ...], strict: bool = False) -> inspect.BoundArguments | None:
    """The words as the verb's arguments; None (`strict`: CycloptsError) where they are none."""
    plain = [re.sub(r"^[A-Z]$", "1", word) if before.startswith("--") else word for before, word in zip(("", *words), words, strict=False)]  # `--tp N`
    try:
        return cli.app().parse_args(cli._defaults(plain), exit_on_error=False, print_error=False)[1]
    except CycloptsError:
        if strict:
            raise
        return None
