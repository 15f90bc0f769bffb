"""What each reader builds: names, fused layers, candidates; the case that began the project; and fixes that mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.failures.rows_a import CHANNEL, O_PROJ, QWEN, neuron, per_channel, vlm, write
from tests.failures.tools import build, deepseek, llama, m2
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.mend import mended
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings
from weighbridge.check.skip_units import units
from weighbridge.check.views import View, view_of
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.runtimes.skip import resolve


def view(folder: Path, runtime: str, **fields: object) -> View:
    case = Case(open_checkpoint(folder), targets([runtime]), Settings(**fields), "none")  # type: ignore[arg-type]
    return view_of(case, case.targets[0])


def found(folder: Path, runtime: str, **fields: object) -> list[Finding]:
    case = Case(open_checkpoint(folder), targets([runtime]), Settings(**fields))  # type: ignore[arg-type]
    return [f for f in findings(case, select=["WB2", "WB3"]) if f.severity != "note"]


def test_experts_are_folded(tmp_path: Path) -> None:
    case = Case(open_checkpoint(build(tmp_path / "m2", *m2(layers=3, experts=16))))
    experts = [u for u in units(case) if u.expert]
    assert [(u.leaf, u.count, u.coded) for u in experts[:3]] == [("w1", 16, 16), ("w2", 16, 16), ("w3", 16, 16)]
    assert len(experts) == 9 and sum(u.count for u in units(case)) == len(case.modules.all)


@pytest.mark.parametrize("runtime, names", [
    ("transformers", {"model.layers.0.mlp.experts", "model.layers.0.self_attn.q_proj", "lm_head"}),
    ("vllm", {"model.layers.0.mlp.experts", "model.layers.0.self_attn.q_proj"}),
    ("sglang", {"model.layers.0.block_sparse_moe.experts", "model.layers.0.self_attn.q_proj"}),
    ("tensorrt-llm", {"model.layers.0.block_sparse_moe.experts", "model.layers.0.self_attn.q_proj"}),
])
def test_m2_in_each_readers_names(tmp_path: Path, runtime: str, names: set[str]) -> None:
    seen = view(build(tmp_path / "m2", *m2()), runtime)
    assert names <= {b.path for b in seen.candidates}
    assert not any(b.role in ("router", "norms", "embedding") for b in seen.candidates)


def test_m2_in_nxds_names(tmp_path: Path) -> None:
    seen = view(neuron("row", ["lm_head"])(tmp_path / "n"), "neuron")
    first = [b.path for b in seen.candidates if "layers.0." in b.path]
    assert sorted(first) == sorted([
        "layers.0.self_attn.qkv_proj.q_proj", "layers.0.self_attn.qkv_proj.k_proj", "layers.0.self_attn.qkv_proj.v_proj",
        "layers.0.self_attn.o_proj.o_proj",
        "layers.0.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj", "layers.0.block_sparse_moe.expert_mlps.mlp_op.down_proj"])
    assert [b.path for b in seen.candidates if b.skipped] == ["lm_head"]


def test_hf_names_give_the_same_nxd_names(tmp_path: Path) -> None:
    folder = build(tmp_path / "m2", *m2(), files={"neuron_config.json": {"quantized": True, "modules_to_not_convert": ["lm_head"]}})
    stored = {b.path for b in view(neuron("row", ["lm_head"])(tmp_path / "n"), "neuron").candidates}
    assert {b.path for b in view(folder, "neuron").candidates} == stored
    fused = {b.path for b in view(folder, "neuron", neuron={"fused_qkv": True}).candidates}
    assert "layers.0.self_attn.qkv_proj.Wqkv" in fused and not any(p.endswith("q_proj") for p in fused)


def test_parts_know_the_layer_that_they_are_joined_to(tmp_path: Path) -> None:
    fused = {b.path.rpartition(".")[2]: b.fused for b in view(build(tmp_path / "d", *deepseek()), "vllm").built if "layers.0." in b.path}
    assert fused["q_a_proj"] == fused["kv_a_proj_with_mqa"] == "model.layers.0.self_attn.fused_qkv_a_proj"
    assert fused["gate_proj"] == fused["up_proj"] == "model.layers.0.mlp.gate_up_proj" and fused["down_proj"] == ""


def test_a_multimodal_models_prefixes(tmp_path: Path) -> None:
    tensors, config = vlm()
    folder = build(tmp_path / "v", tensors, config)
    assert "language_model.model.layers.0.self_attn.q_proj" in {b.path for b in view(folder, "vllm").built}
    assert "visual.blocks.0.attn.qkv" in {b.path for b in view(folder, "vllm").built}
    alone = build(tmp_path / "t", tensors, config | {"architectures": ["Qwen3ForCausalLM"]})
    assert "model.layers.0.self_attn.q_proj" in {b.path for b in view(alone, "transformers").built}


def test_targets_of_compressed_tensors_choose_the_candidates(tmp_path: Path) -> None:
    claim = json.loads(json.dumps(CHANNEL))
    claim["config_groups"]["group_0"]["targets"] = ["re:.*mlp.*"]
    seen = view(write((per_channel(llama()[0]), llama()[1]), claim=claim)(tmp_path / "c"), "vllm")
    assert {b.role.split(".")[0] for b in seen.candidates} == {"mlp"}


# The case that began the project: MiniMax-M2 on NxD Inference with modules_to_not_convert = ["lm_head", "self_attn"].
CASES = {
    "block scales, attention listed": ("block", ["lm_head", "self_attn"], False, ["WB301"], "AssertionError without a message", ["lm_head"]),
    "row scales, attention listed": ("row", ["lm_head", "self_attn"], False, ["WB301"], "times too large", ["lm_head"]),
    "the list of the HF config": ("row", ["gate", "e_score_correction_bias", "lm_head"], False, ["WB304"], "experts about", ["lm_head"]),
    "BF16 o_proj, not listed": ("row", ["lm_head"], True, ["WB302"], "Cannot find layers.0.self_attn.o_proj.o_proj.scale in state_dict",
                                ["o_proj", "lm_head"]),
    "BF16 o_proj, attention listed": ("row", ["lm_head", "self_attn"], True, ["WB304"], "no error", ["o_proj", "lm_head"]),
    "BF16 attention": ("bf16", ["lm_head"], False, ["WB302"], "KeyError: 'layers.0.self_attn.qkv_proj.", ["self_attn", "lm_head"]),
    "no list": ("row", [], False, ["WB302"], "Cannot find lm_head.scale in state_dict", ["lm_head"]),
    "right": ("row", ["lm_head"], False, [], "", []),
    "right with BF16 o_proj": ("row", ["lm_head", "o_proj"], True, [], "", []),
}


@pytest.mark.parametrize("name", CASES)
def test_the_case_that_began_it(tmp_path: Path, name: str) -> None:
    attention, entries, o_proj, codes, said, right = CASES[name]
    told = found(neuron(attention, entries, o_proj)(tmp_path / "n"), "neuron")
    assert [f.code for f in told] == codes, told
    if told:
        assert said in told[0].consequence
        assert told[0].fix.value == right


def test_the_same_case_with_settings_of_the_command_line(tmp_path: Path) -> None:
    told = found(build(tmp_path / "m2", *m2()), "neuron", neuron={"quantized": True, "modules_to_not_convert": ["lm_head", "self_attn"]})
    assert [(f.code, f.fix.value) for f in told] == [("WB301", ["lm_head"])]
    assert [(e.file, e.path, e.value) for e in told[0].fix.edits] == [("neuron_config.json", ("modules_to_not_convert",), ["lm_head"])]
    assert not found(build(tmp_path / "b", *m2()), "neuron")  # nothing is quantized there: the list is not read


FAULTY = {
    "vllm-block": ("vllm", write(O_PROJ, "ignored_layers", ["lm_head", "model.layers.0.mlp.up_proj"])),
    "sglang-word": ("sglang", write(QWEN, "modules_to_not_convert", ["lm_head", "mlp", "experts"])),
    "transformers-glob": ("transformers", write(O_PROJ, "modules_to_not_convert", ["lm_head", "*o_proj*"])),
    "channel": ("vllm", write((per_channel(O_PROJ[0]), O_PROJ[1]), "ignore", ["lm_head", "re:.*down_proj$", "re:("], CHANNEL)),
    "tensorrt-llm": ("tensorrt-llm", write(O_PROJ, "ignored_layers", ["lm_head", "model.layers.0.self_attn.o_proj"])),
    "empty": ("transformers", write(O_PROJ, "modules_to_not_convert", ["lm_head", "", "o_proj"])),
    "neuron": ("neuron", neuron("row", ["gate", "self_attn"], o_proj=True)),
    "null-block": ("vllm", write(llama(), claim={"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None,
                                                 "ignored_layers": ["lm_head"]})),
    "text": ("transformers", write(llama(), claim={"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": "lm_head"})),
}


@pytest.mark.parametrize("name", FAULTY)
def test_after_the_edits_the_findings_are_gone(tmp_path: Path, name: str) -> None:
    runtime, make = FAULTY[name]
    folder = make(tmp_path / "c")
    for _ in range(2):  # mending one claim may show what stood behind it
        checkpoint = open_checkpoint(folder)
        told = findings(Case(checkpoint, targets([runtime])), select=["WB2", "WB3"])
        for file, content in mended(checkpoint, told).items():
            (folder / file).write_text(json.dumps(content), encoding="utf-8")
    before = make(tmp_path / "again")
    assert [f for f in findings(Case(open_checkpoint(before), targets([runtime])), select=["WB2", "WB3"]) if f.severity == "error"]
    assert not found(folder, runtime)


BASE, BASE_CONFIG = llama(layers=3)
LINEARS = [name.removesuffix(".weight") for name, (dtype, _) in BASE.items() if dtype == "F8_E4M3"]


@given(chosen=st.sets(st.sampled_from(LINEARS), max_size=6), runtime=st.sampled_from(["transformers", "vllm", "sglang", "tensorrt-llm"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_plain_modules_get_a_list_that_is_right(tmp_path_factory: pytest.TempPathFactory, chosen: set[str], runtime: str) -> None:
    """Random plain modules, without a list: found, and the list of the finding is right, unless parts of a fused layer differ in the files."""
    tensors = {n: (("BF16", s) if n.removesuffix(".weight") in chosen else (d, s)) for n,
               (d, s) in BASE.items() if n.removesuffix(".weight_scale_inv") not in chosen}
    key = "modules_to_not_convert"
    folder = write((tensors, BASE_CONFIG), key, ["lm_head"])(tmp_path_factory.mktemp("p") / "c")
    told = [f for f in found(folder, runtime) if f.severity == "error"]
    parts = [{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}]
    split = runtime != "transformers" and any(0 < sum(f"{parent}.{p}" in chosen for p in group) < len(group)
                                              for parent in {c.rpartition(".")[0] for c in LINEARS} for group in parts
                                              if f"{parent}.{min(group)}" in LINEARS)
    assert bool(told) is bool(chosen)
    assert any(f.code == "WB307" for f in told) is split
    listed = [f for f in told if f.code == "WB302"]
    if listed and not split:
        seen = view(write((tensors, BASE_CONFIG), key, listed[0].fix.value)(tmp_path_factory.mktemp("q") / "c"), runtime)
        assert {u.path for b in seen.candidates if b.skipped for u in b.units} - {"lm_head"} == chosen
        assert set(resolve(seen.spelled and [t for e in seen.entries for t in seen.spelled[e]], [b.path for b in seen.candidates],
                           seen.reader).skipped) >= chosen
