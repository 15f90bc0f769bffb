"""Makes the pages that the browser opens: `python tests/browser/pages.py OUT` writes OUT/*.html, OUT/*.svg and OUT/pages.json.

Each page is what a command line writes, run as a user runs it, in a folder where `DEMO` is the demo checkpoint and `MiniMax-M2` the full-size replica.
A command that fails does not stop the others: its words stand in `pages.json`, and the tests of that page fail with them.
pages.json also holds what other verbs print of the same checkpoints, which the pages must repeat.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]  # the project's root is no installed package

from tests.browser import checkpoints
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_store
from weighbridge.cli.demo import CHECKPOINT
from weighbridge.testing.replica import write_replica

READERS = "transformers,vllm,sglang,neuron"
TENSOR = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
DEEP = "model.layers.61.block_sparse_moe.experts.255.w2.weight"
TYPED = ("", "w2", "layers.1.", "scale", "nosuchtensor")  # what one may type into the search
HOSTILE = f"hostile/{checkpoints.FOLDER}"


@dataclass(frozen=True)
class Page:
    """One file and the words of the command that writes it. `of` and `flags` of a report: what `check` gets for the same findings."""

    file: str
    words: tuple[str, ...]
    of: str = ""
    flags: tuple[str, ...] = ()
    code: int = 0

    @property
    def name(self) -> str:
        return self.file.rpartition(".")[0] if self.file.endswith(".html") else self.file.replace(".svg", "-svg")


def report(file: str, src: str, *flags: str, more: tuple[str, ...] = (), code: int = 0) -> Page:
    return Page(file, ("report", src, *flags, *more, "-o", file), src, flags, code)


PAGES = (
    report("report-demo.html", "DEMO", "--runtime", READERS),
    report("report-m2.html", "MiniMax-M2"),
    report("report-m2-tp8.html", "MiniMax-M2", "--runtime", READERS, "--tp", "8"),
    report("report-faulty.html", "faulty", "--runtime", READERS, "--tp", "8"),
    report("report-against.html", "DEMO", more=("--against", "neuron-published")),
    report("report-hostile.html", HOSTILE, "--runtime", READERS, "--tp", "8"),
    report("report-nameless.html", "nameless", "--runtime", READERS),
    *(Page(f"explain-{file}.html", ("explain", what, "--html", f"explain-{file}.html")) for file, what in (
        ("e4m3fn", "e4m3fn"), ("e8m0", "e8m0"), ("mxfp4", "mxfp4"), ("nvfp4", "nvfp4"), ("weight-scale-inv", "weight_scale_inv"),
        ("block-quantization", "block-quantization"), ("240-vs-448", "240-vs-448"), ("wb101", "WB101"), ("skip-list", "skip-list"))),
    Page("explain-tensor.html", ("explain", "DEMO", TENSOR, "--html", "explain-tensor.html")),
    Page("explain-hostile.html", ("explain", HOSTILE, checkpoints.MARKS[0], "--html", "explain-hostile.html")),
    Page("draw-demo.html", ("draw", "DEMO", "-o", "draw-demo.html")),
    Page("draw-m2.html", ("draw", "MiniMax-M2", "-o", "draw-m2.html")),
    Page("draw-hostile.html", ("draw", HOSTILE, "-o", "draw-hostile.html")),
    Page("draw-demo.svg", ("draw", "DEMO", "-o", "draw-demo.svg")),
    Page("draw-m2.svg", ("draw", "MiniMax-M2", "-o", "draw-m2.svg")),
    Page("draw-rank.svg", ("draw", "MiniMax-M2", "--runtime", "neuron", "--tp", "64", "--moe-ep", "64", "-o", "draw-rank.svg")),
    Page("draw-to-neuron.svg", ("draw", "MiniMax-M2", "--to", "neuron", "-o", "draw-to-neuron.svg")),
    Page("draw-nameless.svg", ("draw", "nameless", "-o", "draw-nameless.svg")),
    Page("draw-hostile.svg", ("draw", HOSTILE, "-o", "draw-hostile.svg")),
    Page("compare.svg", ("compare", "DEMO", "neuron-published", "--prompt", "And it came to pass", "-o", "compare.svg")),
)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="weighbridge-pages-") as scratch:
        os.chdir(scratch)
        sources()
        made = [make(page, out) for page in PAGES]
        repeated = {page.name: beside(page) for page in PAGES if page.of}
    (out / "pages.json").write_text(json.dumps({"pages": made, "beside": repeated}), encoding="utf-8")


def sources() -> None:
    """The checkpoints, under the names that the commands use."""
    Path("DEMO").symlink_to(CHECKPOINT)
    write_replica("MiniMax-M2")
    checkpoints.faulty(Path("faulty"))
    checkpoints.hostile(Path("hostile"))
    checkpoints.nameless(Path())
    run(["convert", "DEMO", "neuron-published", "--to", "neuron"]).check_returncode()


def run(words: list[str] | tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "weighbridge", *words], capture_output=True, text=True, check=False)


def make(page: Page, out: Path) -> dict[str, Any]:
    """Run the command; its file goes to `out`. A wrong exit code or an absent file is the page's error."""
    command, begin = "weighbridge " + shlex.join(page.words), time.perf_counter()
    done = run(page.words)
    seconds, file, error = time.perf_counter() - begin, Path(page.file), ""
    if done.returncode != page.code:
        error = f"exit code {done.returncode}, not {page.code}: {done.stderr.strip() or done.stdout[-500:]}"
    elif not file.is_file():
        error = f"wrote no {page.file}: {done.stderr.strip()}"
    size = file.stat().st_size if file.is_file() else 0
    if file.is_file():
        (out / page.file).write_bytes(file.read_bytes())
    print(f"{seconds:5.1f} s {size:>9,} bytes  {command}" + (f"\n        {error}" if error else ""), flush=True)
    return {"name": page.name, "file": page.file, "command": command, "seconds": seconds, "bytes": size, "error": error}


def beside(page: Page) -> dict[str, Any]:
    """What other verbs print of the same checkpoint, in the words of the report's own flags."""
    names = list(Checkpoint(open_store(page.of), lenient=True).tensors)
    told = {
        "check": document("check", page.of, *page.flags), "text": run(["check", page.of, *page.flags]).stdout, "roles": len(document("inspect", page.of)["roles"]),
        "counts": {typed: sum(typed in name for name in names) for typed in TYPED}, "tensors": sorted(names) if len(names) < 1000 else None,
    }
    if DEEP in names:
        told["deep"] = {"tensor": document("inspect", page.of, "--tensors", DEEP)["list"][0], "trace": document("trace", page.of, DEEP, "--to", "neuron")}
    if "--against" in page.words:
        told["verify"] = document("verify", page.of, page.words[page.words.index("--against") + 1])
    return told


def document(*words: str) -> dict[str, Any]:
    return json.loads(run([*words, "--format", "json"]).stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
