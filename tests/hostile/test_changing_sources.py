"""A source that is cut off, written to, replaced or removed while a verb reads its weights: exit 2 and its name, no signal, no result.

Before there was `plan/guard.py`, a cut under `convert`, `verify`, `trace`, `run` or `compare` ended the process with SIGBUS (135) and no word, or
with 101; `verify` called a source that was replaced another model (3); `check` left out what it could not read; one that was rewritten in place
gave a mixture and exit 0. 47 of the 52 cases here failed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import weighbridge as wb
from tests.hostile import sabotage

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
SHARD = "model-00002-of-00006.safetensors"
IDS = "1144,258,1878,1272,17,300,301,302,40,41,42,43,44,45,46,47,48,49,50"
TENSOR = next(name for name, file in json.loads((DEMO / "model.safetensors.index.json").read_text())["weight_map"].items()
              if file == SHARD and name.endswith("q_proj.weight"))
EVERY = tuple(sabotage.HARMS)
# (name, words with SRC, OTHER (an equal folder) and OUT, moment, harms)
VERBS = [
    ("convert", "convert SRC OUT --to neuron", "opened", ("cut", "empty", "write", "remove")),
    ("convert", "convert SRC OUT --to neuron", "piece", EVERY),
    ("convert-shards", "convert SRC OUT --to neuron --shards --tp 2", "piece", ("cut", "write")),
    ("convert-bf16", "convert SRC OUT --to hf-bf16", "piece", ("cut", "replace")),
    ("dry-run", "convert SRC OUT --to neuron --dry-run", "opened", ("cut", "write", "remove")),
    ("verify-a", "verify SRC OTHER", "piece", EVERY),
    ("verify-b", "verify OTHER SRC", "piece", ("cut", "empty", "write")),
    ("verify", "verify SRC OTHER","opened", ("cut","empty")),
    ("trace", f"trace SRC {TENSOR} --to neuron", "opened", ("cut", "write")),
    ("run", "run SRC -p In --max-tokens 6", "opened", ("cut", "write")),
    ("run", "run SRC -p In --max-tokens 6", "token", EVERY),
    ("run-limit", "run SRC -p In --max-tokens 6 --max-memory 420MB", "token", ("cut", "write")),
    ("run-score", "run SRC --score OTHER/short.txt", "token", ("cut", "write")),
    ("compare", f"compare SRC OTHER --ids {IDS} --max-tokens 2", "token", ("cut", "write")),
    ("explain", f"explain SRC {TENSOR}", "opened", ("cut", "write", "remove")),
    ("explain", f"explain SRC {TENSOR}", "bytes", ("cut", "write")),
    ("check", "check SRC --runtime vllm", "opened", ("cut", "write", "replace")),
    ("report", "report SRC -o OUT.html", "opened", ("cut", "write")),
]
CASES = [(name, words, moment, harm) for name, words, moment, harms in VERBS for harm in harms]


def fresh(folder: Path) -> Path:
    """A copy of the demo whose big files are old: a later time of writing is seen whatever the clock's step."""
    shutil.copytree(DEMO, folder)
    (folder / "short.txt").write_text((DEMO / "heldout.txt").read_text()[:1200])
    for path in folder.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return folder


def spelled(words: str, names: dict[str, Path]) -> list[str]:
    for name, path in names.items():
        words = re.sub(rf"\b{name}\b", str(path), words)
    return words.split()


def play(cases: list[list], folder: Path) -> list[tuple[int, str]]:
    (folder / "cases.json").write_text(json.dumps(cases))
    done = subprocess.run([sys.executable, Path(sabotage.__file__), folder / "cases.json"], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return [(code, said) for code, said in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str, str], tuple[int, str, Path]]:
    """All cases, played by one process that forks for each."""
    root = tmp_path_factory.mktemp("changing")
    other = fresh(root / "other")
    cases, outs = [], []
    for number, (_, words, moment, harm) in enumerate(CASES):
        source = fresh(root / f"source{number}")
        outs.append(root / f"out{number}")
        cases.append([spelled(words, {"SRC": source, "OTHER": other, "OUT": outs[-1]}), str(source / SHARD), harm, moment])
    return {case: (code, said, out) for case, (code, said), out in zip(CASES, play(cases, root), outs, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join((case[0], *case[2:])))
def test_it_ends_with_2_and_names_the_file(case: tuple[str, str, str, str], outcomes: dict) -> None:
    code, said, out = outcomes[case]
    assert code == 2 and SHARD in said and "Traceback" not in said, (code, said)
    assert "source-changed" in said or case[3] == "remove", said
    assert not (out / "weighbridge.json").exists() and not out.with_suffix(".html").exists()


def test_without_harm_all_of_them_end_well(tmp_path: Path) -> None:
    other, source = fresh(tmp_path / "other"), fresh(tmp_path / "source")
    each = {words: name for name, words, *_ in VERBS}
    cases = []
    for number, words in enumerate(each):
        names = {"SRC": source, "OTHER": other, "OUT": tmp_path / f"out{number}"}
        cases.append([spelled(words, names), "", "cut", "never"])
    assert {name: (code, said[-300:]) for name, (code, said) in zip(each.values(), play(cases, tmp_path), strict=True) if code > 1} == {}
