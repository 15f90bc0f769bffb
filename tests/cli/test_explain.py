"""`weighbridge explain`: pages of rules, their list, and the ways of matching."""

from __future__ import annotations

import json

import pytest

from weighbridge.check.rule import rules
from weighbridge.cli import main
from weighbridge.runtimes.skip import RULES


@pytest.mark.parametrize("code", list(rules()))
def test_every_rule_prints_its_page(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{code} {rules()[code].rule.name}: ") and "Why it matters" in out and "How to mend" in out


def test_lists_and_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "rules"]) == 0
    out = capsys.readouterr().out
    assert all(code in out for code in rules())
    assert main(["explain", "skip-list", "--format", "json"]) == 0
    assert {r["reader"] for r in json.loads(capsys.readouterr().out)["readers"]} == set(RULES)
    assert main(["explain", "shard-missing", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# WB101 shard-missing")


def test_an_unknown_word_is_two_and_offers_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "WB10"]) == 2
    assert "WB101" in capsys.readouterr().err
