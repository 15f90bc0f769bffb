"""The tree: what is folded and what stands apart, the order, the axes, and sums that are those of `inspect`."""

from __future__ import annotations

import os
import subprocess
import sys
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawing.walk import at, case, drawn, names, nodes, sound
from tests.failures.tools import build, deepseek, llama, m2
from tests.inspection import tables
from weighbridge.api import Model
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.convert.run import convert
from weighbridge.drawing.document import document
from weighbridge.inspection import inspect
from weighbridge.report.draw import text as draw_text
from weighbridge.report.draw.markdown import markdown
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import EVEN, write_tiny

MOE = ("layers", "0-61", "block_sparse_moe")
FEW = {"deepseek-r1": 6, "deepseek-v3.2": 6, "glm-4.5-fp8": 6, "kimi-k2.5": 6, "mimo-v2.5": 6, "qwen3-235b-a22b-fp8": 6}


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return drawn(write_replica(tmp_path_factory.mktemp("m2") / "r", scales="zero"))


def test_m2_has_the_published_numbers(replica: dict) -> None:
    sound(replica)
    assert (replica["parameters"], replica["bytes"]) == (228_689_764_864, 230_121_630_720)
    assert names(replica) == ["embed_tokens", "layers", "norm", "lm_head"]
    layer = at(replica, "layers", "0-61")
    assert layer["count"] == 62
    assert names(layer) == ["input_layernorm", "self_attn", "post_attention_layernorm", "block_sparse_moe"]
    assert names(at(layer, "self_attn")) == ["q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj"]
    assert names(at(replica, *MOE)) == ["gate", "e_score_correction_bias", "experts"]
    expert = at(replica, *MOE, "experts", "0-255")
    assert (expert["count"], expert["kind"], names(expert)) == (256, "expert", ["w1", "w3", "w2"])
    each = 3 * 1536 * 3072
    assert expert["parameters"] == 62 * 256 * each
    assert expert["bytes"] == 62 * 256 * (each + 3 * 12 * 24 * 4)


def test_m2_in_axes_and_encodings(replica: dict) -> None:
    query = at(replica, "layers", "0-61", "self_attn", "q_proj")
    assert (query["axes"], query["shape"]) == (["heads*head_dim", "hidden"], [6144, 3072])
    assert (query["role"], query["count"], query["path"]) == ("attention.q", 1, "model.layers.{0-61}.self_attn.q_proj")
    assert query["encoding"] == {"dtype": "F8_E4M3", "bits": 8, "strategy": "block", "block": [128, 128], "scheme": "fp8-block", "scale_dtype": "F32",
                                 "scale_suffix": ".weight_scale_inv", "kind": "fp8", "text": "F8_E4M3, block 128x128, F32 scales"}
    assert at(replica, *MOE, "experts", "0-255", "w2")["axes"] == ["hidden", "inter"]
    assert at(replica, *MOE, "experts")["encoding"]["text"] == query["encoding"]["text"]
    assert at(replica, "layers", "0-61", "self_attn")["encoding"] is None  # norms are BF16
    kinds = {node["name"]: node["kind"] for node in nodes(replica)}
    assert kinds == {"minimax_m2": "model", "embed_tokens": "embedding", "layers": "layers", "0-61": "layer", "input_layernorm": "norm", "self_attn": "attention",
                     "q_proj": "weight", "k_proj": "weight", "v_proj": "weight", "o_proj": "weight", "q_norm": "norm", "k_norm": "norm",
                     "post_attention_layernorm": "norm", "block_sparse_moe": "part", "gate": "router", "e_score_correction_bias": "router",
                     "experts": "experts", "0-255": "expert", "w1": "weight", "w2": "weight", "w3": "weight", "norm": "norm", "lm_head": "lm_head"}


@pytest.mark.parametrize("model", sorted(tables.TABLES))
def test_real_tables_add_up_to_inspect(model: str, tmp_path: Path) -> None:
    folder = tables.write(model, tmp_path / "c", experts=FEW.get(model))
    root, weighed = drawn(folder), inspect(open_checkpoint(folder))
    sound(root)
    assert (root["parameters"], root["bytes"]) == (weighed["parameters"], weighed["bytes"])
    counted: dict[str, list[int]] = {}
    for node in nodes(root):
        if not node["children"]:
            sums = counted.setdefault(node["role"], [0, 0])
            sums[0] += node["parameters"]
            sums[1] += node["bytes"]
    for role in {row["role"] for row in weighed["roles"]} - {"helpers"}:
        rows = [row for row in weighed["roles"] if row["role"] == role]
        assert counted[role][0] == sum(row["parameters"] for row in rows), role
        assert counted[role][1] >= sum(row["bytes"] for row in rows), role  # zero points and the like are with their weight
    assert not any(part in node["name"] for node in nodes(root) for part in ("scale", "qzeros", "weight_shape"))
    known = [n for n in nodes(root) if n["role"] and n["role"].partition(".")[0] in ("attention", "experts", "mlp", "router", "lm_head") and n["shape"]]
    towers = ("visual", "vision", "audio", "mtp")
    assert all(n["axes"] for n in known if not any(word in n["path"] for word in towers)), [n["path"] for n in known if not n["axes"]]


