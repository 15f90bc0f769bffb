"""All tensors of nine real checkpoints, planned: to BF16, and to layouts of other spellings. Headers are true, bytes are holes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

import weighbridge as wb
from tests.inspection.tables import TABLES, write
from weighbridge.layouts.options import Options
from weighbridge.plan.plan import make_plan

OTHER = ("ct-fp8-block", "modelopt-fp8-channel")
STACKS = ("hf-f16", "hf-mxfp4")  # gpt-oss: its turned stacks have no name in the others
SECONDS = 60  # of CPU for one model
# Kimi's 210,000 tensors alone take seconds: `make test-matrix` plans all nine.
NAMES = list(TABLES) if os.environ.get("WEIGHBRIDGE_MATRIX") == "all" else ["gpt-oss-20b", "mimo-v2.5", "qwen3-32b-awq"]


@pytest.mark.parametrize("name", NAMES)
def test_a_real_table_plans_without_a_finding(name: str, tmp_path: Path) -> None:
    begin = time.process_time()
    source = wb.open(write(name, tmp_path / "m")).source
    assert source.problems == []
    counts = []
    for layout in ("hf-bf16", *(STACKS if name.startswith("gpt-oss") else OTHER)):
        plan = make_plan(source, layout, Options(block=(128, 128)))
        assert plan.open_problems == [], layout
        counts.append(len(plan.targets))
        held = {part.weight for target in plan.targets for part in target.stored.placement.parts}
        assert held == {w.name for w in source.weights}, layout  # draft layers and towers go along
    assert len(set(counts)) <= 2 and time.process_time() - begin < SECONDS


def test_stacks_without_a_name_are_refused_in_words(tmp_path: Path) -> None:
    plan = wb.open(write("gpt-oss-20b", tmp_path / "m")).plan("ct-fp8-block")
    assert [p.code for p in plan.open_problems] == ["misfit"]
    assert "not spelled" in plan.open_problems[0].message and json.dumps(plan.open_problems[0].hint)
