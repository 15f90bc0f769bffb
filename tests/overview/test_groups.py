"""All tensor names in groups: expanded, they are exactly the checkpoint's."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inspection.tables import TABLES, write, write_headers
from weighbridge.check.case import Case
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.overview.groups import boxes, filled, inside, kindreds, template_of
from weighbridge.overview.tensors import tensors
from weighbridge.testing.tiny import EVEN, write_tiny


def expand(document: dict[str, Any]) -> dict[str, tuple[object, ...]]:
    """What the page makes of the groups: name -> dtype, shape, file, bytes."""
    found: dict[str, tuple[object, ...]] = {}
    for group in document["groups"]:
        files = [number for count, number in group["files"] for _ in range(count)]
        every = list(product(*(range(first, last + 1) for first, last in group["ranges"])))
        assert len(files) == len(every)
        for numbers, file in zip(every, files, strict=True):
            name = group["name"]
            for place, number in enumerate(numbers):
                name = name.replace(f"{{{place}}}", str(number))
            assert name not in found, f"{name} is told twice"
            found[name] = (group["dtype"], tuple(group["shape"]), document["files"][file], group["bytes"])
    return found


def held(checkpoint: Checkpoint) -> dict[str, tuple[object, ...]]:
    return {name: (t.dtype, t.shape, t.file, t.nbytes) for name, t in checkpoint.tensors.items()}


def told(checkpoint: Checkpoint) -> dict[str, Any]:
    case = Case(checkpoint)
    return tensors(case, kindreds(case), None)


def scales_lie_beside(document: dict[str, Any], checkpoint: Checkpoint) -> None:
    """The scale's group has the numbers of its weight's, and is of its module."""
    for group in document["groups"]:
        if group["scale"] >= 0:
            scale = document["groups"][group["scale"]]
            assert scale["ranges"] == group["ranges"] and scale["scale"] == -1
            assert scale["name"] != group["name"] and scale["name"].startswith(group["name"].rpartition(".")[0])


@pytest.mark.parametrize("model", sorted(TABLES))
def test_groups_of_real_tables_expand_to_the_checkpoint(tmp_path: Path, model: str) -> None:
    checkpoint = open_checkpoint(write(model, tmp_path / "m", experts=5))
    document = told(checkpoint)
    assert document["total"] == len(checkpoint.tensors)
    assert expand(document) == held(checkpoint)
    assert len(document["groups"]) <= len(checkpoint.tensors) // 4 + 60
    scales_lie_beside(document, checkpoint)


def test_m2_is_few_groups(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_tiny(tmp_path / "m", **EVEN))
    document = told(checkpoint)
    assert expand(document) == held(checkpoint) and len(document["groups"]) == 23
    experts = next(g for g in document["groups"] if g["name"] == "model.layers.{0}.block_sparse_moe.experts.{1}.w1.weight")
    assert experts["ranges"] == [[0, 1], [0, 7]] and experts["kind"] == "fp8"
    assert document["groups"][experts["scale"]]["name"].endswith("experts.{1}.w1.weight_scale_inv")


words = st.sampled_from(["layers", "model", "experts", "mlp", "h", "weight", "weight_scale_inv", "scale", "a{0}", "{1}", "}", "tp1/x", "0", "1", "2", "7", "07", "00", "١",
                         "12345678901", "", "bias", "gate_proj"])
names = st.lists(words, min_size=1, max_size=9).map(".".join).filter(bool)
headers = st.sampled_from([("BF16", (2, 2)), ("F8_E4M3", (4, 4)), ("F32", (1, 1)), ("F32", ())])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, headers, min_size=1, max_size=40))
def test_ragged_names_expand_to_themselves(tmp_path_factory: pytest.TempPathFactory, table: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    checkpoint = open_checkpoint(write_headers(tmp_path_factory.mktemp("ragged") / "m", table, {}))
    assert expand(told(checkpoint)) == held(checkpoint)


@given(names, st.booleans())
def test_a_template_filled_is_the_name(name: str, ranks: bool) -> None:
    template, numbers = template_of(name, ranks=ranks)
    assert filled(template, numbers) == name and len(numbers) <= 4


@given(st.integers(0, 3).flatmap(lambda width: st.sets(st.tuples(*[st.integers(0, 5)] * width), min_size=1)))
def test_boxes_hold_every_tuple_once(rows: set[tuple[int, ...]]) -> None:
    found = [numbers for box in boxes(dict.fromkeys(rows)) for numbers in inside(box)]
    assert sorted(found) == sorted(rows)


def test_a_full_product_is_one_box() -> None:
    rows = dict.fromkeys(product(range(3, 7), range(4), range(2)))
    assert list(boxes(rows)) == [((3, 6), (0, 3), (0, 1))]
