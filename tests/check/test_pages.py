"""Rules are their own documentation: each has a whole page, and the docs are what the rules say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from weighbridge.check.pages import document, sections
from weighbridge.check.rule import FILE, RUNTIMES, SECTIONS, Loaded, chosen, rules
from weighbridge.errors import Usage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))


@pytest.mark.parametrize("loaded", rules().values(), ids=list(rules()))
def test_a_rule_is_whole(loaded: Loaded) -> None:
    rule, page = loaded.rule, loaded.page
    assert page.startswith(f"{rule.code} {rule.name}: ") and page.partition("\n")[0].endswith("."), page[:80]
    assert [h for h in re.findall(r"^## (.+)$", page, re.MULTILINE)] == list(SECTIONS)
    assert all(sections(page).values())
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
    assert set(rule.runtimes) <= set(RUNTIMES) and set(rule.read_in) <= set(RUNTIMES)
    assert set(rule.runtimes) <= set(rule.read_in) | {"llama.cpp"}, "a rule about a reader's code names the version"


def test_a_file_is_a_rule_of_its_name() -> None:
    for path in (ROOT / "weighbridge" / "check" / "rules").glob("wb*.py"):
        found = FILE.match(path.name)
        assert found, path.name
        assert f"WB{found[1]}{found[2]}" in rules()
    names = [loaded.rule.name for loaded in rules().values()]
    assert len(names) == len(set(names))


def test_the_docs_are_what_the_rules_say() -> None:
    import make_pages

    for file, make in make_pages.PAGES.items():
        assert (ROOT / "docs" / file).read_text(encoding="utf-8") == make(), f"run python docs/make_pages.py: docs/{file} is old"


def test_explain_finds_a_rule_by_code_and_name_and_offers_near_ones() -> None:
    assert document("wb101")["name"] == "shard-missing" and document("shard-missing")["code"] == "WB101"
    assert {row["code"] for row in document("rules")["rules"]} == set(rules())
    with pytest.raises(Usage) as caught:
        document("WB1001")
    assert "WB101" in caught.value.first.hint


def test_rules_are_chosen_by_prefix() -> None:
    assert {loaded.rule.code[:3] for loaded in chosen(["WB1"], [])} == {"WB1"}
    assert "WB101" not in {loaded.rule.code for loaded in chosen([], ["WB101"])}
    with pytest.raises(Usage):
        chosen(["WB999"], [])
