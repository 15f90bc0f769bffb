"""Skip lists: the measured table of six readers, and what must hold for any list."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.errors import Usage
from weighbridge.runtimes import EntryFails, EntryRefused, llama_cpp, neuron, sglang, tensorrt_llm, transformers, vllm
from weighbridge.runtimes.skip import COLUMNS, MOST_ENTRIES, RULES, Patience, markdown, resolve, table

DOC = Path(__file__).resolve().parents[2] / "docs" / "skip-lists.md"

MOE, GATE, PROJ, EXPERTS, SHARED, Q0, Q10 = MODULES = tuple(f"model.layers.{name}" for name in (
    "0.block_sparse_moe.gate", "0.mlp.gate", "0.mlp.gate_proj", "0.mlp.experts.gate_up_proj", "0.mlp.shared_expert_gate",
    "0.self_attn.q_proj", "10.self_attn.q_proj"))
NONE: tuple[str, ...] = ()
ALL_GATES, ATTENTION = (MOE, GATE, PROJ, EXPERTS, SHARED), (Q0, Q10)
REPEAT = "re.error: nothing to repeat at position 3"

# Entry: transformers, compressed-tensors (and vLLM's), vLLM fp8, sglang, NxD (and AutoAWQ), vLLM ModelOpt.
EXPECTED: dict[str, tuple[tuple[str, ...] | str, ...]] = {
    "gate": ((MOE, GATE, SHARED), NONE, NONE, (MOE, GATE), ALL_GATES, ALL_GATES),
    "mlp.gate": ((GATE,), NONE, NONE, (GATE,), (GATE, PROJ), (GATE, PROJ)),
    "self_attn": (NONE, NONE, NONE, ATTENTION, ATTENTION, ATTENTION),
    "re:.*gate$": (NONE, (MOE, GATE, SHARED), NONE, NONE, NONE, NONE),
    "*gate*": (REPEAT, NONE, NONE, NONE, NONE, ALL_GATES),
    "model.layers.1": (NONE, NONE, NONE, NONE, (Q10,), (Q10,)),
    "model.layers.*.self_attn": (ATTENTION, NONE, NONE, NONE, NONE, NONE),
}
CASES = [(entry, reader, cell) for entry, row in EXPECTED.items() for reader, cell in zip(COLUMNS, row, strict=True)]

paths = st.lists(st.sampled_from(["model", "layers", "0", "1", "10", "mlp", "experts", "gate", "gate_proj", "up_proj", "self_attn", "q_proj",
                                  "k_proj", "v_proj", "lm_head"]), min_size=1, max_size=6).map(".".join)
texts = st.one_of(paths, st.text("aegt.*?[]()|+re:_01\\{},", max_size=12), st.sampled_from(["gate", "re:.*gate$", "model.layers.1", "*.mlp.*"]))


@pytest.mark.parametrize(("entry", "reader", "cell"), CASES)
def test_measured_table(entry, reader, cell):
    assert table([entry], MODULES)[entry][reader] == cell


# TensorRT-LLM's column: shell patterns and `re:` for the whole path or a parent. llama.cpp has no list.
TENSORRT_LLM: dict[str, tuple[str, ...]] = {
    "gate": NONE, "mlp.gate": NONE, "self_attn": NONE, "re:.*gate$": (MOE, GATE, SHARED), "*gate*": ALL_GATES, "model.layers.1": NONE,
    "model.layers.*.self_attn": ATTENTION,
}


@pytest.mark.parametrize("entry", EXPECTED)
def test_the_readers_that_the_table_leaves_out(entry):
    cells = table([entry], MODULES, ["tensorrt-llm", "llama.cpp"])[entry]
    assert cells == {"tensorrt-llm": TENSORRT_LLM[entry], "llama.cpp": NONE}


@pytest.mark.parametrize("entry", EXPECTED)
def test_readers_of_one_column_agree(entry):
    cells = table([entry], MODULES, RULES)[entry]
    assert cells["vllm-compressed-tensors"] == cells["compressed-tensors"]
    assert cells["neuron"] == cells["autoawq"] == cells["vllm-awq"]
    assert cells["llama.cpp"] == NONE


def test_the_page_shows_what_the_code_says():
    assert markdown(EXPECTED, MODULES) in DOC.read_text(encoding="utf-8")
    for name, how in RULES.items():
        assert f"| `{name}` | {how.way} | {how.read_in} |" in DOC.read_text(encoding="utf-8")


def test_published_m2_list_leaves_gate_up_of_all_experts_unquantized_on_neuron():
    modules = [f"layers.{n}.{name}" for n in range(62) for name in (
        "self_attn.qkv_proj.q_proj", "self_attn.o_proj.o_proj", "block_sparse_moe.expert_mlps.mlp_op.gate_up_proj",
        "block_sparse_moe.expert_mlps.mlp_op.down_proj")] + ["lm_head"]
    found = resolve(["gate", "e_score_correction_bias", "lm_head"], modules, "neuron")
    assert found.matched == {"gate": tuple(m for m in modules if m.endswith("gate_up_proj")), "lm_head": ("lm_head",)}
    assert found.unmatched == ("e_score_correction_bias",)
    assert len(found.skipped) == 63


def test_an_entry_that_the_reader_cannot_compile():
    for entry in ("*gate*", "a)", "[", "+", "x{5,2}", "(" * 900):
        with pytest.raises(EntryFails):
            transformers.matches(entry, GATE)
    for matches in (transformers.matches_compressed_tensors, vllm.matches_compressed_tensors, tensorrt_llm.matches):
        with pytest.raises(EntryFails, match="nothing to repeat"):
            matches("re:*gate*", GATE)
        assert not matches("*gate", "gate_proj")
    found = resolve(["*gate*", "mlp.gate"], MODULES, "transformers")
    assert found.failing == {"*gate*": REPEAT}
    assert found.matched == {"mlp.gate": (GATE,)}


def test_single_readers():
    assert transformers.matches("", GATE)  # every text ends with nothing: an empty entry skips the model
    assert transformers.matches("gate|model.layers.1", "model.layers.1.x")
    assert not transformers.matches("gate|model.layers.1", "model.layers.10.x")
    assert transformers.matches_compressed_tensors("Linear", GATE, classes=["ReplicatedLinear", "LinearBase"])
    assert not transformers.matches_compressed_tensors("Linear", GATE)
    assert vllm.matches_fp8("model.layers.3.mlp.experts.7.gate_proj", "model.layers.3.mlp.experts")
    assert not vllm.matches_fp8("model.layers.3.mlp", "model.layers.3.mlp.experts")
    assert sglang.matches("model.layers.1.", "model.layers.1.mlp.gate")
    assert not sglang.matches("model.layers.1.", "model.layers.10.mlp.gate")
    assert tensorrt_llm.matches("model.layers.0.mlp", GATE)
    assert tensorrt_llm.matches("*.mlp.*", "model.layers.0.mlp")
    assert tensorrt_llm.matches(r"re:.*\.mlp", GATE)
    assert not tensorrt_llm.matches("gate", GATE)
    assert not llama_cpp.matches(GATE, GATE)


def test_parts_of_a_fused_layer_that_disagree():
    parts = [f"model.layers.0.self_attn.{p}_proj" for p in "qkv"] + [f"model.layers.0.mlp.experts.0.{p}_proj" for p in ("gate", "up")]
    for reader in ("vllm-fp8", "vllm-compressed-tensors", "sglang", "vllm-awq", "tensorrt-llm"):
        assert resolve(parts[:3], parts, reader).split == ()
        (split,) = resolve([*parts[:2], parts[3]], parts, reader).split
        assert (split.fused, split.skipped, split.kept) == ("model.layers.0.self_attn.qkv_proj", tuple(parts[:2]), (parts[2],))
        assert split.fused in split.consequence
    assert "some but not all shards" in resolve(parts[:1], parts, "vllm-fp8").split[0].consequence
    for reader in ("transformers", "neuron", "llama.cpp"):
        assert resolve(parts[:1], parts, reader).split == ()


@pytest.mark.parametrize("pattern", [
    "(a+)+$", "(a|a)*$", "(a*)*b", "((a{1,9}){1,9})+x", "(?:.*)+x", "((){1000}){1000}", "(.?){40}x", "a?" * 40 + "a" * 40, ".*" * 12 + "x",
    "(?#)(a+)+x", "(?x) (a+) +", "(a|a)" * 40 + "x", "(?:){100000000}x", "(?:(?=a)){100000000}x", "(?:(?:(?:^){1000}){1000}){1000}x", r"(?:\b){99999999,}x", "x" * 5000, "(?:(?=(a+))+)+x",
])
def test_hostile_entries_are_refused_fast(pattern):
    module, start = "a" * 60 + "!", time.monotonic()
    for reader, entry in (("transformers", pattern), ("compressed-tensors", f"re:{pattern}"), ("tensorrt-llm", f"re:{pattern}")):
        matches = RULES[reader].matches
        with pytest.raises((EntryRefused, EntryFails)):
            matches(entry, module)
        if len(pattern) < 1000:
            assert entry in {**resolve([entry], [module], reader).refused, **resolve([entry], [module], reader).failing}
    assert time.monotonic() - start < 10  # seconds against for ever: other jobs may run beside


@pytest.mark.parametrize("pattern", [
    r".*self_attn.*", r".*mlp\.(gate|up|gate_up|down)_proj.*", r"model\.layers\.(?:[0-9]|1[0-9])\..*", r".*layers\.\d+\..*experts.*",
    r"(?:model\.)?lm_head", r"^(?!.*experts).*gate$", r".*[.](q|k|v)_proj$", r".*?gate{1}$", r"[^]()*+|]+gate",
])
def test_patterns_that_people_write_are_matched(pattern):
    for module in MODULES:
        assert transformers.matches_compressed_tensors(f"re:{pattern}", module) == bool(re.match(pattern, module))


@settings(max_examples=200, deadline=None)
@given(texts, paths)
def test_regex_readers_are_python_or_refuse(entry, module):
    try:
        wanted = bool(re.match(rf"(?:{entry})(?:(?<=\.)|(?=\.|$))", module)) or module.endswith(entry)
    except re.error:
        wanted = None
    try:
        assert transformers.matches(entry, module) == wanted
    except EntryFails:
        assert wanted is None
    except EntryRefused:
        pass


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=25), st.lists(paths, max_size=12), st.sampled_from(sorted(RULES)))
def test_resolve_is_every_entry_against_every_module(entries, modules, reader):
    found, matches = resolve(entries, modules, reader), RULES[reader].matches
    bad = {*found.failing, *found.refused}
    assert {*found.matched, *found.unmatched, *bad} == set(entries)
    for entry in set(entries) - bad:
        assert found.matched.get(entry, ()) == tuple(m for m in dict.fromkeys(modules) if matches(entry, m))
    assert set(found.skipped) == {m for hits in found.matched.values() for m in hits}
    assert sorted([*found.skipped, *found.kept]) == sorted(set(modules))


@given(paths, paths)
def test_order_of_strictness(entry, module):
    if entry == module:
        assert all(how.matches(entry, module) for name, how in RULES.items() if name != "llama.cpp")
    if sglang.matches(entry, module) and "experts" not in module:
        assert neuron.matches(entry, module)
    if neuron.matches(entry, module):
        assert vllm.matches_modelopt(entry, module)


def test_long_lists_take_no_longer_than_they_must():
    modules = [f"model.layers.{n}.mlp.experts.{e}.{p}_proj" for n in range(20) for e in range(100) for p in ("gate", "up", "down")]
    entries = [f"model.layers.{n}.{name}" for n in range(78) for name in ("input_layernorm", "post_attention_layernorm", "self_attn.indexer.wk")]
    start = time.monotonic()
    found = resolve([*entries, "lm_head"], modules, "transformers")
    assert len(found.unmatched) == len(entries) + 1
    assert time.monotonic() - start < 10  # seconds against for ever: other jobs may run beside


@pytest.mark.parametrize("reader", sorted(RULES))
def test_the_short_cut_for_long_lists_changes_nothing(reader):
    entries = [*EXPECTED, "model.layers.3.mlp.experts.7.gate_proj", "model.layers.0*", "*.mlp.gate", "re:model.layers.1+0?\\.mlp", "gate[_]proj",
               "10.self", "", ".", "mode?.layers.10*", "self_attnx?", "model.layers.3.", "mlp..gate", "re:.*(mlp|attn)", "model.layers.1.*"]
    modules = [*MODULES, "model.layers.3.mlp.experts", "model.layers.1.mlp.up_proj", "model.layers.110.mlp.gate", "lm_head", "self_attn", "mlp.xgate"]
    assert len(entries) > 16
    whole, single = resolve(entries, modules, reader), [resolve([entry], modules, reader) for entry in entries]
    assert whole.matched == {entry: hits for one in single for entry, hits in one.matched.items()}
    assert whole.failing == {entry: why for one in single for entry, why in one.failing.items()}


@pytest.mark.parametrize(("entries", "modules", "words"), [
    ([str(n) for n in range(MOST_ENTRIES + 1)], ["a"], "20001, more than 20000, for the entries"),
    (["x" * 1001], ["a"], "longer than 1000 characters"), (["a"], ["a" * 1001], "longer than 1000 characters"),
    ("gate", ["a"], "'gate' is a text, not a list"), ([["a"]], ["a"], "is no text"), ([7], ["a"], "7 among the entries"),
    ([None], ["a"], "is no text"),
])
def test_lists_out_of_bounds(entries, modules, words):
    with pytest.raises(Usage, match=words):
        resolve(entries, modules, "neuron")


def test_time_is_bounded_and_readers_are_known():
    patience = Patience(0)
    found = resolve(["gate"], MODULES, "neuron", patience)
    assert "not tried" in found.refused["gate"] and not found.matched and not found.unmatched
    with pytest.raises(Usage, match="'nobody' is no reader"):
        resolve([], [], "nobody")
