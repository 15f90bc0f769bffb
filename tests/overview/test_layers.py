"""The map of layers and modules, and the statistics of scales."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.failures.tools import build, m2
from tests.inspection.tables import TABLES, write
from weighbridge.check.case import Case
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.overview.groups import kindreds
from weighbridge.overview.layers import in_order, layer_map
from weighbridge.overview.statistics import APART, MOST, scales
from weighbridge.testing.tiny import EVEN, write_tiny


def map_of(folder: Path) -> tuple[Case, dict[str, Any]]:
    case = Case(open_checkpoint(folder))
    return case, layer_map(kindreds(case))


@pytest.mark.parametrize("model", sorted(TABLES))
def test_every_weight_is_in_the_map_once(tmp_path: Path, model: str) -> None:
    case, document = map_of(write(model, tmp_path / "m", experts=4))
    layered = sum((last - first + 1) * count for _, first, last, _, count, _ in document["runs"])
    stored = sum((last - first + 1) * size for _, first, last, _, _, size in document["runs"])
    assert layered + sum(row["count"] for row in document["outside"]) == case.survey.total.count
    helpers = sum(sums.bytes for row, sums in case.survey.rows.items() if row.role == "helpers")
    assert stored + sum(row["bytes"] for row in document["outside"]) == case.survey.total.bytes - helpers
    assert all(0 <= first <= last < document["layers"] and 0 <= kind < len(document["encodings"]) for _, first, last, kind, _, _ in document["runs"])
    assert {column for column, *_ in document["runs"]} == set(range(len(document["columns"])))


def test_the_map_of_m2_in_the_order_of_the_forward_pass(tmp_path: Path) -> None:
    _, document = map_of(write("minimax-m2", tmp_path / "m", experts=3))
    assert [column["name"] for column in document["columns"]] == [
        "input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_norm", "self_attn.k_norm", "self_attn.o_proj",
        "post_attention_layernorm", "block_sparse_moe.gate", "block_sparse_moe.e_score_correction_bias", "block_sparse_moe.experts.*.w1",
        "block_sparse_moe.experts.*.w3", "block_sparse_moe.experts.*.w2"]
    assert document["layers"] == 62 and len(document["runs"]) == 13
    kinds = [document["encodings"][run[3]]["kind"] for run in document["runs"]]
    assert kinds == ["bf16", "fp8", "fp8", "fp8", "bf16", "bf16", "fp8", "bf16", "f32", "f32", "fp8", "fp8", "fp8"]
    assert [row["name"] for row in document["outside"]] == ["model.embed_tokens", "model.norm", "lm_head"]


def test_layers_that_differ_are_other_runs(tmp_path: Path) -> None:
    tensors, config = m2(layers=5, experts=2)
    name = "model.layers.2.self_attn.q_proj.weight"
    tensors[name] = ("BF16", tensors[name][1])
    del tensors[name + "_scale_inv"]
    del tensors["model.layers.3.block_sparse_moe.experts.1.w1.weight"], tensors["model.layers.3.block_sparse_moe.experts.1.w1.weight_scale_inv"]
    _, document = map_of(build(tmp_path / "m", tensors, config))
    names = [column["name"] for column in document["columns"]]
    kinds = [e["kind"] for e in document["encodings"]]
    assert [(run[1], run[2], kinds[run[3]]) for run in document["runs"] if names[run[0]] == "self_attn.q_proj"] == [(0, 1, "fp8"), (2, 2, "bf16"), (3, 4, "fp8")]
    assert [(run[1], run[2], run[4]) for run in document["runs"] if names[run[0]].endswith("w1")] == [(0, 2, 2), (3, 3, 1), (4, 4, 2)]


def test_names_of_any_depth_are_ordered() -> None:
    given = [("mlp.down_proj", "mlp.down"), ("a." * 500 + "b", "other"), ("self_attn.q_proj", "attention.q"), ("self_attn.q_proj.bias", "biases")]
    found = in_order(given)
    assert sorted(found) == sorted(given)
    assert [name for name, role in found if role != "other"] == ["self_attn.q_proj", "self_attn.q_proj.bias", "mlp.down_proj"]


def _values(case: Case, name: str) -> np.ndarray:
    tensor = case.checkpoint.tensors[name]
    return np.frombuffer(case.read(tensor), "<f4")


def test_quartiles_are_those_of_the_bytes(tmp_path: Path) -> None:
    case = Case(open_checkpoint(write_tiny(tmp_path / "m", **EVEN)))
    document = scales(case, kindreds(case))
    assert (document["read"], document["total"], document["told"], document["odd"]) == (56, 56, "", 0)
    group = next(g for g in document["groups"] if g["name"] == "block_sparse_moe.experts.*.w2")
    for layer, *five in group["layers"]:
        peaks = [_values(case, f"model.layers.{layer}.block_sparse_moe.experts.{e}.w2.weight_scale_inv").max() for e in range(8)]
        assert five == pytest.approx(np.percentile(np.array(peaks, np.float64), (0, 25, 50, 75, 100)), rel=1e-4)
    assert [layer for layer, *_ in group["layers"]] == [0, 1] and group["outliers"] == [] and group["apart"] == 0


def test_outliers_are_named_by_their_ratio(tmp_path: Path) -> None:
    tensors, config = m2(layers=2, experts=16)
    target = "model.layers.1.block_sparse_moe.experts.{}.w1.weight_scale_inv"
    shape = tensors[target.format(0)][1]
    count = int(np.prod(shape))
    data = {name: struct.pack(f"<{int(np.prod(s))}f", *[0.01] * int(np.prod(s))) for name, (_, s) in tensors.items() if name.endswith("_scale_inv")}
    for expert, factor in ((3, 10.0), (5, 0.1), (6, 3.9)):
        data[target.format(expert)] = struct.pack(f"<{count}f", *[0.01 * factor] * count)
    data["model.layers.0.self_attn.q_proj.weight_scale_inv"] = struct.pack("<f", float("nan")) * (len(data["model.layers.0.self_attn.q_proj.weight_scale_inv"]) // 4)
    case = Case(open_checkpoint(build(tmp_path / "m", tensors, config, data=data)))
    document = scales(case, kindreds(case))
    group = next(g for g in document["groups"] if g["name"].endswith("w1"))
    assert [(o["tensor"], o["layer"], o["ratio"]) for o in group["outliers"]] == [(target.format(3), 1, 10.0), (target.format(5), 1, 0.1)]
    assert group["apart"] == 2 <= MOST and APART == 4.0
    assert document["odd"] == 1


def test_scales_that_are_not_read_are_not_told(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "m", **EVEN)
    case = Case(open_checkpoint(folder), scale_bytes="none")
    assert scales(case, kindreds(case))["groups"] == []
    case = Case(open_checkpoint(folder), scale_bytes="sample")
    assert scales(case, kindreds(case))["mode"] == "sample"
