"""The one reader of sizes: every alias of the table, nested configs, absent keys, and everything wrong at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge
from tests.models.variants import COMMON, VARIANTS, config_of
from weighbridge.check.sizes import model_sizes
from weighbridge.errors import Refused
from weighbridge.models import inventory, stated_sizes
from weighbridge.models.sizes import ANY, NESTED, SIZES, Sizes, Wanted, keys_of, nested_config, shortened

OWN_NAMES = ("head_dim", "v_head_dim")  # of an inventory's sizes and of draw's document, too
LEFT = {("convert/sidecars.py", "max_position_embeddings")}  # readers that are not mended yet: may only become fewer
NONE = [0, -1, 1 << 60, "8", True, 1.5, [], {}]


@pytest.mark.parametrize("name", SIZES)
@given(data=st.data())
@settings(max_examples=20)
def test_each_key_of_the_table_states_its_size(name: str, data: st.DataObject) -> None:
    """In an unknown model any key of a size is as good as another, at the top or nested; a key in front wins."""
    row = SIZES[name]
    key, value = data.draw(st.sampled_from(row.keys)), data.draw(st.integers(max(1, row.least), row.most))
    inside = data.draw(st.sampled_from([None, *NESTED]))
    stated: dict[str, Any] = {key: value}
    later = row.keys[row.keys.index(key) + 1:]
    stated |= {other: 1 for other in later}
    config = {"model_type": "nobody_knows", inside: stated} if inside else {"model_type": "nobody_knows"} | stated
    assert stated_sizes(config)[name] == value


def test_no_key_states_two_sizes() -> None:
    keys = [key for row in SIZES.values() for key in row.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("variant", VARIANTS)
def test_families_read_the_same_sizes_leniently(variant: str) -> None:
    """What `check` and `draw` see is what the inventory has."""
    config = config_of(variant)
    made, stated = inventory(config).sizes, stated_sizes(config)
    assert {name: stated[name] for name in made if made[name] and name != "swa_kv_heads"} == {n: v for n, v in made.items() if v and n != "swa_kv_heads"}


@pytest.mark.parametrize("variant", ["qwen3_moe", "deepseek_v3", "ernie4_5_moe", "glm4_moe", "gpt_oss", "olmoe"])
@pytest.mark.parametrize("alias", ["num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"])
def test_experts_under_another_key(variant: str, alias: str) -> None:
    """A config that another library saved: the number of experts under its own word, and that of a token, too."""
    config = config_of(variant)
    for key in (*SIZES["experts"].keys, *SIZES["top_k"].keys):
        config.pop(key, None)
    made = inventory(config | {alias: 6, "moe_k": 3})
    assert (made.sizes["experts"], made.sizes["top_k"]) == (6, 3)
    assert {name.split(".")[4] for name in made.weights if ".experts." in name} == {str(e) for e in range(6)}


def test_the_family_decides_which_of_two_keys_holds() -> None:
    """transformers reads the key of the class; the other is a leftover."""
    both = {"num_experts": 4, "num_local_experts": 2, "num_experts_per_tok": 1}
    assert inventory(config_of("qwen3_moe") | both).sizes["experts"] == 4
    assert inventory(config_of("mixtral") | both).sizes["experts"] == 2


@pytest.mark.parametrize("value", NONE)
def test_what_is_no_size_is_refused_or_zero(value: object) -> None:
    config = config_of("llama") | {"intermediate_size": value}
    with pytest.raises(Refused, match="intermediate_size"):
        inventory(config)
    assert stated_sizes(config)["inter"] == 0 == model_sizes(config).inter


def test_a_zero_under_another_word_hides_nothing() -> None:
    assert stated_sizes({"num_local_experts": 0, "num_experts": 8, "moe_k": [2, 2], "num_experts_per_tok": 2})["experts"] == 8
    assert stated_sizes({"num_experts_per_tok": "2", "moe_k": 3})["top_k"] == 3


@given(st.dictionaries(st.sampled_from([key for row in SIZES.values() for key in row.keys] + ["text_config", "model_type"]),
                       st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.sampled_from(list(VARIANTS)),
                                 st.dictionaries(st.sampled_from(["hidden_size", "num_attention_heads"]), st.integers()))))
def test_nothing_in_a_config_is_an_error_to_the_view(config: dict[str, Any]) -> None:
    sizes = model_sizes(config)
    assert all(0 <= getattr(sizes, name) <= SIZES["hidden"].most for name in ("hidden", "head_dim", "experts", "inter", "moe_inter"))


def test_complaints_come_all_at_once_with_the_nested_key() -> None:
    read = Sizes({"text_config": {"hidden_size": -1}, "vocab_size": 8})
    read.read_sizes(Wanted(("hidden", "layers", "heads", "vocab")))
    assert [p.where for p in read.problems] == [f"config.json: text_config.{key}" for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")]


def test_null_means_derived_and_absent_means_the_default() -> None:
    read = Wanted(("hidden", "heads", "kv_heads"), {"kv_heads": 2})
    base = {"hidden_size": 64, "num_attention_heads": 8}
    assert Sizes(base).read_sizes(read)["kv_heads"] == 2
    assert Sizes(base | {"num_key_value_heads": None}).read_sizes(read)["kv_heads"] == 8
    asked = Sizes(base)
    asked.read_sizes(Wanted(("hidden", "heads", "kv_heads"), {"kv_heads": None}))
    assert [p.where for p in asked.problems] == ["config.json: num_key_value_heads"]


def test_a_family_may_take_a_key_away() -> None:
    """transformers 5 saves `head_dim` of DeepSeek as the part with positions alone."""
    assert keys_of("head_dim", Wanted(("head_dim",), keys={"head_dim": ()})) == () != keys_of("head_dim", ANY)
    assert stated_sizes(config_of("deepseek_v3") | {"head_dim": 4})["head_dim"] == 12


def test_a_shorter_model_is_the_same_model() -> None:
    config = config_of("deepseek_v3") | {"num_nextn_predict_layers": 1}
    whole, one = inventory(config), inventory(shortened(config, 2, drafts=False))
    assert one.sizes["layers"] == 2 and not one.optional and one.weights.items() <= whole.weights.items()
    assert inventory(shortened(config, 99)).weights == whole.weights
    nested = {"model_type": "kimi_k25", "text_config": config}
    assert inventory(shortened(nested, 1)).sizes["layers"] == 1 and nested_config(shortened(nested, 1))[1]["num_hidden_layers"] == 1
    assert shortened(COMMON, 1)["num_hidden_layers"] == 1 and COMMON["num_hidden_layers"] == 3


def test_nobody_else_reads_a_size_from_a_config() -> None:
    """One reader. Lessons look into constants of their own; the reader's rules name keys, they do not read them."""
    root = Path(weighbridge.__file__).parent
    keys = "|".join(key for row in SIZES.values() for key in row.keys if "_" in key and key not in ("kv_channels",))
    reads = re.compile(rf"""(\.get\(|\[)["']({keys})["']""")
    for path in root.rglob("*.py"):
        room = path.relative_to(root).parts[0]
        if room not in ("models", "lessons"):
            found = {(str(path.relative_to(root)), match[2]) for match in reads.finditer(path.read_text(encoding="utf-8")) if match[2] not in OWN_NAMES}
            assert found <= LEFT, found - LEFT
