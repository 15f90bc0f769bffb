"""The rules of NxD Inference: each fault is named with its text, its twin is not, and the edits mend it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import weighbridge
from tests.failures.rows_nxd import BLOCKS, ENV, EXACT, QUANTIZED, neuron_m2, stacked
from tests.failures.tools import build, llama, m2
from weighbridge.check.case import Case
from weighbridge.check.finding import Finding
from weighbridge.check.mend import mended
from weighbridge.check.nxd_settings import module_path, nxd
from weighbridge.check.run import findings, targets
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_checkpoint, open_store
from weighbridge.checkpoint.store import OverlayStore

DEMO = Path(weighbridge.__file__).parent / "demo" / "checkpoint"
DEGREES = {"tp_degree": 8, "moe_tp_degree": 1, "moe_ep_degree": 8, "tkg_batch_size": 8}
EIGHT = {"experts": 16, "inter": 1536}
GOOD = DEGREES | {"batch_size": 8}


def check(folder: Path, said: dict[str, Any] | None = None, overlay: dict[str, bytes] | None = None, **fields: Any) -> list[Finding]:
    store = OverlayStore(open_store(folder), overlay or {})
    case = Case(Checkpoint(store, lenient=True), targets(["neuron"]), Settings(neuron=said or {}, **fields))
    return findings(case, select=["WB7"])


@dataclass
class Fault:
    """`settings` go over a clean M2 in the reader's form; `text` must stand in the finding. `config` changes config.json."""

    rule: str
    code: str
    settings: dict[str, Any]
    text: str
    severity: str = "error"
    form: dict[str, Any] = field(default_factory=dict)
    good: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    good_config: dict[str, Any] = field(default_factory=dict)
    mends: bool = True

    def __str__(self) -> str:
        return f"{self.rule}-{self.code}"


