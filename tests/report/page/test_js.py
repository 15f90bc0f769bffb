"""The pure functions of the page's script, run by node against what Python says."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weighbridge.check import budget
from weighbridge.check.nxd_settings import effective
from weighbridge.report import units
from weighbridge.report.check.text import text as check_as_text
from weighbridge.report.page import html as report_html

from .pages import DEMO, case, demo

HERE = Path(__file__).parent
NODE = shutil.which("node")
SIZES = (0, 1, 999, 1000, 1005, 999_994, 999_995, 10**6, 123_456_789, 228_689_764_864, 230_121_630_720, 999_995_000_000, 10**15)
QUERIES = ("", "layers.1", "experts.7.w2", "layers.1. experts.7. w2", "SELF_ATTN q_proj", "weight_scale_inv", "no such tensor", "model.norm.weight")


def names(group: dict[str, Any]) -> list[str]:
    """Names of a group as the contract of the document has them."""
    if not group["ranges"]:
        return [group["name"]]
    numbers = itertools.product(*(range(first, last + 1) for first, last in group["ranges"]))
    return [re.sub(r"\{(\d+)\}", lambda m, n=n: str(n[int(m[1])]), group["name"]) for n in numbers]


def cases() -> dict[str, Any]:
    held = report_html.held(demo())
    every = [name for group in demo()["tensors"]["groups"] for name in names(group)]
    found = {query: sum(all(word in name.lower() for word in query.lower().split()) for name in every) for query in QUERIES}
    files = {name: tensor.file for name, tensor in case(DEMO).checkpoint.tensors.items()}
    return {"data": held, "map": demo()["map"], "names": every, "found": found, "files": files, "sizes": [[n, units.size(n)] for n in SIZES], "ranks": ranks()}


def ranks() -> list[dict[str, Any]]:
    """What `check`'s budget says of one rank, for cuts and loads."""
    probe = case(DEMO)
    out = []
    for target in probe.targets:
        if target.runtime not in demo()["memory"]["runtimes"]:
            continue
        for tp, context, batch in itertools.product((1, 2, 4), (1, 1000, 32768), (1, 7)):
            settings = effective(probe, target)
            settings = replace(settings, tp=tp, ep=0, moe_tp=tp if target.runtime == "neuron" else 0, moe_ep=1 if target.runtime == "neuron" else 0,
                               context=context, batch=batch)
            b = budget.of_rank(probe, settings, target)
            out.append({"runtime": target.runtime, "tp": tp, "context": context, "batch": batch, "attention": b.attention, "experts": b.experts,
                        "rest": b.rest, "cache": b.cache, "total": b.total})
    return out


@pytest.mark.skipif(NODE is None, reason="node is not here")
def test_the_script_computes_what_python_computes(tmp_path: Path) -> None:
    given = tmp_path / "cases.json"
    given.write_text(json.dumps(cases()), encoding="utf-8")
    asked = {**os.environ, "WEIGHBRIDGE_CASES": str(given), "WEIGHBRIDGE_ASSETS": str(report_html.ASSETS)}
    assert NODE is not None
    done = subprocess.run([NODE, "--test", str(HERE / "pure.test.mjs")], check=False, capture_output=True, text=True, env=asked, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    ran = re.search(r"# pass (\d+)", done.stdout)
    assert ran and int(ran[1]) >= 8, done.stdout[-1000:]


def test_all_tensors_are_in_the_groups() -> None:
    every = [name for group in demo()["tensors"]["groups"] for name in names(group)]
    assert sorted(every) == sorted(case(DEMO).checkpoint.tensors)


def test_messages_carry_what_check_prints() -> None:
    for message in report_html.held(demo())["memory"]["messages"]:
        printed = check_as_text({"findings": [message], "summary": {"error": 1}, "source": "x", "runtimes": []})
        plain = re.sub(r"\s+", " ", printed)
        assert re.sub(r"\s+", " ", message["copy"]) in plain


@pytest.mark.skipif(NODE is None, reason="node is not here")
def test_the_script_is_valid_and_strict(tmp_path: Path) -> None:
    script = tmp_path / "report.js"
    script.write_text(report_html.script(), encoding="utf-8")
    assert NODE is not None
    done = subprocess.run([NODE, "--check", str(script)], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert report_html.script().startswith('(() => {\n"use strict";')
