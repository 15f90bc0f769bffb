"""The architecture picture: everything of the tree is in it, nothing lies upon anything else, and any name is only a name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.inspection import tables
from tests.report.draw import pictures
from weighbridge.report.draw import svg as draw_svg
from weighbridge.report.draw.block import numbers
from weighbridge.report.draw.pieces import leaves, parameters, short_encoding
from weighbridge.report.draw.words import fit, width, wrapped
from weighbridge.testing import tiny


def check(document: dict[str, Any]) -> str:
    """Legible, complete, the same twice; returns the titles."""
    svg = draw_svg.svg(document)
    root = pictures.assert_legible(svg)
    assert draw_svg.svg(document) == svg
    told = pictures.titles(root)
    paths = {title.partition(";")[0].partition(" (×")[0] for title in told}
    assert not [leaf["path"] for leaf, _ in leaves(document) if leaf["path"] not in paths]
    return " ".join(told)


@pytest.mark.parametrize("model", sorted(tables.TABLES))
def test_real_models(model: str, tmp_path: Path) -> None:
    document = pictures.of_table(model, tmp_path, None if model == "minimax-m2" else 3)
    check(document)
    shown = pictures.words(pictures.parse(draw_svg.svg(document)))
    assert any(word.startswith(("layers ", "layer ")) for word in shown)
    if document["sizes"]["experts"]:
        assert f"{document['sizes']['top_k']} of {document['sizes']['experts']} experts for each token" in shown


def test_dense_llama(tmp_path: Path) -> None:
    document = pictures.llama(tmp_path)
    check(document)
    shown = pictures.words(pictures.parse(draw_svg.svg(document)))
    assert {"layers 0-31 × 32", "32 heads over 8 kv heads, 128 wide", "SiLU(gate) × up", "rope on 128 of 128 dims, theta 500,000"} <= set(shown)


def test_demo_says_what_it_is() -> None:
    document = pictures.draw(pictures.DEMO)
    told = check(document)
    shown = pictures.words(pictures.parse(draw_svg.svg(document)))
    assert {"q_proj", "heads*head_dim 768 × hidden 256", "F8 128x128, F32 scale", "layers 0-3 × 4", "6 heads over 2 kv heads, 128 wide",
            "2 of 8 experts for each token", "experts 0-7 × 8", "tokens", "logits"} <= set(shown)
    assert "F8_E4M3, block 128x128, F32 scales" in told


def test_cards_have_the_colour_of_their_encoding() -> None:
    root = pictures.parse(draw_svg.svg(pictures.draw(pictures.DEMO)))
    found = {(rect.findtext(pictures.SVG + "title") or "").partition(";")[0]: rect.get("class") for rect in root.iter(pictures.SVG + "rect")
             if rect.find(pictures.SVG + "title") is not None}
    assert [cls for name, cls in found.items() if ".q_proj" in name] == ["e-fp8"]
    assert [cls for name, cls in found.items() if name.startswith("model.embed_tokens")] == ["e-bf16"]
    assert [cls for name, cls in found.items() if name.endswith("block_sparse_moe.gate")] == ["e-f32"]


def test_a_rank(tmp_path: Path) -> None:
    source = tiny.write_tiny(tmp_path / "t", experts=8, heads=6, kv_heads=2)
    document = pictures.draw(source, runtime="neuron", settings={"tp": 4, "moe_ep": 4})
    check(document)
    shown = pictures.words(pictures.parse(draw_svg.svg(document)))
    assert any(word.startswith("One rank of neuron: ") for word in shown)
    assert "one rank holds 2" in shown
    assert any(word.startswith("one rank: 256 × 256") for word in shown)  # six heads padded to eight, two for each of four


def test_faults_are_red(tmp_path: Path) -> None:
    source = tiny.write_tiny(tmp_path / "t", inter=256, experts=8)
    document = pictures.draw(source, runtime="vllm", settings={"tp": 4})
    assert document["rank"]["faults"]
    check(document)
    root = pictures.parse(draw_svg.svg(document))
    red = [pictures.shown(e) for e in root.iter(pictures.SVG + "text") if "error" in (e.get("class") or "").split()]
    assert any(word.startswith("does not run: ") for word in red)
    assert any("s-error" in (e.get("class") or "").split() for e in root.iter(pictures.SVG + "rect"))


def test_a_scale_that_does_not_fit_is_marked(tmp_path: Path) -> None:
    document = pictures.of_table("mimo-v2.5", tmp_path, 2)
    shown = pictures.words(pictures.parse(draw_svg.svg(document)))
    assert "Does not fit together" in shown and "!" in shown


def test_layers_with_other_heads_claim_none(tmp_path: Path) -> None:
    """MiMo's layers with a window have eight key/value heads, the others four, and sizes tell four."""
    shown = pictures.words(pictures.parse(draw_svg.svg(pictures.of_table("mimo-v2.5", tmp_path, 2))))
    assert sum(word.startswith("64 heads over 4 kv heads") for word in shown) == 2


