"""One rank: nodes add up to the arithmetic of `check.budget`, shapes to what a reader cuts, faults are the readers' words."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest

from tests.drawing.walk import at, case, drawn, nodes
from tests.failures.tools import build, deepseek, llama, m2, qwen3_moe
from tests.inspection import tables
from weighbridge.api import Model
from weighbridge.check import budget
from weighbridge.check.nxd_settings import effective
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.convert.run import convert
from weighbridge.errors import Usage
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import EVEN, write_tiny

READERS = ("transformers", "vllm", "sglang", "neuron", "tensorrt-llm")


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replica(tmp_path_factory.mktemp("m2") / "r", scales="zero")


@pytest.fixture(scope="module")
def two_layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replica(tmp_path_factory.mktemp("m2") / "r", layers=2, scales="zero")


def test_m2_on_64_neuron_cores(replica: Path) -> None:
    root = drawn(replica, "neuron", tp=64, moe_ep=64)
    layer = at(root, "layers", "0-61")

    def held(*names: str) -> dict:
        return at(layer, *names)["rank"]

    assert held("self_attn", "q_proj") == {"shape": [128, 3072], "bytes": 62 * (128 * 3072 + 24 * 4), "how": "48 heads padded to 64, cut 64 ways along out"}
    assert held("self_attn", "o_proj")["shape"] == [3072, 128]
    assert held("self_attn", "k_proj") == {"shape": [128, 3072], "bytes": 62 * (128 * 3072 + 24 * 4), "how": "cut 8 ways along out, repeated 8 times"}
    assert held("block_sparse_moe", "experts", "0-255", "w1") == {"shape": [1536, 3072], "bytes": 62 * 4 * (1536 * 3072 + 12 * 24 * 4), "how": "4 of 256 experts"}
    assert held("block_sparse_moe", "gate") == {"shape": [256, 3072], "bytes": 62 * 256 * 3072 * 4, "how": "whole"}
    assert at(root, "embed_tokens")["rank"] == {"shape": [200064, 48], "bytes": 200064 * 3072 * 2 // 64, "how": "cut 64 ways along hidden"}
    assert at(root, "lm_head")["rank"]["shape"] == [3126, 3072]
    rank = root["rank"]
    assert rank["faults"] == [] and rank["cache_bytes_per_token"] == 62 * 2 * 1 * 128 * 2
    assert rank["experts"] == 62 * 4 * 3 * (1536 * 3072 + 12 * 24 * 4)
    assert (rank["runtime"], rank["tp"], rank["moe_tp"], rank["moe_ep"]) == ("neuron", 64, 1, 64)
    assert "pad 48 to 64" in rank["note"]


@pytest.mark.parametrize("runtime", READERS)
@pytest.mark.parametrize("make", [m2, llama, deepseek, qwen3_moe])
@pytest.mark.parametrize("said", [{"tp": 1}, {"tp": 2}, {"tp": 4, "moe_ep": 2, "moe_tp": 2}, {"tp": 8, "ep": 8}, {"tp": 3, "expert_parallel": True}])
def test_nodes_add_up_to_the_budget(runtime: str, make, said: dict, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = build(tmp_path / "m", *make())
    root, asked = drawn(folder, runtime, **said), case(folder, runtime, **said)
    expected = budget.of_rank(asked, effective(asked, asked.targets[0]), asked.targets[0])
    assert {key: root["rank"][key] for key in ("weights", "attention", "experts", "rest")} == {
        "weights": expected.weights, "attention": expected.attention, "experts": expected.experts, "rest": expected.rest}
    assert sum(child["rank"]["bytes"] for child in root["children"]) == expected.weights
    for node in nodes(root):
        if node["children"] and node is not root:
            assert node["rank"]["bytes"] == sum(child["rank"]["bytes"] for child in node["children"])
        assert node is root or node["rank"]["bytes"] <= node["bytes"] * 2
    if said == {"tp": 1}:
        assert expected.weights == root["bytes"]


@pytest.mark.parametrize("model", ["gpt-oss-20b", "qwen3-32b-awq", "mimo-v2.5", "deepseek-v3.2"])
@pytest.mark.parametrize("runtime", ["vllm", "sglang", "tensorrt-llm"])
def test_real_tables_add_up_too(model: str, runtime: str, tmp_path: Path) -> None:
    folder = tables.write(model, tmp_path / "c", experts=4)
    root, asked = drawn(folder, runtime, tp=8, ep=4), case(folder, runtime, tp=8, ep=4)
    assert sum(child["rank"]["bytes"] for child in root["children"]) == budget.of_rank(asked, asked.settings, asked.targets[0]).weights
    for node in nodes(root):  # where a weight is cut evenly, shape and bytes agree
        if node["shape"] and node["rank"]["how"] != "whole" and node["encoding"]["strategy"] == "none" and node["role"].startswith(("attention.", "mlp.", "lm_head")):
            assert node["rank"]["bytes"] == pytest.approx(node["bytes"] * prod(node["rank"]["shape"]) / prod(node["shape"]), rel=0.01)


@pytest.mark.parametrize(("model", "name", "shape"), [("qwen3-32b-awq", "q_proj", [5120, 2048]), ("qwen3-32b-awq", "o_proj", [2048, 5120]),
                                                      ("gpt-oss-20b", "gate_up_proj", [8, 5760, 2880]), ("deepseek-r1", "kv_b_proj", [8192, 512])])
def test_shapes_of_packed_stacked_and_latent_weights(model: str, name: str, shape: list[int], tmp_path: Path) -> None:
    root = drawn(tables.write(model, tmp_path / "c", experts=2), "sglang", tp=4, ep=4)
    assert next(node for node in nodes(root) if node["name"] == name)["rank"]["shape"] == shape


@pytest.mark.parametrize(("runtime", "said", "says"), [
    ("vllm", {"tp": 8}, "192 is not divisible by weight quantization block_n = 128"),
    ("sglang", {"tp": 8, "ep": 3}, "do not make TP 8"),
    ("tensorrt-llm", {"tp": 8, "moe_tp": 2, "moe_ep": 2}, "expert degrees 2 x 2 do not make TP 8"),
    ("vllm", {"tp": 7}, "attention heads (48) must be divisible by tensor parallel size (7)"),
    ("vllm", {"tp": 12}, "8 key/value heads cannot be dealt out to 12 ranks"),
    ("neuron", {"tp": 64, "moe_ep": 32, "moe_tp": 1}, "R31/R32"),
    ("neuron", {"tp": 12, "moe_ep": 12}, "R14"),
    ("neuron", {"tp": 8, "moe_tp": 8}, "R40"),
])
def test_faults_in_words(two_layers: Path, runtime: str, said: dict, says: str) -> None:
    faults = drawn(two_layers, runtime, **said)["rank"]["faults"]
    assert any(says in fault for fault in faults), faults


@pytest.mark.parametrize(("runtime", "said"), [("vllm", {"tp": 8, "expert_parallel": True}), ("sglang", {"tp": 8, "ep": 8}), ("neuron", {"tp": 32, "moe_ep": 32})])
def test_degrees_that_work_have_no_fault(two_layers: Path, runtime: str, said: dict) -> None:
    assert drawn(two_layers, runtime, **said)["rank"]["faults"] == []


def test_files_of_ranks_have_no_rank(tmp_path: Path) -> None:
    folder = tables.write_headers(tmp_path / "c", {"x.weight": ("BF16", (4, 4))}, {})
    (folder / "weights").mkdir()
    (folder / "model.safetensors").rename(folder / "weights" / "tp0_sharded_checkpoint.safetensors")
    with pytest.raises(Usage, match="single ranks"):
        drawn(folder, "neuron", tp=2)


@pytest.mark.parametrize(("tp", "moe_tp", "moe_ep"), [(4, 1, 4), (4, 2, 2), (8, 1, 8), (2, 2, 1)])
def test_shapes_are_those_of_the_files_that_the_reader_gets(tp: int, moe_tp: int, moe_ep: int, tmp_path: Path) -> None:
    """Against `convert --shards`, which cuts by the reader's own rules. Six heads: TP 4 and 8 pad them, two key/value heads are repeated."""
    source = Model(write_tiny(tmp_path / "src", **EVEN))
    convert(source.plan("neuron"), tmp_path / "n", None)
    convert(source.plan("neuron", shards=True, tp=tp, moe_tp=moe_tp, moe_ep=moe_ep), tmp_path / "s", None)
    files = open_checkpoint(tmp_path / "s").tensors
    root = drawn(tmp_path / "n", "neuron", tp=tp, moe_tp=moe_tp, moe_ep=moe_ep)
    modules = {"q_proj": "layers.0.self_attn.qkv_proj.q_proj", "k_proj": "layers.0.self_attn.qkv_proj.k_proj", "v_proj": "layers.0.self_attn.qkv_proj.v_proj",
               "o_proj": "layers.0.self_attn.o_proj.o_proj", "gate_up_proj": "layers.0.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj",
               "down_proj": "layers.0.block_sparse_moe.expert_mlps.mlp_op.down_proj", "embed_tokens": "embed_tokens", "lm_head": "lm_head",
               "linear_router": "layers.0.block_sparse_moe.router.linear_router"}
    for node in nodes(root):
        if node["name"] in modules:
            tensor = files[f"tp0/{modules.pop(node['name'])}.weight"]
            assert node["rank"]["shape"] == list(tensor.shape), node["name"]
            if node["encoding"]["strategy"] == "none" and node["encoding"]["dtype"] == tensor.dtype:
                times = 1 if "layers" not in node["path"] else EVEN["layers"]
                assert node["rank"]["bytes"] == times * tensor.nbytes, node["name"]
    assert not modules
