"""`check --try transformers` over rows of the collection of failures: what transformers itself says of the bad one and of its twin.

A row whose fault lies in values, or in a list that transformers only matches otherwise, loads: it is no fault that a load shows, and stands here as such.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tests.failures.test_corpus import ROWS  # noqa: E402
from weighbridge.checkpoint.source import open_checkpoint  # noqa: E402
from weighbridge.readers.trial.trial import tried  # noqa: E402

# label, side, outcome, a text in its words or in the names of its lists
EXPECTED = [
    ("A1-llama", "bad", "loaded", ""), ("B6-one-expert", "bad", "refused", "experts.gate_up_proj"), ("B6-one-expert", "good", "loaded", ""),
    ("B9-WB403", "bad", "loaded", "down_proj.scale_weight"), ("B9-WB403", "good", "loaded", ""), ("D11-WB409", "bad", "loaded", ""),
    ("D3-in-the-files", "good", "refused", "not divisible by scale grid"), ("J2-WB101", "bad", "refused", "model-00002-of-00002.safetensors"),
    ("J2-WB101", "good", "loaded", ""), ("J3-deepseek", "bad", "refused", "kv_a_proj_with_mqa"), ("N5-WB202", "bad", "unfilled", "down_proj.weight_scale"),
    ("N5-WB202", "good", "loaded", ""),
]


@pytest.mark.parametrize(("label", "side", "outcome", "text"), EXPECTED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_it_says(label: str, side: str, outcome: str, text: str, tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.label == label)
    folder = getattr(row, side)(tmp_path / "m")
    (answer,) = tried(open_checkpoint(folder, lenient=True), [f"transformers@{sys.executable}"], {})
    assert answer.outcome == outcome, answer
    assert text in " ".join([answer.error, *answer.unfilled, *answer.ignored])