@pytest.mark.parametrize(("model", "groups"), [
    ("deepseek-r1", {"0-2": 3, "3-60": 58, "61": 1}), ("glm-4.5-fp8", {"0-2": 3, "3-91": 89, "92": 1}), ("gpt-oss-20b", {"0-23": 24}),
    ("mimo-v2.5", {"0": 1, "1-4,6-10,12-16,18-22,24-28,30-34,36-40,42-46": 39, "5,11,17,23,29,35,41,47": 8})])
def test_layers_that_differ_stand_apart(model: str, groups: dict[str, int], tmp_path: Path) -> None:
    layers = at(drawn(tables.write(model, tmp_path / "c", experts=2)), "layers")
    assert {child["name"]: child["count"] for child in layers["children"]} == groups
    assert {child["kind"] for child in layers["children"]} == {"layer"}


def test_one_expert_that_differs_stands_apart(tmp_path: Path) -> None:
    tensors, config = m2(layers=4, experts=8)
    for part in ("w1", "w2", "w3"):
        name = f"model.layers.2.block_sparse_moe.experts.5.{part}.weight"
        tensors[name] = ("BF16", tensors[name][1])
        del tensors[name + "_scale_inv"]
    root = drawn(build(tmp_path / "m", tensors, config))
    sound(root)
    layers = at(root, "layers")
    assert names(layers) == ["0-1,3", "2"]
    experts = at(layers, "2", "block_sparse_moe", "experts")
    assert [(c["name"], c["count"], c["encoding"]["kind"]) for c in experts["children"]] == [("0-4,6-7", 7, "fp8"), ("5", 1, "bf16")]
    assert experts["encoding"] is None
    assert at(layers, "0-1,3", "block_sparse_moe", "experts", "0-7")["count"] == 8


def test_a_shape_that_differs_stands_apart(tmp_path: Path) -> None:
    tensors, config = llama(layers=3)
    tensors["model.layers.1.input_layernorm.weight"] = ("BF16", (7,))
    assert names(at(drawn(build(tmp_path / "m", tensors, config)), "layers")) == ["0,2", "1"]


def test_orphans_and_helpers_have_bytes(tmp_path: Path) -> None:
    tensors, config = m2(layers=2, experts=2)
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    tensors["model.layers.1.self_attn.k_proj.input_scale"] = ("F32", (1,))
    tensors["model.rank"] = ("I32", (4,))
    folder = build(tmp_path / "m", tensors, config)
    root, weighed = drawn(folder), inspect(open_checkpoint(folder))
    sound(root)
    assert (root["parameters"], root["bytes"]) == (weighed["parameters"], weighed["bytes"])
    orphan = at(root, "layers", "0", "self_attn", "q_proj.weight_scale_inv")
    assert orphan["kind"] == "part" and orphan["parameters"] == 0 and "whose weight is not here" in orphan["problem"]
    key = at(root, "layers", "1", "self_attn", "k_proj")
    assert key["encoding"]["text"].endswith("input_scale") and key["bytes"] == prod((256, 512)) + 2 * 4 * 4 + 4
    assert at(root, "rank")["bytes"] == 16


def test_a_scale_that_does_not_fit_is_a_problem(tmp_path: Path) -> None:
    tensors, config = m2(layers=2)
    tensors["model.layers.1.self_attn.q_proj.weight_scale_inv"] = ("F32", (3, 3))
    layers = at(drawn(build(tmp_path / "m", tensors, config)), "layers")
    assert "weight_scale_inv is [3, 3]" in at(layers, "1", "self_attn", "q_proj")["problem"]
    assert at(layers, "0", "self_attn", "q_proj")["problem"] is None


def test_draft_layers_are_marked(tmp_path: Path) -> None:
    root = drawn(tables.write("deepseek-r1", tmp_path / "c", experts=2))
    assert [layer.get("draft", False) for layer in at(root, "layers")["children"]] == [False, False, True]
    assert names(at(root, "layers", "61"))[:4] == ["embed_tokens", "enorm", "hnorm", "eh_proj"]
    assert names(at(root, "layers", "61"))[-1] == "shared_head"


def test_stacked_and_packed_shapes_count_values(tmp_path: Path) -> None:
    stacked = at(drawn(tables.write("gpt-oss-20b", tmp_path / "o")), "layers", "0-23", "mlp", "experts")
    assert names(stacked) == ["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"]
    assert (stacked["children"][0]["shape"], stacked["children"][0]["axes"]) == ([32, 5760, 2880], ["experts", "2*inter", "hidden"])
    assert stacked["children"][0]["encoding"]["kind"] == "fp4"
    packed = at(drawn(tables.write("qwen3-32b-awq", tmp_path / "q")), "layers", "0-63", "self_attn", "k_proj")
    assert (packed["shape"], packed["axes"]) == ([5120, 1024], ["hidden", "kv_heads*head_dim"])
    assert (packed["encoding"]["kind"], packed["encoding"]["bits"]) == ("int4", 4) and "qzeros" in packed["encoding"]["text"]


