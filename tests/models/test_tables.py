"""The inventory of each family against every tensor of a published checkpoint: a set equation, and the shapes."""

from __future__ import annotations

from math import prod

import pytest

from tests.inspection.tables import CONFIGS, TABLES, tensors
from weighbridge.errors import Refused
from weighbridge.models import inventory

HELPERS = (".weight_scale_inv", ".weight_scale", ".scales", ".qzeros", "_scales", ".weight_shape")


def stems(model: str) -> dict[str, tuple[int, ...]]:
    """Module path -> stored shape, without scales and other helpers."""
    found = {}
    for name, _, shape in tensors(model):
        if not name.endswith(HELPERS):
            for ending in (".weight_packed", ".qweight", "_blocks", ".weight"):
                name = name.removesuffix(ending)
            found[name] = shape
    return found


@pytest.mark.parametrize("model", TABLES)
def test_the_inventory_is_the_table(model: str) -> None:
    made, stored = inventory(CONFIGS[model]), stems(model)
    wanted = {w.published.removesuffix(".weight"): w for w in made.weights.values()}
    optional = {w.published.removesuffix(".weight"): w for w in made.optional.values()}
    described = {path for path in stored if not path.startswith(made.foreign)} if made.foreign else set(stored)
    assert wanted.keys() - described == set()
    assert described - wanted.keys() - optional.keys() == set()
    assert set(optional) <= described, "the published files hold the draft layers"
    packed = {name.rpartition(".")[0] for name, dtype, _ in tensors(model) if dtype == "I32"}
    for path, weight in (wanted | optional).items():
        shape = stored[path]
        if path not in packed and len(shape) <= 2:
            assert (prod(shape) == weight.shape[1] if weight.vector else shape == weight.shape), path


@pytest.mark.parametrize("model", TABLES)
def test_sizes_have_the_common_names(model: str) -> None:
    assert {"hidden", "layers", "heads", "kv_heads", "head_dim", "inter", "vocab"} <= inventory(CONFIGS[model]).sizes.keys()


@pytest.mark.parametrize("model", TABLES)
@pytest.mark.parametrize("value", [0, -1, 1 << 40, "x", True, None, [], 1.5])
def test_a_size_that_is_none_is_refused_with_its_key(model: str, value: object) -> None:
    """`layers`, `hidden`, `heads` and `vocab` have no other source: nothing but a whole number from 1 on is believed."""
    for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size"):
        config = {**CONFIGS[model], key: value}
        if isinstance(config.get("text_config"), dict):
            config["text_config"] = {**config["text_config"], key: value}
        with pytest.raises(Refused) as caught:
            inventory(config)
        assert key in str(caught.value)


def test_draft_layers_count_in_the_bound() -> None:
    huge = {**CONFIGS["deepseek-r1"], "num_hidden_layers": 1, "n_routed_experts": 65536, "num_nextn_predict_layers": 64}
    with pytest.raises(Refused, match="no model that exists"):
        inventory(huge)
