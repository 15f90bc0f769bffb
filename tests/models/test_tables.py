"""The inventory of each family against every tensor of a published checkpoint: a set equation, and the shapes."""

from __future__ import annotations

from math import prod

import pytest

from tests.inspection.tables import CONFIGS, TABLES, tensors
from weighbridge.errors import Refused
from weighbridge.models import inventory, inventory_of

DRAFTS = ("deepseek-r1", "deepseek-v3.2", "glm-4.5-fp8", "mimo-v2.5")
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


def shapes(model: str) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Name without quantization -> (shape in values, quantized), as the code of formats gives it: here for the three packings of the tables."""
    found = {}
    for name, dtype, shape in tensors(model):
        if name.endswith(HELPERS):
            continue
        if name.endswith(".weight_packed"):  # INT4, eight codes in an int32
            found[name.removesuffix("_packed")] = (shape[0], 8 * shape[1]), True
        elif name.endswith(".qweight"):  # AWQ: [in, out / 8]
            found[name.removesuffix("qweight") + "weight"] = (8 * shape[1], shape[0]), True
        elif name.endswith("_blocks"):  # MXFP4: two codes in a byte
            found[name.removesuffix("_blocks")] = (shape[0], shape[1], 2 * shape[2] * shape[3]), True
        else:
            found[name] = shape, dtype == "F8_E4M3"
    return found


@pytest.mark.parametrize("model", TABLES)
def test_the_inventory_is_the_table(model: str) -> None:
    """Every tensor of the published files has a name of the inventory, and the other way round; draft layers are there as a whole or not at all."""
    made, stored = inventory(CONFIGS[model]), stems(model)
    names = {name.removesuffix(".weight"): due for name, due in made.published_names.items()}
    wanted, optional = {name for name, due in names.items() if due}, {name for name, due in names.items() if not due}
    described = {path for path in stored if not path.startswith(made.foreign)} if made.foreign else set(stored)
    assert described - optional == wanted
    assert optional <= described or not optional & described
    assert bool(optional) == (model in DRAFTS)


@pytest.mark.parametrize("model", TABLES)
def test_no_weight_is_without_a_place(model: str) -> None:
    """A logical weight has a published name, or exactly one of the makers' forms has it; forms name no weight that is not there."""
    made = inventory(CONFIGS[model])
    everything = made.weights | made.optional
    assert len(everything) == len(made.weights) + len(made.optional)
    held = [name for form in made.main_forms for name in form.members]
    assert len(held) == len(set(held)) and set(held) == {name for name, weight in everything.items() if not weight.published}
    assert {name for form in made.forms for name in form.members} <= everything.keys()
    published = [weight.published for weight in everything.values() if weight.published]
    assert len(published) == len(set(published))


@pytest.mark.parametrize("model", TABLES)
def test_with_its_headers_every_tensor_is_a_weight(model: str) -> None:
    """Towers, too: nothing of the files is left out, and nothing counts twice."""
    tables = shapes(model)
    made = inventory_of(CONFIGS[model], tables)
    assert tables.keys() == made.published_names.keys()
    everything = (made.weights | made.optional).values()
    assert made.foreign == () and sum(w.parameters for w in everything) == sum(prod(shape) for shape, _ in tables.values())


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