MOE = {"num_local_experts": 16, "num_experts_per_tok": 8, "intermediate_size": 1536}
FAULTS = [
    Fault("R1", "WB704", {"quantized_checkpoints_path": ...}, "AssertionError: quantized_checkpoints_path is required"),
    Fault("R2", "WB703", {"quantization_dtype": "fp8"}, "fp8 is not a valid QuantizedDtype."),
    Fault("R2-capitals", "WB703", {"quantization_dtype": "F8E4M3"}, "--experimental-unsafe-fp8e4m3fn-as-fp8e4m3"),
    Fault("R2-fn", "WB703", {"quantization_dtype": "f8e4m3fn"}, "NCC_EVRF051"),
    Fault("R3", "WB705", {"modules_to_not_convert": ...}, "Assuming all modules will be quantized"),
    Fault("R3-kernel", "WB705", {"modules_to_not_convert": ..., "qkv_kernel_enabled": True},
          "Could not find modules_to_not_convert for quantized model."),
    Fault("R4", "WB707", {"quantized_mlp_kernel_enabled": True}, "per_channel_symmetric"),
    Fault("R5", "WB707", {"quantized_mlp_kernel_enabled": True, "activation_quantization_type": "dynamic"},
          "native quantization does not work with quantized kernels"),
    Fault("R6", "WB707", {"activation_quantization_type": "static"}, "Unsupported activation quantization type"),
    Fault("R7", "WB707", {"rmsnorm_quantize_kernel_enabled": True}, "quantized_mlp_kernel must be enabled to use rmsnorm_quantize_kernel!"),
    Fault("R8", "WB721", {"cast_type": "bf16"}, "config, as-declared"),
    Fault("R9", "WB721", {"attention_dtype": "float32", "torch_dtype": "bfloat16"}, "attention dtype and torch dtype are different"),
    Fault("R10", "WB721", GOOD | {"cp_degree": 3}, "8 % 3 = 2", good=GOOD, config=MOE, good_config=MOE, form=EIGHT),
    Fault("R11", "WB721", {}, "Config must define ['num_experts_per_tok']", config={"num_experts_per_tok": None}, mends=False),
    Fault("R12", "WB708", GOOD | {"ep_degree": 4}, "multiplies the ranks", good=GOOD, config=MOE, good_config=MOE, form=EIGHT),
    Fault("R14", "WB720", GOOD | {"tp_degree": 3, "moe_ep_degree": 3}, "GQA.REPLICATE_TO_TP_DEGREE requires", good=GOOD, config=MOE, good_config=MOE,
          form=EIGHT, mends=False),
    Fault("R15", "WB721", {"glu_mlp": False}, "MiniMax-M2 requires glu_mlp=True (SwiGLU)"),
    Fault("R16", "WB715", {}, "State-dict update not implemented", config={"tie_word_embeddings": True}),
    Fault("R19", "WB709", GOOD | {"tp_degree": 32, "moe_tp_degree": 16, "moe_ep_degree": 2, "tkg_batch_size": 2},
          "down_proj.scale expansion produced 12 rows, expected moe_tp=16", good=GOOD, config=MOE, good_config=MOE, form=EIGHT),
    Fault("R21", "WB707", {"quantization_type": "block"}, "is not a valid QuantizationType"),
    Fault("R22", "WB706", {"quantization_block_size": ...}, "block_axis and block_size must be specified"),
    Fault("R22-lengths", "WB706", {"quantization_block_size": [1, 128, 1]}, "same length"),
    Fault("R23", "WB706", {"quantization_block_axis": [1, 2]}, "block axis cannot be < 0 or > 2, received 2", "note", mends=False),
    Fault("R28", "WB708", GOOD | {"tp_degree": 16, "moe_ep_degree": 16}, "8 experts are not divisible by moe_ep_degree 16", good={}, mends=False),
    Fault("R31", "WB708", GOOD | {"moe_ep_degree": 16}, "invalid implied expert data parallel degree", good=GOOD, config=MOE, good_config=MOE,
          form=EIGHT),
    Fault("R32", "WB708", GOOD | {"moe_ep_degree": 4, "tkg_batch_size": 8}, "experts are counted 2 times", good=GOOD, config=MOE, good_config=MOE,
          form=EIGHT),
    Fault("R33", "WB708", GOOD | {"moe_ep_degree": 1}, "split_size can only be 0", good=GOOD, config=MOE, good_config=MOE, form=EIGHT),
    Fault("R34", "WB708", GOOD | {"parallelize_token_to_block_mapping": False}, "AttributeError: spmd_rank", good=GOOD, config=MOE, good_config=MOE,
          form=EIGHT),
    Fault("R35", "WB721", {"router_config": {"act_fn": "relu"}}, "'relu'"),
    Fault("R36", "WB706", {"quantization_block_size": [128, 128]}, "expected shape", form={"attention": "bf16", "experts_block": (1, 128)},
          good=EXACT | {"modules_to_not_convert": ["lm_head", "self_attn"]}),
    Fault("R37", "WB711", DEGREES | {"quantization_block_axis": [-2, -1]}, "right without the patch", "warning",
          good=DEGREES | {"tp_degree": 4, "moe_ep_degree": 4},
          mends=False),
    Fault("R38", "WB709", GOOD | {"tp_degree": 16, "moe_tp_degree": 8, "moe_ep_degree": 2},
          "3 is not divisible by 2; with the contrib port's stride patch no error", good=GOOD, config=MOE, good_config=MOE,
          form=EIGHT),
    Fault("R39", "WB710", GOOD | {"moe_tp_degree": 2, "moe_ep_degree": 4}, "relative error 0.1 to 0.95", "warning", good=GOOD, config=MOE,
          good_config=MOE, form=EIGHT),
    Fault("R42", "WB712", GOOD | {"tkg_batch_size": 1}, "Selective Loading with Expert parallelism is not supported in token generation.", good=GOOD,
          config=MOE,
          good_config=MOE, form=EIGHT),
    Fault("R43", "WB713", GOOD | {"context_encoding_buckets": [32, 128]}, "32 x 8 = 256 < block 512", "warning",
          good=GOOD | {"context_encoding_buckets": [64]}, config=MOE,
          good_config=MOE, form=EIGHT),
    Fault("R44", "WB714", {"blockwise_matmul_config": {"block_size": 64}}, "slow torch code", "warning", mends=False),
    Fault("R49", "WB707", {"attn_block_tkg_nki_kernel_enabled": True}, "cascaded attention"),
    Fault("R45", "WB714", {"logical_nc_config": 2}, "_call_shard_hidden_kernel is not available"),
    Fault("R46", "WB714", {"blockwise_matmul_config": {"use_shard_on_block_dynamic_while": True, "use_shard_on_intermediate_dynamic_while": True}},
          "shard_on_I_dynamic_while and"),
]


