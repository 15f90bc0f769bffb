"""The inventory of MiniMax-M2 from its config alone: every weight of a written checkpoint, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import weighbridge.testing
from weighbridge.errors import Refused, WeighbridgeError
from weighbridge.models import inventory
from weighbridge.testing import shapes

CONFIG = json.loads((Path(weighbridge.testing.__file__).parent / "minimax_m2_config.json").read_text())


@pytest.mark.parametrize("sizes", [shapes.Sizes(), shapes.Sizes(2, 192, 576, 6, 2, 32, 4, 512), shapes.Sizes(1, 64, 32, 2, 2, 16, 1, 8)])
def test_names_and_shapes_are_those_of_the_checkpoint(sizes):
    """The second list is that of the test writer, which takes names and shapes from published headers."""
    found = {w.published: (w.shape[1:] if w.vector else w.shape) for w in inventory(shapes.config(sizes)).weights.values()}
    assert found == {s.name: s.shape for s in shapes.tensors(sizes, "bf16")}


def test_the_published_model_in_numbers():
    """47,864 linear weights, 375 others, 228,689,764,864 parameters."""
    model = inventory(CONFIG)
    assert model.model_type == "minimax_m2" and model.sizes["layers"] == 62 and model.sizes["experts"] == 256
    assert sum(w.linear for w in model.weights.values()) == 47_864 == 62 * (4 + 3 * 256)
    assert sum(not w.linear for w in model.weights.values()) == 375
    assert sum(w.parameters for w in model.weights.values()) == 228_689_764_864
    assert model.promised == ("mtp",)


def test_index_sets_are_finite_and_logical_names_unique():
    model = inventory(CONFIG)
    gates = {n for n in model.weights if n.endswith(".gate")}
    assert gates == {f"layers.{l}.moe.experts.{e}.gate" for l in range(62) for e in range(256)}
    assert len({w.published for w in model.weights.values()}) == len(model.weights)
    assert model["layers.61.attn.q"].axes == ("heads*head_dim", "hidden") and model["layers.61.attn.q"].shape == (6144, 3072)
    assert model["layers.0.moe.router_bias"].vector and not model["layers.0.moe.router"].linear


def test_all_complaints_about_a_config_come_at_once():
    with pytest.raises(Refused) as caught:
        inventory({"model_type": "minimax_m2", "hidden_size": -1, "vocab_size": "x"})
    text = str(caught.value)
    assert "-1" in text and "'x'" in text and "num_hidden_layers is missing" in text and len(caught.value.problems) >= 8


def test_an_unknown_family_is_named():
    with pytest.raises(WeighbridgeError) as caught:
        inventory({"model_type": "some_other"})
    assert "some_other" in str(caught.value) and "minimax_m2" in str(caught.value)


def test_a_config_of_a_kilobyte_does_not_cost_gigabytes():
    """No published model has more than 100 layers of 512 experts."""
    with pytest.raises(Refused) as caught:
        inventory(CONFIG | {"num_hidden_layers": 4096, "num_local_experts": 128})
    assert "4096 layers x 128 experts" in str(caught.value)
