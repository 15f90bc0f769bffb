"""Logits and greedy tokens that transformers gave (tests/oracles/test_engine.py), without torch."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.engine.families import GOLDEN, VARIANTS, all_logits, config_of, engine, gap, greedy, write_model


@pytest.mark.parametrize("variant", VARIANTS)
def test_stored_logits_and_tokens(variant, tmp_path):
    stored = json.loads((GOLDEN / f"{variant}.json").read_text())
    assert stored["config"] == config_of(variant)
    ours = engine(write_model(tmp_path / "model", stored["config"]))
    logits = all_logits(ours, np.array(stored["ids"]))
    assert all(gap(logits[int(at)], np.array(row)) < 2e-5 for at, row in stored["logits"].items())
    assert greedy(ours, stored["ids"][:8], 64) == stored["greedy"]