def test_windows_are_said_of_the_layers_that_have_them() -> None:
    document = pictures.draw(pictures.DEMO)
    document["decoder"]["windows"] = [[0, 3, 4096]]
    assert any("window 4,096" in word for word in pictures.words(pictures.parse(draw_svg.svg(document))))
    document["decoder"]["windows"] = [[1, 2, 4096], [3, 3, 64]]
    told = next(word for word in pictures.words(pictures.parse(draw_svg.svg(document))) if "window" in word)
    assert told.endswith("window 4,096 in layers 1-2 · window 64 in layer 3")


def test_unknown_families_are_boxes_in_boxes(tmp_path: Path) -> None:
    table = {"foo.bar.3.odd": ("BF16", (10, 20)), "foo.bar.4.odd": ("BF16", (10, 20)), 'a<b>&"x': ("F32", (3,)), "blocks.0.mixer.in.weight": ("BF16", (64, 32)),
             "blocks.1.mixer.in.weight": ("BF16", (64, 32)), "blocks.0.mixer.conv": ("F32", (64, 4)), "blocks.1.mixer.conv": ("F32", (64, 4)), "scalar": ("F32", ())}
    document = pictures.draw(tables.write_headers(tmp_path / "u", table, {"model_type": "never_heard_of"}))
    check(document)
    shown = pictures.words(pictures.parse(draw_svg.svg(document)))
    assert "Other parts" in shown and 'a<b>&"x' in shown and "tokens" not in shown


def test_the_hash_seed_changes_nothing(tmp_path: Path) -> None:
    code = ("import sys; from pathlib import Path; from tests.report.draw import pictures; from weighbridge.report.draw import flow_svg, html as draw_html, svg as draw_svg\n"
            "d = pictures.draw(pictures.DEMO, to='neuron'); sys.stdout.write(draw_svg.svg(d) + flow_svg.svg(d) + draw_html.html(d))")
    made = [subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout for seed in "12"]
    assert made[0] == made[1] and len(made[0]) > 10_000


NAMES = st.one_of(st.text(max_size=60), st.sampled_from(["</title><script>", "]]>", "&amp;", "x" * 5000, "\u202eabc", "0-61", "q_proj", "é漢字🎉", "\ud800", "\x00\x1b[2J"]))
KINDS = st.sampled_from(["embedding", "layers", "layer", "attention", "router", "experts", "expert", "shared_experts", "mlp", "norm", "lm_head", "weight", "part"])
ROLES = st.sampled_from([None, "attention.q", "attention.o", "attention.q_a", "attention.kv_b", "attention.sinks", "experts.gate", "experts.down", "mlp.up", "norms",
                         "router", "biases", "mtp", "vision", "other"])
ENCODING = {"dtype": "F8_E4M3", "strategy": "block", "block": [128, 128], "scale_dtype": "F32", "scale_suffix": ".s", "kind": "fp8", "text": "F8_E4M3, block"}
SHAPES = st.one_of(st.none(), st.lists(st.integers(0, 1 << 40), max_size=5))


HELD = st.none() | st.builds(lambda shape, size, how: {"shape": shape, "bytes": size, "how": how}, SHAPES, st.integers(0, 1 << 50), st.none() | NAMES)


