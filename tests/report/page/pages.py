"""Documents of `report` for tests, made of real checkpoints as the verb makes them; and a parser that sees what a page holds."""

from __future__ import annotations

import functools
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import weighbridge
from weighbridge.check.case import Case
from weighbridge.check.request import request
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_store
from weighbridge.overview.document import document
from weighbridge.testing import hostile

DEMO = Path(weighbridge.__file__).parent / "demo" / "checkpoint"
RUNTIMES = ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm", "llama.cpp")
FLAGS = {"tp": 0, "ep": 0, "expert_parallel": False, "moe_tp": 0, "moe_ep": 0, "batch": 0, "context": 0, "kv_cache_dtype": ""}
VOID = {"meta", "input", "br", "wbr", "link", "img", "hr", "rect", "path", "circle", "line"}


def case(folder: Path, **flags: Any) -> Case:
    store = open_store(str(folder))
    asked = request(list(RUNTIMES), None, [], None, {**FLAGS, **flags}, store.files())
    return Case(Checkpoint(store, lenient=True), asked.targets, asked.settings, "all")


@functools.cache
def demo() -> dict[str, Any]:
    return document(case(DEMO))


@functools.cache
def broken(*faults: str) -> dict[str, Any]:
    """The document of the demo checkpoint with faults of `testing.hostile`, at TP 8."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoint"
        shutil.copytree(DEMO, copy)
        for fault in faults:
            hostile.FAULTS[fault](copy)
        return document(case(copy, tp=8))


class Seen(HTMLParser):
    """Tags with attributes, text by element, headings in order; `balanced` is False where an end tag does not fit."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.headings: list[int] = []
        self.texts: dict[str, list[str]] = {}
        self.balanced = True
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        self.balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if attributes.get("id")]  # type: ignore[misc]
