"""Which layers a skeleton keeps, and that names and settings follow the cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.checkpoint.header import Tensor
from weighbridge.readers.trial.fold import Fold, fold


def model(layers: int, changed: dict[int, str] | None = None, draft: int = 0) -> list[Tensor]:
    """A decoder with one matrix for each layer; `changed` gives other names of it, `draft` layers lie behind the last one."""
    names = ["model.embed_tokens.weight"]
    names += [f"model.layers.{number}.{(changed or {}).get(number, 'mlp')}.weight" for number in range(layers + draft)]
    return [Tensor("BF16", (4, 4), (0, 32), name) for name in names]


@pytest.mark.parametrize(("changed", "config", "kept"), [
    ({}, {}, 1), ({2: "other"}, {}, 3), ({9: "other"}, {}, 10), ({}, {"first_k_dense_replace": 3}, 4), ({}, {"mlp_only_layers": [6]}, 7),
    ({}, {"layer_types": ["full"] * 4 + ["sliding"] * 6}, 5), ({}, {"num_kv_shared_layers": 3}, 10), ({}, {"hidden_size": 8, "shared_intermediate_size": 5}, 1),
    ({}, {"quantization_config": {"ignore": ["model.layers.4.mlp"]}}, 5), ({}, {"quantization_config": {"ignore": ["re:.*layers\\.[0-3]\\..*"]}}, 10),
])
def test_each_kind_of_layer_is_kept(changed: dict[int, str], config: dict[str, Any], kept: int) -> None:
    folded = fold(model(10, changed), {"num_hidden_layers": 10, **config})
    assert (folded.prefix, folded.layers, folded.kept) == ("model.layers.", 10, kept)


def test_a_missing_layer_is_a_kind_of_its_own() -> None:
    tensors = [tensor for tensor in model(10) if not tensor.name.startswith("model.layers.5.")]
    assert fold(tensors, {"num_hidden_layers": 10}).kept == 6


@pytest.mark.parametrize("config", [{}, {"num_hidden_layers": True}, {"num_hidden_layers": "10"}, {"num_hidden_layers": -3}, {"num_hidden_layers": 1}])
def test_without_a_count_nothing_is_cut(config: dict[str, Any]) -> None:
    folded = fold(model(10), config)
    assert not folded.folds
    assert [folded.name(tensor.name) for tensor in model(10)] == [tensor.name for tensor in model(10)]


def test_settings_follow() -> None:
    folded = Fold("model.layers.", 10, 2)
    config = {"num_hidden_layers": 10, "layer_types": list(range(11)), "other": [1, 2],
              "quantization_config": {"ignore": ["model.layers.10.eh_proj", "model.layers.1.mlp", "lm_head"]}}
    made = folded.config(config)
    assert made == {"num_hidden_layers": 2, "layer_types": [0, 1, 10], "other": [1, 2],
                    "quantization_config": {"ignore": ["model.layers.2.eh_proj", "model.layers.1.mlp", "lm_head"]}}
    assert config["num_hidden_layers"] == 10


def test_the_count_in_a_part_for_text() -> None:
    config = {"num_hidden_layers": 10, "text_config": {"num_hidden_layers": 10}}
    assert Fold("model.layers.", 10, 2).config(config)["text_config"] == {"num_hidden_layers": 2}


@given(st.integers(2, 40), st.data())
def test_names_come_back(layers: int, data: st.DataObject) -> None:
    kept, draft = data.draw(st.integers(1, layers)), data.draw(st.integers(0, 3))
    folded = Fold("model.layers.", layers, kept)
    names = [tensor.name for tensor in model(layers, draft=draft)]
    made = [(name, there) for name in names if (there := folded.name(name))]
    assert len({there for _, there in made}) == len(made) == 1 + kept + draft
    assert [folded.original(there) for _, there in made] == [name for name, _ in made]