def test_towers_stand_before_the_layers(tmp_path: Path) -> None:
    root = drawn(tables.write("mimo-v2.5", tmp_path / "c", experts=2))
    assert names(root) == ["embed_tokens", "visual", "audio_encoder", "speech_embeddings", "layers", "norm", "lm_head", "mtp.layers"]
    assert names(at(drawn(tables.write("kimi-k2.5", tmp_path / "k", experts=2)), "language_model")) == ["embed_tokens", "layers", "norm", "lm_head"]


def test_the_neuron_layout_and_its_ranks(tmp_path: Path) -> None:
    source = write_tiny(tmp_path / "src", **EVEN)
    for name, options in (("file", {}), ("ranks", {"shards": True, "tp": 4, "moe_ep": 4})):
        convert(Model(source).plan("neuron", **options), tmp_path / name, None)
        root, weighed = drawn(tmp_path / name), inspect(open_checkpoint(tmp_path / name))
        sound(root)
        assert (root["parameters"], root["bytes"]) == (weighed["parameters"], weighed["bytes"])
        top = root if name == "file" else at(root, "ranks", "0-3")
        fused = next(node for node in nodes(top) if node["name"] == "gate_up_proj")
        assert fused["axes"] == ["experts", "hidden", "2*inter"] and fused["shape"][1:] == [256, 512]
        assert names(top)[:3] == ["embed_tokens", "layers", "norm"]


def test_an_unknown_family_has_no_axes(tmp_path: Path) -> None:
    tensors, config = llama()
    root = drawn(build(tmp_path / "m", tensors, {**config, "model_type": "nobody"}))
    sound(root)
    assert root["name"] == "nobody" and {str(node["axes"]) for node in nodes(root)} == {"None"}


def test_hostile_names_lose_no_byte(tmp_path: Path) -> None:
    vector = ("BF16", (4,))
    tensors = {name: vector for name in (".weight", "weight", "a.weight", ".a.weight", "a..weight", "a.qweight", "a.b.weight", "a.b", "layers.00.weight",
                                         "layers.0.weight", "layers.0-1.weight", "layers.1.weight", "x." * 300 + "weight", "model", "model.weight", "/",
                                         "tp0/x.weight", "]]>\x1b[31m<b>`|\n.weight", "\u202e.weight")}
    folder = build(tmp_path / "m", tensors, {"model_type": "llama", "num_hidden_layers": 2})
    root = drawn(folder)
    sound(root)
    assert root["bytes"] == inspect(open_checkpoint(folder))["bytes"] == 8 * len(tensors)


WORDS = st.sampled_from(["model", "layers", "experts", "0", "1", "2", "02", "0-1", "self_attn", "q_proj", "gate", "mlp", "norm", "x", "", "tp0/y"])
ENDS = st.sampled_from(["weight", "weight_scale_inv", "bias", "qweight", "qzeros", "scales", "input_scale", "gate_up_proj_blocks", "gate_up_proj_scales", "w"])
NAMES = st.builds(lambda words, end: ".".join([*words, end]), st.lists(WORDS, max_size=5), ENDS)
SHAPES = st.sampled_from([("F8_E4M3", (4, 4)), ("F32", (1, 1)), ("BF16", (4,)), ("I32", (4, 4)), ("U8", (2, 4, 2, 2)), ("F32", ())])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES, SHAPES, min_size=1, max_size=24))
def test_whatever_the_names_no_byte_is_lost(table: dict) -> None:
    with TemporaryDirectory() as place:
        folder = tables.write_headers(Path(place) / "c", table, {"model_type": "llama", "num_hidden_layers": 2})
        root, weighed = drawn(folder), inspect(open_checkpoint(folder))
        sound(root)
        assert (root["parameters"], root["bytes"]) == (weighed["parameters"], weighed["bytes"])
        assert draw_text.text(root) and markdown(root)
        asked = case(folder, "vllm", tp=2)
        ranked = document(asked, asked.targets[0])
        assert sum(child["rank"]["bytes"] for child in ranked["children"]) == ranked["rank"]["weights"]


def test_an_empty_checkpoint_is_drawn(tmp_path: Path) -> None:
    root = drawn(tables.write_headers(tmp_path / "c", {}, {}))
    sound(root)
    assert (root["name"], root["bytes"], root["children"], root["cache"]) == ("model", 0, [], None)
    assert "0 parameters" in draw_text.text(root) and markdown(root)


def test_the_same_whatever_the_hash_seed(tmp_path: Path) -> None:
    folder = build(tmp_path / "d", *deepseek(layers=4))
    code = "import sys, weighbridge as wb, json; print(json.dumps(wb.open(sys.argv[1]).draw(runtime='sglang', tp=2)))"
    outs = {subprocess.run([sys.executable, "-c", code, str(folder)], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
            for seed in ("0", "1", "2")}
    assert len(outs) == 1 and len(outs.pop()) > 1000
