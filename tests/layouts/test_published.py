"""Published forms as rectangles: shapes of the real tables, every value in one place, and values that come back through every form."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import weighbridge as wb
from tests.inspection.tables import CONFIGS, TABLES
from tests.models.test_tables import shapes
from tests.models.variants import COMMON, VARIANTS, config_of
from weighbridge.convert.run import stay_plain
from weighbridge.layouts.placement import Placement
from weighbridge.layouts.published import Candidate, published, split, stored_forms
from weighbridge.models import Inventory, inventory, inventory_of
from weighbridge.testing.safetensors_writer import write_file


def read(placement: Placement, stored: np.ndarray, inventory: Inventory) -> dict[str, np.ndarray]:
    """Each logical weight [out, in] that lies in a stored array."""
    lead = stored.reshape(placement.lead, placement.rows, placement.cols)
    found: dict[str, np.ndarray] = {}
    for part in placement.parts:
        rows, cols = part.extent
        piece = lead[part.lead, part.at_row: part.at_row + rows, part.at_col: part.at_col + cols]
        target = found.setdefault(part.weight, np.full(inventory[part.weight].shape, np.nan))
        target[part.row: part.row + part.rows, part.col: part.col + part.cols] = piece.T if part.turned else piece
    return found


@pytest.mark.parametrize("model", TABLES)
def test_a_binder_finds_every_weight_of_a_real_checkpoint(model: str) -> None:
    """By headers alone, with the shape of the file; gpt-oss's codes under `_blocks`, as [experts, out, in]."""
    headers = shapes(model)
    blocks = {name for name in headers if model == "gpt-oss-20b" and name.endswith(("gate_up_proj", "down_proj"))}

    def held(stem: str, suffix: str) -> bool:
        return (stem in blocks) if suffix == "_blocks" else (stem + suffix in headers and stem + suffix not in blocks)

    made = inventory_of(CONFIGS[model], headers)
    found = stored_forms(made, held)
    assert all(len(candidates) == 1 for candidates in found.values())
    for candidates in found.values():
        name = candidates[0].name.removesuffix("_blocks")
        assert candidates[0].placement.shape == headers[name][0], name
    assert {c[0].name.removesuffix("_blocks") for c in found.values()} == headers.keys()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_form_holds_its_weights_whole(variant: str) -> None:
    """Rectangles of a form cover the stored tensor and each of its weights exactly once."""
    made = inventory(config_of(variant))
    candidates = {c.name: c for several in stored_forms(made).values() for c in several}
    assert {form.name for form in made.forms} <= candidates.keys()
    for candidate in candidates.values():
        placement = candidate.placement
        size = placement.lead * placement.rows * placement.cols
        assert size == int(np.prod(placement.shape))
        whole = read(placement, np.arange(size, dtype=float), made)
        values = np.concatenate([value.ravel() for value in whole.values()])
        assert not np.isnan(values).any() and np.array_equal(np.sort(values), np.arange(size))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_makers_store_each_weight_once(variant: str) -> None:
    made = inventory(config_of(variant))
    stored = published(made)
    assert sorted({part.weight for c in stored for part in c.placement.parts}) == sorted(made.weights)
    assert sum(int(np.prod(c.placement.shape)) for c in stored) == sum(w.parameters for w in made.weights.values())
    assert {c.name for c in stored} == {name for name, due in made.published_names.items() if due}


def candidate(variant: str, name: str) -> tuple[Inventory, Candidate]:
    made = inventory(config_of(variant))
    return made, next(c for several in stored_forms(made).values() for c in several if c.name == name)


