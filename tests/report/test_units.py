"""Sizes and counts for people."""

from __future__ import annotations

import pytest

from weighbridge.report.units import count, size


@pytest.mark.parametrize(("nbytes", "shown"), [
    (0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (230_121_630_720, "230.12 GB"), (457_379_529_728, "457.38 GB"),
    (999_999_999, "1.00 GB"), (1_370_000_000_000, "1.37 TB")])
def test_size(nbytes: int, shown: str) -> None:
    assert size(nbytes) == shown


def test_count() -> None:
    assert [count(1, "file"), count(96_103, "tensor"), count(2, "entry", "entries")] == ["1 file", "96,103 tensors", "2 entries"]
