"""One home for each kind of knowledge: no circle of imports, no two classes of one name, and formats asked instead of known again."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from weighbridge.checkpoint.dtypes import BITS
from weighbridge.formats.match import roles
from weighbridge.formats.schemes import SCHEMES

ROOT = Path(__file__).resolve().parent.parent / "weighbridge"
FILES = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}
NODES = {path: list(ast.walk(tree)) for path, tree in FILES.items()}
HOMES = ("formats", "layouts", "encoding", "checkpoint", "testing", "demo")  # where formats may be known, and what lies below them

# What is still known elsewhere. These numbers may only fall: whoever asks `formats` instead lowers them.
DTYPE_COMPARISONS = 53
SUFFIXES = 119
METHODS = 255
# Kernels are compiled at the first call, by a module that asks for the family; captures of other tools are opened as the tool's own. Both import within a
# function. The set may only become smaller.
CIRCLES: set[frozenset[str]] = {frozenset({"weighbridge.encoding.kernels", "weighbridge.encoding.kernels.memory"}),
                                frozenset({"weighbridge.engine.capture", "weighbridge.engine.foreign"})}
# Names that two classes have. The list may only become shorter.
TWICE = {"Bound", "Candidate", "Choice", "Entry", "Facts", "Folder", "Form", "Grid", "Manifest", "Memory", "Model", "Part", "Piece", "Place",
         "Report", "Row", "Rule", "Settings", "Sizes", "Source", "Step", "Store", "Stored", "Target", "Weights"}


def module_name(path: Path) -> str:
    parts = ("weighbridge", *path.with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def typing_only(path: Path) -> set[ast.AST]:
    """Nodes under `if TYPE_CHECKING`: they import nothing when the program runs."""
    blocks = [n for n in NODES[path] if isinstance(n, ast.If) and isinstance(n.test, ast.Name) and n.test.id == "TYPE_CHECKING"]
    return {inner for block in blocks for statement in block.body for inner in ast.walk(statement)}


def imported(name: str) -> set[str]:
    """Modules of the package that a file imports, inside functions too."""
    path, found = MODULES[name], set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    skipped = typing_only(path)
    for node in NODES[path]:
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*(package[: len(package) - node.level + 1] if node.level else ()), *([node.module] if node.module else ())])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return (found & MODULES.keys()) - {name}


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Groups of modules each of which reaches all others of its group (Tarjan)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = stack[stack.index(node):]
            del stack[stack.index(node):]
            if len(group) > 1:
                found.add(frozenset(group))

    for node in graph:
        if node not in order:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset({"b", "c"})}


def test_no_circle_of_files() -> None:
    assert circles({name: imported(name) for name in MODULES}) <= CIRCLES


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, nodes in NODES.items():
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice.keys() <= TWICE, {name: where for name, where in twice.items() if name not in TWICE}


def strings(node: ast.AST) -> list[str]:
    return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def documentation(nodes: list[ast.AST]) -> set[int]:
    """Lines of docstrings: words about formats are no knowledge that decides anything."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def outside() -> list[tuple[Path, list[ast.AST]]]:
    """Files that may ask `formats`: probes run in a reader's Python, where this package is not."""
    return [(path, nodes) for path, nodes in NODES.items() if path.parts[0] not in HOMES and "probes" not in path.parts]


def dtype_comparisons() -> list[str]:
    """`x.dtype == "U8"`, `dtype in ("U8", "I8")` and the like, outside the homes of formats."""
    return [f"{path}:{node.lineno}" for path, nodes in outside() for node in nodes
            if isinstance(node, ast.Compare) and any(s in BITS for s in strings(node))]


def suffixes() -> list[str]:
    """Strings that are the end of a stored tensor's name, as schemes spell it."""
    words = {s for s in roles() if len(s) > 1} | {s.lstrip("._") for s in roles() if "_" in s.lstrip("._")}
    return _strings(words - {"", ".weight", ".bias"})


def methods() -> list[str]:
    """Names of quantization methods, as claims spell them."""
    return _strings({m for scheme in SCHEMES.values() for m in scheme.methods} - {"neuron"})


def _strings(words: set[str]) -> list[str]:
    found = []
    for path, nodes in outside():
        skipped = documentation(nodes)
        found += [f"{path}:{n.lineno}" for n in nodes if isinstance(n, ast.Constant) and n.value in words and n.lineno not in skipped]
    return found


@pytest.mark.parametrize(("count", "limit"), [(dtype_comparisons, DTYPE_COMPARISONS), (suffixes, SUFFIXES), (methods, METHODS)],
                         ids=["dtypes", "suffixes", "methods"])
def test_formats_are_asked(count: object, limit: int) -> None:
    found = count()  # type: ignore[operator]
    assert len(found) <= limit, f"{len(found)} places, {limit} are allowed: ask weighbridge.formats instead.\n" + "\n".join(found)
