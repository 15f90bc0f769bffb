"""The written skip list gives exactly the wanted split, in every reader; where it cannot, that is said and true."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.runtimes.skiplist import Unwritable, whole_entries, skip_list
from weighbridge.runtimes.skip import RULES, resolve

READERS = [reader for reader in RULES if reader != "llama.cpp"]
SEGMENTS = ["model", "layers", "0", "1", "10", "mlp", "experts", "gate", "gate_proj", "up_proj", "self_attn", "q_proj", "o_proj", "lm_head",
            "shared_expert_gate"]

paths = st.lists(st.sampled_from(SEGMENTS), min_size=1, max_size=6).map(".".join)
odd_paths = st.text("aegt.*?[]()|+re:_01\\{}L", min_size=1, max_size=12)
splits = st.dictionaries(st.one_of(paths, paths, odd_paths), st.booleans(), max_size=12)


def model(layers: int = 12, prefix: str = "model.") -> list[str]:
    inside = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.experts", "mlp.gate",
              "mlp.shared_experts.gate_proj"]
    return [f"{prefix}layers.{n}.{name}" for n in range(layers) for name in inside] + ["lm_head"]


@pytest.mark.parametrize("reader", READERS)
@given(split=splits)
@settings(max_examples=60, deadline=None)
def test_the_list_gives_the_split(reader: str, split: dict[str, bool]) -> None:
    try:
        listed = skip_list(reader, split)
    except Unwritable as error:
        # True only if the strictest entry for this module alone also names the other one.
        assert split[error.module] is True and split[error.also] is False
        assert all(RULES[reader].matches(entry, error.also) for entry in whole_entries(reader, error.module))
        return
    found = resolve(listed, split, reader)
    assert set(found.skipped) == {path for path, skipped in split.items() if skipped}
    assert not found.failing and not found.refused


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("word", ["o_proj", "self_attn", "layers.1.", "lm_head", "experts"])
def test_real_names_can_always_be_split(reader: str, word: str) -> None:
    split = {path: word in path for path in model()}
    listed = skip_list(reader, split)
    assert set(resolve(listed, split, reader).skipped) == {path for path in split if word in path}
    if reader != "vllm-fp8":  # it knows whole paths only
        assert len(listed) <= 2, listed


@pytest.mark.parametrize("reader, expected", [
    ("neuron", ["o_proj", "lm_head"]), ("sglang", ["o_proj", "lm_head"]), ("transformers", ["o_proj", "lm_head"]),
    ("compressed-tensors", ["re:.*o_proj$", "lm_head"]), ("tensorrt-llm", ["*.o_proj", "lm_head"]), ("vllm-modelopt", ["*.o_proj", "lm_head"]),
    ("gptq-dynamic", [".*o_proj$", "lm_head$"])])
def test_the_usual_list_is_short(reader: str, expected: list[str]) -> None:
    assert skip_list(reader, {path: path.endswith(("o_proj", "lm_head")) for path in model()}) == expected


def test_exact_readers_get_whole_paths() -> None:
    listed = skip_list("vllm-fp8", {path: path.endswith("o_proj") for path in model(layers=3)})
    assert listed == [f"model.layers.{n}.self_attn.o_proj" for n in range(3)]


def test_a_substring_cannot_keep_a_longer_name_out() -> None:
    with pytest.raises(Unwritable, match=r"every entry that names .*mlp\.gate also names .*mlp\.gate_proj"):
        skip_list("neuron", {"layers.0.mlp.gate": True, "layers.0.mlp.gate_proj": False})


def test_layer_1_is_not_layer_10() -> None:
    for reader in READERS:
        split = {path: ".layers.1." in f".{path}" for path in model()}
        listed = skip_list(reader, split)
        assert "model.layers.10.self_attn.q_proj" not in resolve(listed, split, reader).skipped, reader


def test_no_list_where_nothing_is_to_be_skipped() -> None:
    assert skip_list("neuron", dict.fromkeys(model(), False)) == []
    assert skip_list("llama.cpp", dict.fromkeys(model(), True)) == []


def test_the_entry_is_spelled_as_the_reader_rewrites_it() -> None:
    split = {"model.layers.0.mlp.experts": True, "lm_head": False}
    assert skip_list("vllm-fp8", split, lambda e: (e.replace(".block_sparse_moe.", ".mlp."),)) == ["model.layers.0.mlp.experts"]