def _node(name: str, kind: str, role: str | None, shape: list[int] | None, coded: bool, problem: str | None, times: int, children: list[dict[str, Any]],
          held: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "path": name, "role": role, "axes": [name] * len(shape) if shape and coded else None, "shape": shape,
            "encoding": ENCODING if coded else None, "count": times, "parameters": times * 3, "bytes": times * 7, "rank": held, "problem": problem, "children": children}


LEAF = st.builds(_node, NAMES, KINDS, ROLES, SHAPES, st.booleans(), st.none() | NAMES, st.integers(1, 300), st.just([]), HELD)
TREE = st.recursive(LEAF, lambda below: st.builds(_node, NAMES, KINDS, st.none(), st.none(), st.booleans(), st.none(), st.integers(1, 300),
                                                  st.lists(below, min_size=1, max_size=5), HELD), max_leaves=25)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(TREE, max_size=4), NAMES, st.integers(0, 2000), st.integers(0, 300), st.booleans())
def test_any_tree_is_a_picture(children: list[dict[str, Any]], name: str, experts: int, heads: int, full: bool) -> None:
    document = {**_node(name, "model", None, None, False, None, 1, children), "schema": "weighbridge.draw/1", "source": name, "model_type": name,
                "sizes": {"experts": experts, "top_k": 8, "heads": heads, "kv_heads": 4, "head_dim": 64}, "decoder": None, "active": None, "cache": None,
                "rank": None, "flow": None}
    if full:
        part = {"name": name, "parameters": 3 * heads, "active": heads, "bytes": 1 << heads % 60}
        document |= {"rank": {"runtime": name, "tp": 8, "moe_tp": 1, "moe_ep": 8, "ep": 0, "weights": 1 << 40, "attention": 3, "experts": 1 << 40, "rest": 0,
                              "cache_bytes_per_token": 0, "faults": [name, f"mlp.up {name}"], "note": name},
                     "decoder": {"norm": "rms", "qk_norm": "head", "rope": {"dims": 64, "theta": 1e4, "kind": name}, "score": name, "bias": True,
                                 "normalize": True, "activation": name, "tied": True, "windows": [[0, 61, 128], [0, 3, 99]]},
                     "active": {"parameters": 1, "bytes": 7, "share": 0.5, "parts": [part] * 9, "says": name},
                     "cache": {"values_per_token": 1, "bytes_per_token": 2, "dtype": name, "full_layers": 1, "windowed": [[128, 3]], "context": 9, "bytes_at_context": 18}}
    found = [leaf for leaf, _ in leaves(document)] if children else []
    for number, leaf in enumerate(found):
        leaf["path"] = f"leaf {number}"
    svg = draw_svg.svg(document)
    root = pictures.assert_legible(svg)
    assert "<script" not in svg
    told = {title.partition(";")[0].partition(" (×")[0] for title in pictures.titles(root)}
    assert {f"leaf {number}" for number in range(len({id(leaf) for leaf in found}))} <= told


@given(NAMES, st.floats(0, 500), st.sampled_from(["", "small", "bold", "head", "mono", "small bold"]))
def test_words_fit(words: str, room: float, classes: str) -> None:
    shown = fit(words, room, classes)
    assert width(shown, classes) <= max(room, width("…", classes))
    for line in wrapped(words, room, classes):
        assert width(line, classes) <= max(room, width("…", classes))


def test_short_words() -> None:
    assert short_encoding(ENCODING) == "F8 128x128, F32 scale"
    assert short_encoding({**ENCODING, "dtype": "U8", "kind": "fp4", "block": [1, 32], "scale_dtype": "U8"}) == "FP4 1x32, U8 scale"
    assert short_encoding(None) == "mixed encodings"
    assert [parameters(n) for n in (7, 1536, 48_774_656, 228_689_764_864, 1_030_000_000_000)] == ["7", "1.5 k", "48.8 M", "228.69 B", "1.03 T"]
    assert numbers("0,2,4-6") == [0, 2, 4, 5, 6] and numbers("x-1") == [] and numbers("0-99999999") == []
    assert fit("model.layers.block_sparse_moe", 90) == "model…_moe"