def folders(fault: Fault, root: Path) -> tuple[Path, Path]:
    bad = neuron_m2(root / "bad", settings=fault.settings, config=fault.config, **fault.form)
    return bad, neuron_m2(root / "good", settings=fault.good, config=fault.good_config, **fault.form)


def said(finding: Finding) -> str:
    return f"{finding.title} {finding.evidence} {finding.consequence} {finding.fix.text}"


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_rule_speaks_and_its_twin_is_clean(fault: Fault, tmp_path: Path) -> None:
    bad, good = folders(fault, tmp_path)
    hits = [f for f in check(bad) if f.code == fault.code and f.severity == fault.severity]
    assert any(fault.text in said(f) for f in hits), [said(f) for f in check(bad)]
    assert all(f.read_in and f.runtime == "neuron" for f in hits)
    assert not [said(f) for f in check(good) if f.severity != "note"]


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.mends], ids=str)
def test_the_edits_mend_it(fault: Fault, tmp_path: Path) -> None:
    bad, _ = folders(fault, tmp_path)
    hits = [f for f in check(bad) if f.code == fault.code and f.severity == fault.severity]
    files = mended(open_checkpoint(bad), hits)
    assert files
    assert not [said(f) for f in check(bad, overlay={name: json.dumps(content).encode() for name, content in files.items()})
                if f.code == fault.code and f.severity == fault.severity]


def dense(folder: Path, tp: int, inter: int) -> Path:
    """A dense model whose feed-forward layers are block FP8 with `.scale`, for a family without a port of its own."""
    tensors, config = llama(inter=inter, suffix=".scale")
    for name in [n for n in tensors if ".self_attn." in n and n.endswith("_proj.scale")]:
        del tensors[name]
        tensors[name.replace(".scale", ".weight")] = ("BF16", tensors[name.replace(".scale", ".weight")][1])
    own = QUANTIZED | {"quantization_block_axis": [-2, -1], "quantization_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "self_attn"],
                       "tp_degree": tp}
    return build(folder, tensors, config, files={"neuron_config.json": own})


@pytest.mark.parametrize(("tp", "inter", "right"), [(4, 2304, False), (2, 2304, True), (4, 2048, True), (1, 640, True), (2, 640, False)])
def test_dense_layers_under_tp(tmp_path: Path, tp: int, inter: int, right: bool) -> None:
    hits = [f for f in check(dense(tmp_path / "m", tp, inter)) if f.code == "WB723"]
    assert bool(hits) == (not right)
    assert all(f"{inter // tp}" in f.title and 1 in f.fix.value and tp not in f.fix.value for f in hits)


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_what_convert_wrote_for_one_tp_is_checked_for_another(tmp_path: Path, tp: int) -> None:
    """Six heads of the demo are padded to eight at TP 4 and 8, not at TP 2: o_proj's scale is written for one of them."""
    weighbridge.open(DEMO).convert(tmp_path / "out", "neuron", attention="exact", tp=tp)
    padded = {2: 6, 4: 8, 8: 8}
    for other, heads in padded.items():
        hits = [f for f in check(tmp_path / "out", {"tp_degree": other, "moe_ep_degree": other}) if f.code == "WB723"]
        assert bool(hits) == (heads != padded[tp]), (tp, other, hits)


def test_published_files_name_the_way(tmp_path: Path) -> None:
    tensors, config = m2()
    found = {f.code: f for f in check(build(tmp_path / "m", tensors, config, shards={"a.safetensors": list(tensors)})) if f.severity == "error"}
    assert found.keys() == {"WB701", "WB702"}
    assert found["WB701"].consequence == "KeyError: 'layers.0.self_attn.qkv_proj.q_proj.scale'"
    assert found["WB701"].fix.value == "weighbridge convert SRC DST --to neuron"
    assert found["WB702"].fix.value["modules_to_not_convert"] == ["lm_head"]


def test_the_case_that_began_it(tmp_path: Path) -> None:
    """M2 with modules_to_not_convert ["lm_head", "self_attn"]: the scales are the cause, in every variant of the load."""
    said_list = {"modules_to_not_convert": ["lm_head", "self_attn"]}
    tensors, config = m2()
    published = build(tmp_path / "m", tensors, config, shards={"a.safetensors": list(tensors)})
    texts = {f.code: f.consequence for f in check(published, QUANTIZED | BLOCKS | said_list)}
    assert "AssertionError without a message (verify_scale_dimension), in the hook of o_proj" in texts["WB702"]
    assert "The skip list is not the cause" in texts["WB702"]
    assert "Cannot find layers.0.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj.scale" in texts["WB701"]
    rows = neuron_m2(tmp_path / "rows", attention="row", settings=said_list)
    (silent,) = [f for f in check(rows) if f.code == "WB702"]
    assert silent.consequence.startswith("no error: FP8 codes are cast to BF16")
    assert silent.fix.value == ["lm_head"]


