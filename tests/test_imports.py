"""Imports go one way down the house, and the hot verbs load nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weighbridge.testing.replica import write_replica

ROOT = Path(__file__).resolve().parent.parent / "weighbridge"
HOUSE = ("version", "errors", "collector", "cachefolder", "checkpoint", "encoding", "formats", "models", "runtimes", "readers", "inspection", "layouts", "plan", "convert", "verify", "torch_view", "check", "drawing", "lessons",
         "engine", "overview", "report", "cli")
FREE = {"api", "testing", "__init__", "__main__", "demo"}
HEAVY = {"numpy", "numba", "torch", "ml_dtypes"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything imported anywhere in a file, inside functions too."""
    package = ["weighbridge", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def part(name: str) -> str:
    words = name.split(".")
    return words[1] if words[0] == "weighbridge" and len(words) > 1 else ""


def files() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).parts[0].removesuffix(".py"), path


def test_imports_go_down() -> None:
    wrong = []
    for own, path in files():
        if own in FREE:
            continue
        assert own in HOUSE, f"{path}: not in the house"
        for line, name in imports(path):
            other = part(name)
            if other in HOUSE and HOUSE.index(other) > HOUSE.index(own):
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {own} imports {name}, which is above it")
    assert not wrong, "\n".join(wrong)


def test_only_the_cli_imports_the_report() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{line}" for own, path in files() if own not in ("cli", "report", "demo")
             for line, name in imports(path) if part(name) == "report"]
    assert not wrong, wrong


def test_nothing_imports_testing() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{line}" for own, path in files() if own not in ("testing", "demo")
             for line, name in imports(path) if part(name) == "testing"]
    assert not wrong, wrong


def test_only_the_sink_prints() -> None:
    wrong = []
    for own, path in files():
        if own in FREE or path == ROOT / "report" / "sink.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong, wrong


@pytest.mark.parametrize("code", [
    "import weighbridge", "from weighbridge.cli import main; main(['--help'])", "from weighbridge.cli import main; main(['inspect', '--help'])",
    "from weighbridge.cli import main; assert main(['inspect', sys.argv[1]]) == 0; assert 'cyclopts' not in sys.modules; assert 'rich' not in sys.modules",
    "from weighbridge.cli import main; assert main(['inspect', sys.argv[1], '--format', 'json']) == 0",
])
def test_nothing_heavy_is_loaded(code: str, tmp_path: Path) -> None:
    replica = write_replica(tmp_path / "r", layers=1, experts=1, vocab=128, scales="zero")
    code = f"import sys; {code}; print('loaded:', *sorted({{m.partition('.')[0] for m in sys.modules}} & {HEAVY!r}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, str(replica)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "loaded:"), done.stderr