def test_gate_is_the_first_half_of_a_turned_stack() -> None:
    """Llama 4: [experts, hidden, 2*inter], expert 2, gate then up."""
    made, c = candidate("llama4_text", "model.layers.1.feed_forward.experts.gate_up_proj")
    experts, hidden, both = c.placement.shape
    stored = np.arange(experts * hidden * both, dtype=float).reshape(c.placement.shape)
    found = read(c.placement, stored, made)
    assert np.array_equal(found["layers.1.moe.experts.2.gate"], stored[2, :, : both // 2].T)
    assert np.array_equal(found["layers.1.moe.experts.2.up"], stored[2, :, both // 2:].T)


def test_gate_stands_above_up_in_a_stack() -> None:
    """transformers 5: [experts, 2*inter, hidden]."""
    made, c = candidate("mixtral", "model.layers.0.mlp.experts.gate_up_proj")
    stored = np.arange(np.prod(c.placement.shape), dtype=float).reshape(c.placement.shape)
    found, half = read(c.placement, stored, made), c.placement.rows // 2
    assert np.array_equal(found["layers.0.moe.experts.3.gate"], stored[3, :half])
    assert np.array_equal(found["layers.0.moe.experts.3.up"], stored[3, half:])


def test_gpt_oss_has_two_orders_and_biases_by_expert() -> None:
    plain = candidate("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj")[1].placement
    codes = candidate("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_blocks")[1].placement
    made, bias = candidate("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_bias")
    assert plain.shape == (codes.shape[0], codes.shape[2], codes.shape[1]) and plain.parts[0].turned and not codes.parts[0].turned
    stored = np.arange(np.prod(bias.placement.shape), dtype=float).reshape(bias.placement.shape)
    assert np.array_equal(read(bias.placement, stored, made)["layers.0.moe.experts.1.gate_up_bias"], stored[1:2])


def test_q_k_and_v_stand_one_behind_the_other() -> None:
    made, c = candidate("phi3", "model.layers.0.self_attn.qkv_proj.weight")
    stored = np.arange(np.prod(c.placement.shape), dtype=float).reshape(c.placement.shape)
    found = read(c.placement, stored, made)
    assert np.array_equal(np.concatenate([found[f"layers.0.attn.{part}"] for part in "qkv"]), stored)
    made, c = candidate("qwen2", "model.layers.0.self_attn.qkv_proj.bias")
    stored = np.arange(np.prod(c.placement.shape), dtype=float)
    assert c.placement.shape == stored.shape
    found = read(c.placement, stored, made)
    assert np.array_equal(np.concatenate([found[f"layers.0.attn.{part}_bias"] for part in "qkv"], axis=1)[0], stored)


def test_the_slices_of_mimo_have_the_grid_of_the_file() -> None:
    """108 scale rows are four grids of 27, one for each slice: the grid follows the rectangles, not the stored tensor (106)."""
    made = inventory(CONFIGS["mimo-v2.5"])
    form = next(form for form in made.forms if form.name == "model.layers.0.self_attn.qkv_proj.weight")
    rows = [made[name].shape[0] for name in form.members]
    assert sum(rows) == 13568 and sum(-(-n // 128) for n in rows) == 108 and -(-13568 // 128) == 106


def test_only_a_weight_has_a_stem() -> None:
    assert split("model.layers.0.self_attn.q_proj.weight") == ("model.layers.0.self_attn.q_proj", ".weight")
    assert split("model.layers.0.mlp.e_score_correction_bias") == ("model.layers.0.mlp.e_score_correction_bias", "")


def write(folder: Path, config: dict) -> Path:
    """The makers' form of a random model, in BF16."""
    random = np.random.default_rng(0)
    tensors = {c.name: ("BF16", c.placement.shape, random.standard_normal(c.placement.shape, np.float32).astype(ml_dtypes.bfloat16).tobytes())
               for c in published(inventory(config))}
    folder.mkdir()
    write_file(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


MIMO = COMMON | {"model_type": "mimo_v2", "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 12, "v_head_dim": 8, "n_routed_experts": 4,
                 "num_experts_per_tok": 2, "moe_intermediate_size": 24, "hybrid_layer_pattern": [0, 1, 0], "moe_layer_freq": [0, 1, 1]}


@pytest.mark.parametrize("config", [config_of("phi3"), config_of("gpt_oss"), config_of("llama4_text"), config_of("ernie4_5_moe"), MIMO],
                         ids=lambda config: config["model_type"])
def test_joined_and_stacked_models_go_to_fp8_and_back(config: dict, tmp_path: Path) -> None:
    folder = write(tmp_path / "in", config)
    wb.open(folder).convert(tmp_path / "fp8", "hf-fp8", block=(4, 4))
    graded, made = wb.open(folder).verify(tmp_path / "fp8"), inventory(config)
    stored = published(made)
    linear = sum(made[c.placement.parts[0].weight].linear for c in stored)
    assert graded["ok"] and graded["weights"] == len(stored) and graded["grades"]["bounded"] == linear > 0
    wb.open(tmp_path / "fp8").convert(tmp_path / "back", "hf-bf16")
    assert wb.open(tmp_path / "fp8").verify(tmp_path / "back")["ok"]
    assert wb.open(tmp_path / "back").checkpoint.tensors.keys() == wb.open(folder).checkpoint.tensors.keys()


def test_a_block_over_two_joined_weights_leaves_them_plain_and_says_so(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", config_of("phi3"))
    plan = wb.open(folder).plan("hf-fp8", block=(32, 32))
    plan.refuse()
    assert any(re.search(r"layers\.0\.attn\.k begins at row 40, a block has 32", row["why"]) for row in stay_plain(plan))
    assert all(not t.encoding.quantized for t in plan.targets if t.stored.stem.endswith("qkv_proj"))