def test_bf16_run_needs_the_block_size(tmp_path: Path) -> None:
    tensors, config = m2()
    bare = {key: value for key, value in config.items() if key != "quantization_config"}
    shards = {"a.safetensors": list(tensors)}
    assert "modeling_minimax_m2.py 156" in check(build(tmp_path / "a", tensors, bare, shards=shards), {"quantized": False})[0].consequence
    assert not [f for f in check(build(tmp_path / "b", tensors, config, shards=shards), {"quantized": False}) if f.severity == "error"]


def test_fused_names(tmp_path: Path) -> None:
    def renamed(fused: bool) -> dict:
        return {name.replace("self_attn.q_proj", "self_attn.qkv_proj.q_proj") if fused else name: value for name, value in stacked().items()}

    (finding,) = [f for f in check(neuron_m2(tmp_path / "a", tensors=renamed(True), settings={"fused_qkv": True})) if f.code == "WB716"]
    assert "qkv_proj.q_proj" in finding.where.tensor
    assert not [f for f in check(neuron_m2(tmp_path / "b", tensors=renamed(False), settings={"fused_qkv": True})) if f.code == "WB716"]


def test_index(tmp_path: Path) -> None:
    single = neuron_m2(tmp_path / "a", index=False)
    (finding,) = [f for f in check(single) if f.severity == "error"]
    assert finding.code == "WB717"
    files = mended(open_checkpoint(single), [finding])
    assert not [f for f in check(single, overlay={name: json.dumps(c).encode() for name, c in files.items()}) if f.code == "WB717"]
    tensors, config = llama(quantize=False)
    beside = build(tmp_path / "b", tensors, config, shards={"model-1.safetensors": list(tensors)})
    (beside / "model.safetensors").write_bytes((beside / "model-1.safetensors").read_bytes())
    assert [(f.code, f.severity) for f in check(beside)] == [("WB717", "error")]


@pytest.mark.parametrize(("environment", "sources", "severity"), [
    ({}, {}, "note"), ({"XLA_HANDLE_SPECIAL_SCALAR": "1"}, {}, "warning"), (ENV, {}, None)])
def test_environment(tmp_path: Path, environment: dict, sources: dict, severity: str | None) -> None:
    hits = [f.severity for f in check(neuron_m2(tmp_path / "m"), environment=environment, sources=sources) if f.code == "WB718"]
    assert hits == ([severity] if severity else [])


@pytest.mark.parametrize(("ranks", "tp", "text"), [(2, 4, "2 rank files for TP 4"), (4, 4, None)])
def test_rank_files(tmp_path: Path, ranks: int, tp: int, text: str | None) -> None:
    folder = neuron_m2(tmp_path / "m", settings={"tp_degree": tp, "skip_sharding": True, "modules_to_not_convert": ["lm_head"]}, index=False)
    (folder / "weights").mkdir()
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    for rank in range(ranks):
        (folder / "weights" / f"tp{rank}_sharded_checkpoint.safetensors").write_bytes(raw)
    hits = [f.title for f in check(folder) if f.code == "WB722"]
    assert hits == ([text] if text else [])


@pytest.mark.parametrize("attention", ["published", "row", "bf16", "exact", "shards"])
def test_what_convert_writes_has_no_error(tmp_path: Path, attention: str) -> None:
    options: dict[str, Any] = {"shards": True} if attention == "shards" else {"attention": attention}
    weighbridge.open(DEMO).convert(tmp_path / "out", "neuron", **options)
    assert not [said(f) for f in check(tmp_path / "out") if f.severity == "error"]


def test_the_users_settings_go_over_the_files(tmp_path: Path) -> None:
    folder = neuron_m2(tmp_path / "m")
    assert [f.code for f in check(folder, {"quantization_dtype": "F8E4M3"}) if f.severity == "error"] == ["WB703"]
    case = Case(open_checkpoint(folder), (), Settings(tp=4, neuron={"batch_size": 7}))
    assert (nxd(case).tp, nxd(case).batch, nxd(case).quantized) == (4, 7, True)


