"""`inspect` over real tensor tables, over the full-size replica's headers, and over checkpoints with one fault each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.formats.claim import read_claims
from weighbridge.formats.match import split, stored_weights
from weighbridge.inspection import inspect, tensor_list
from weighbridge.inspection.survey import Survey
from weighbridge.layouts import layout
from weighbridge.layouts.options import Options
from weighbridge.models import inventory
from weighbridge.report.inspect import text as inspect_text
from weighbridge.testing import shapes
from weighbridge.testing.replica import write_replica

sys.path.insert(0, str(Path(__file__).parent))
import tables

CONTRACT = {"schema", "model_type", "shards", "tensors", "parameters", "bytes", "bytes_bf16", "roles", "claims", "disagreements"}
ROW = {"role", "dtype", "strategy", "block", "scale_suffix", "scale_dtype", "count", "parameters", "bytes"}
FP8 = {"quant_method": "fp8", "fmt": "float8_e4m3fn", "weight_block_size": [128, 128]}


def weigh(folder: Path) -> dict:
    return inspect(open_checkpoint(folder))


def codes(document: dict) -> set[str]:
    return {found["code"] for found in document["disagreements"]}


def pick(document: dict, role: str) -> list[tuple]:
    keys = ("dtype", "strategy", "block", "scale_suffix", "scale_dtype", "count", "parameters")
    return [tuple(row[key] for key in keys) for row in document["roles"] if row["role"] == role]


@pytest.fixture(scope="module")
def m2(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return weigh(write_replica(tmp_path_factory.mktemp("m2") / "replica", scales="zero"))


def test_m2_has_the_published_numbers(m2: dict) -> None:
    assert m2.keys() >= CONTRACT and all(row.keys() >= ROW for row in m2["roles"])
    assert (m2["shards"], m2["tensors"], m2["weights_quantized"], m2["scales"], m2["others"]) == (125, 96_103, 47_864, 47_864, 375)
    assert (m2["parameters"], m2["bytes"], m2["bytes_bf16"]) == (228_689_764_864, 230_121_630_720, 457_379_529_728)
    assert pick(m2, "experts.down") == [("F8_E4M3", "block", [128, 128], ".weight_scale_inv", "F32", 15_872, 74_893_492_224)]
    assert pick(m2, "router") == [("F32", "none", None, None, None, 62, 48_758_784)]
    assert [row["role"] for row in m2["roles"]] == [
        "embedding", "attention.q", "attention.k", "attention.v", "attention.o", "router", "router.bias", "experts.gate", "experts.up",
        "experts.down", "norms", "lm_head"]


def test_m2_in_words(m2: dict) -> None:
    text = inspect_text.text(m2)
    assert "47,864 FP8 weights with 47,864 F32 scales, 375 others, 96,103 tensors" in text
    assert "228,689,764,864 parameters in 230,121,630,720 bytes" in text
    assert "457.38 GB" in text and "50.3 %" in text
    assert codes(m2) == {"mtp-absent", "file-count"}
    assert {d["code"]: d["level"] for d in m2["disagreements"]} == {"mtp-absent": "differs", "file-count": "note"}
    assert "| experts.gate | F8_E4M3 | block | 128x128 |" in inspect_text.markdown(m2)


@pytest.mark.parametrize("model", tables.TABLES)
def test_real_tables_are_all_explained(model: str, tmp_path: Path) -> None:
    folder = tables.write(model, tmp_path / model, experts=3)
    document = weigh(folder)
    listed = list(tables.tensors(model, experts=3))
    assert document["tensors"] == len(listed)
    assert document["bytes"] == sum(tensor_bytes(dtype, shape) for _, dtype, shape in listed)
    assert document["bytes"] == sum(row["bytes"] for row in document["roles"])
    assert document["parameters"] == sum(row["parameters"] for row in document["roles"])
    assert document["tensors"] == document["weights_quantized"] + document["scales"] + document["helpers"] + document["others"]
    assert not pick(document, "other")
    expected = {"mimo-v2.5": {"scale-shape", "skip-unmatched"}, "minimax-m2": {"mtp-absent"}}
    assert codes(document) == expected.get(model, set())
    assert inspect_text.text(document) and inspect_text.markdown(document)


def tensor_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return shapes.Spec("", dtype, shape).nbytes


@pytest.mark.parametrize("model", tables.TABLES)
def test_every_weight_has_the_scheme_that_match_finds(model: str, tmp_path: Path) -> None:
    """The survey judges each kind of headers once; `formats.match` looks at every weight."""
    checkpoint = open_checkpoint(tables.write(model, tmp_path / model, experts=2))
    survey = Survey(checkpoint, read_claims(checkpoint), keep=True)
    matched = {weight.code.name: weight for weight in stored_weights(checkpoint.tensors, survey.claims).values()}
    assert survey.weights
    for name, _, scale, suffix, _, pair in survey.weights:
        weight = matched[name]
        assert (pair.kind.encoding, pair.kind.shape, pair.kind.slices) == (weight.fit.encoding, weight.fit.shape, weight.fit.slices)
        assert set(weight.tensors) - {split(name)[1]} == {*pair.helpers, *([suffix] if scale is not None else [])}


def test_helpers_belong_to_their_weight(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(tables.write("qwen3-32b-awq", tmp_path / "awq"))
    survey = Survey(checkpoint, read_claims(checkpoint))
    key = survey.keys["model.layers.mlp.down_proj.qweight"]
    (pair,) = key.pairs.values()
    assert (pair.kind.scheme, pair.row.scale_suffix, pair.helpers) == ("awq-int4", ".scales", (".qzeros",))
    assert survey.keys["model.layers.mlp.down_proj.qzeros"].weight_name("a.down_proj.qzeros") == "a.down_proj.qweight"


def test_claims_of_parts_are_all_read(tmp_path: Path) -> None:
    """A group of compressed-tensors, a layer of ModelOpt's table, a pattern of GPTQModel's: each can have a size of its own."""
    table = {"model.layers.0.mlp.up_proj.qweight": ("I32", (32, 128)), "model.layers.0.mlp.up_proj.scales": ("F16", (8, 128)),
             "model.layers.0.mlp.up_proj.qzeros": ("I32", (8, 16))}
    claim = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"+:.*up_proj": {"group_size": 32}}}
    document = weigh(tables.write_headers(tmp_path / "c", table, {"quantization_config": claim}))
    assert pick(document, "mlp.up")[0][1:3] == ("group", [32, 1]) and not codes(document)


def test_a_second_scale_is_counted(tmp_path: Path) -> None:
    """Two scales beside one weight: no reader takes both, and rows still add up."""
    table = {Q + ".weight": ("F8_E4M3", (128, 128)), Q + ".weight_scale_inv": ("F32", (1, 1)), Q + ".weight_scale": ("F32", (1, 1))}
    document = weigh(tables.write_headers(tmp_path / "c", table, {"quantization_config": FP8}))
    assert document["bytes"] == sum(row["bytes"] for row in document["roles"]) == 128 * 128 + 8
    assert codes(document) == {"encoding"}


def test_packed_formats_count_real_parameters(tmp_path: Path) -> None:
    kimi = weigh(tables.write("kimi-k2.5", tmp_path / "kimi", experts=1))
    assert pick(kimi, "experts.gate") == [("I32", "group", [1, 32], ".weight_scale", "BF16", 60, 60 * 2048 * 7168)]
    oss = weigh(tables.write("gpt-oss-20b", tmp_path / "oss"))
    assert pick(oss, "experts.gate_up") == [("U8", "group", [1, 32], "_scales", "U8", 24, 24 * 32 * 5760 * 2880)]
    awq = weigh(tables.write("qwen3-32b-awq", tmp_path / "awq"))
    assert pick(awq, "mlp.down") == [("I32", "group", [128, 1], ".scales", "BF16", 64, 64 * 25600 * 5120)]


def test_nvfp4_needs_no_claim_for_its_group(tmp_path: Path) -> None:
    table = {"model.layers.0.mlp.up_proj.weight": ("U8", (256, 64)), "model.layers.0.mlp.up_proj.weight_scale": ("F8_E4M3", (256, 8)),
             "model.layers.0.mlp.up_proj.weight_scale_2": ("F32", ()), "model.layers.0.mlp.up_proj.input_scale": ("F32", ())}
    document = weigh(tables.write_headers(tmp_path / "c", table, {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}))
    assert pick(document, "mlp.up") == [("U8", "group", [1, 16], ".weight_scale", "F8_E4M3", 1, 256 * 128)]
    assert (document["helpers"], document["disagreements"]) == (2, [])


Q = "model.layers.0.self_attn.q_proj"


def one(tmp_path: Path, scale: tuple[str, tuple[int, ...]] | None, claim: dict | None, weight: tuple[str, tuple[int, ...]] = ("F8_E4M3", (576, 256)),
        suffix: str = ".weight_scale_inv") -> dict:
    table = {Q + ".weight": weight} | ({Q + suffix: scale} if scale else {})
    return weigh(tables.write_headers(tmp_path / "c", table, {"quantization_config": claim} if claim else {}))


def test_ragged_block_is_the_claimed_one(tmp_path: Path) -> None:
    document = one(tmp_path, ("F32", (5, 2)), FP8)
    assert pick(document, "attention.q")[0][1:3] == ("block", [128, 128]) and not codes(document)


def test_block_is_never_derived(tmp_path: Path) -> None:
    document = one(tmp_path, ("F32", (5, 2)), {**FP8, "weight_block_size": None})
    assert pick(document, "attention.q")[0][1:3] == ("block", None)
    assert "claims no size of a block" in document["disagreements"][0]["message"]


def test_grid_that_is_not_the_claimed_one(tmp_path: Path) -> None:
    document = one(tmp_path, ("F32", (4, 2)), FP8)
    assert pick(document, "attention.q")[0][1:3] == ("block", None)
    message = document["disagreements"][0]["message"]
    assert message == "weight_scale_inv is [4, 2], a weight of [576, 256] values needs [5, 2] (block 128x128 fp8-block)"


@pytest.mark.parametrize(("shape", "strategy"), [((), "tensor"), ((1,), "tensor"), ((576, 1), "channel"), ((576,), "channel"), ((1, 1), "tensor")])
def test_tensor_and_channel(tmp_path: Path, shape: tuple[int, ...], strategy: str) -> None:
    document = one(tmp_path, ("F32", shape), {"quant_method": "fp8"}, suffix=".weight_scale")
    assert pick(document, "attention.q")[0][1:3] == (strategy, None) and not codes(document)


def test_small_weight_in_one_block(tmp_path: Path) -> None:
    document = one(tmp_path, ("F32", (1, 1)), FP8, weight=("F8_E4M3", (64, 64)))
    assert pick(document, "attention.q")[0][1:3] == ("block", [128, 128])


def test_codes_without_claim_scale_or_weight(tmp_path: Path) -> None:
    assert codes(one(tmp_path / "a", ("F32", (5, 2)), None)) == {"claim-missing", "scale-shape"}
    assert codes(one(tmp_path / "b", None, FP8)) == {"weight-without-scale"}
    assert codes(one(tmp_path / "c", ("F32", (5, 2)), FP8, weight=("BF16", (576, 256)))) == {"scale-beside-float", "claim-without-codes"}
    lone = weigh(tables.write_headers(tmp_path / "d", {Q + ".weight_scale_inv": ("F32", (5, 2))}, {}))
    assert codes(lone) == {"scale-without-weight"} and (lone["parameters"], lone["helpers"], lone["bytes"]) == (0, 1, 40)


def test_scale_of_one_layer_without_its_weight(tmp_path: Path) -> None:
    table = {Q + ".weight": ("F8_E4M3", (128, 128)), Q + ".weight_scale_inv": ("F32", (1, 1)),
             Q.replace(".0.", ".1.") + ".weight_scale_inv": ("F32", (1, 1))}
    document = weigh(tables.write_headers(tmp_path / "c", table, {"quantization_config": FP8}))
    assert codes(document) == {"scale-without-weight"} and (document["scales"], document["helpers"]) == (1, 1)


@pytest.mark.parametrize(("entry", "expected"), [
    ("self_attn", {"skip-quantized"}), (Q, {"skip-quantized"}), ("re:.*q_proj$", {"skip-quantized"}), ("gate", {"skip-unmatched"}),
    ("q_pro", {"skip-unmatched"}), ("*q_proj", {"skip-quantized"}), ("re:(", {"skip-unmatched"}), ("", {"skip-unmatched"})])
def test_skip_entries(tmp_path: Path, entry: str, expected: set[str]) -> None:
    assert codes(one(tmp_path, ("F32", (5, 2)), {**FP8, "modules_to_not_convert": [entry]})) == expected


def test_index_total_size(tmp_path: Path) -> None:
    folder = write_replica(tmp_path / "r", layers=1, experts=2, vocab=256, scales="zero")
    assert "index-total-size" not in codes(weigh(folder))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["metadata"]["total_size"] += 1
    path.write_text(json.dumps(index))
    assert "index-total-size" in codes(weigh(folder))


def test_missing_tensor_of_the_index_is_shown(tmp_path: Path) -> None:
    folder = write_replica(tmp_path / "r", layers=1, experts=2, vocab=256, scales="zero")
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.ghost.weight"] = index["weight_map"]["lm_head.weight"]
    path.write_text(json.dumps(index))
    assert "index-names-absent" in codes(weigh(folder))


@pytest.mark.parametrize("config", [{}, {"model_type": "minimax_m2"}, {"model_type": 7, "quantization_config": []},
                                    {"quantization_config": {"quant_method": 3, "weight_block_size": [0, "x"], "config_groups": {"a": 1}, "ignore": [1, None]}}])
def test_no_config_makes_it_fail(tmp_path: Path, config: dict) -> None:
    table = {name: (dtype, shape) for name, dtype, shape in tables.tensors("minimax-m2", experts=1)}
    document = weigh(tables.write_headers(tmp_path / "c", table, config))
    assert pick(document, "experts.gate")[0][3:6] == (".weight_scale_inv", "F32", 62)
    assert inspect_text.text(document)


@pytest.mark.parametrize(("name", "attention"), [("neuron", "published"), ("neuron", "exact"), ("neuron", "bf16"), ("neuron-shards", "row")])
def test_neuron_layout(tmp_path: Path, name: str, attention: str) -> None:
    sizes = shapes.Sizes(layers=2, hidden=256, inter=256, heads=8, kv_heads=2, head_dim=128, experts=4, vocab=512)
    config = shapes.config(sizes)
    table = {}
    source = SimpleNamespace(inventory=inventory(config))
    for stored in layout(name).stored(source, Options(attention=attention, tp=2)):
        if stored.constant is None:
            for field in stored.encoding.stored_fields if stored.encoding else ():
                table[stored.field_name(field)] = (field.dtype, stored.field_shape(field))
            if not stored.encoding:
                table[stored.name] = ("BF16", stored.shape)
    document = weigh(tables.write_headers(tmp_path / "c", table, config))
    assert not pick(document, "other") and not codes(document) & {"scale-shape", "scale-without-weight", "weight-without-scale"}
    assert pick(document, "experts.gate_up")[0][1:4] == (("group", [1, 128], ".scale") if attention == "exact" else ("block", [128, 128], ".scale"))
    expected = {"published": "channel", "row": "channel", "exact": "group", "bf16": "none"}[attention]
    assert {row[1] for row in pick(document, "attention.q")} == {expected}


def test_list_of_tensors(tmp_path: Path) -> None:
    folder = write_replica(tmp_path / "r", layers=11, experts=1, vocab=256, scales="zero")
    listed = tensor_list(open_checkpoint(folder), "*.self_attn.q_proj.weight")
    assert [t["name"].split(".")[2] for t in listed["list"]] == [str(n) for n in range(11)]
    assert listed["list"][0] | {"file": ""} == {"name": Q + ".weight", "dtype": "F8_E4M3", "shape": [6144, 3072], "file": "", "bytes": 18_874_368}
    assert "6144x3072" in inspect_text.list_text(listed)
    assert inspect_text.list_text(tensor_list(open_checkpoint(folder), "nothing")) == "no tensor matches nothing"