def test_settings_inside_neuron_config_are_read_and_mended_there(tmp_path: Path) -> None:
    folder = neuron_m2(tmp_path / "m", settings={"quantization_dtype": "F8E4M3"})
    own = json.loads((folder / "neuron_config.json").read_text())
    (folder / "neuron_config.json").write_text(json.dumps({"neuron_config": own, "hidden_size": 512}))
    hits = [f for f in check(folder) if f.code == "WB703"]
    files = mended(open_checkpoint(folder), hits)
    assert files["neuron_config.json"]["neuron_config"]["quantization_dtype"] == "f8e4m3"


@pytest.mark.parametrize(("path", "module"), [
    ("model.layers.self_attn.q_proj", "layers.0.self_attn.qkv_proj.q_proj"), ("layers.self_attn.o_proj", "layers.0.self_attn.o_proj.o_proj"),
    ("model.layers.block_sparse_moe.experts.7.w2", "layers.0.block_sparse_moe.expert_mlps.mlp_op.down_proj"),
    ("model.layers.mlp.experts.0.up_proj", "layers.0.mlp.expert_mlps.mlp_op.gate_up_proj"), ("lm_head", "lm_head"),
])
def test_names_in_the_traced_model(path: str, module: str) -> None:
    assert module_path(path) == module


HOSTILE: list[Any] = [None, 0, -1, 1 << 80, 1e308, "x" * 5000, "8", True, [], [None], [[]], {}, {"a": {}}, ["lm_head", 3], [128, 0], [1 << 70, 1]]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda v: repr(v)[:12])
def test_settings_of_any_type_are_read(tmp_path: Path, value: Any) -> None:
    keys = ["tp_degree", "moe_tp_degree", "moe_ep_degree", "ep_degree", "batch_size", "tkg_batch_size", "seq_len", "quantized", "quantization_dtype",
            "quantization_type",
            "quantization_block_axis", "quantization_block_size", "modules_to_not_convert", "blockwise_matmul_config", "router_config",
            "logical_nc_config", "cast_type",
            "attention_dtype", "torch_dtype", "glu_mlp", "fused_qkv", "context_encoding_buckets", "activation_quantization_type",
            "quantized_checkpoints_path"]
    good = neuron_m2(tmp_path / "m", settings=GOOD)
    for key in keys:
        assert isinstance(check(good, {key: value}), list)
    assert isinstance(check(good, dict.fromkeys(keys, value)), list)
    every = neuron_m2(tmp_path / "all", config=dict.fromkeys(["num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "hidden_size",
                                                              "num_local_experts",
                                                              "num_experts_per_tok", "intermediate_size", "tie_word_embeddings", "layer_types"],
                                                             value))
    assert isinstance(check(every, GOOD, device_memory=1000, kv_cache_dtype="fp8"), list)


def test_a_finding_names_where_its_setting_came_from(tmp_path: Path) -> None:
    few = {"num_experts_per_tok": 2}
    folder = neuron_m2(tmp_path / "m", config=few)
    fields = {"tp": 4, "moe_ep": 4, "batch": 1, "sources": {"batch": "--max-num-seqs"}}
    (finding,) = [f for f in check(folder, **fields) if f.code == "WB712"]
    assert finding.where.key == "--max-num-seqs"
    (finding,) = [f for f in check(folder, {"tkg_batch_size": 1}, tp=4, moe_ep=4) if f.code == "WB712"]
    assert finding.where.key == "override_neuron_config: tkg_batch_size"
    (finding,) = [f for f in check(neuron_m2(tmp_path / "n", settings={"tkg_batch_size": 1}, config=few), tp=4, moe_ep=4) if f.code == "WB712"]
    assert (finding.where.file, finding.where.key) == ("neuron_config.json", "tkg_batch_size")


def test_another_folder_of_weights_is_named(tmp_path: Path) -> None:
    tensors, config = m2()
    folder = build(tmp_path / "published", tensors, config, shards={"a.safetensors": list(tensors)})
    texts = [f.evidence for f in check(folder, QUANTIZED | {"quantized_checkpoints_path": "/data/converted"}) if f.code == "WB701"]
    assert "check that folder" in texts[0]
    texts = [f.evidence for f in check(folder, QUANTIZED | {"quantized_checkpoints_path": "/data/published/"}) if f.code == "WB701"]
    assert "check that folder" not in texts[0]
