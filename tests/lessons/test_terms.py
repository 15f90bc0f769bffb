"""Pages of terms: whole, their words exist, and every number in them is made again by another way."""

from __future__ import annotations

import json
import re
from functools import cache
from math import log10
from pathlib import Path
from statistics import NormalDist

import ml_dtypes
import numpy as np
import pytest

from weighbridge.check.rule import rules
from weighbridge.formats.schemes import SCHEMES
from weighbridge.lessons import containers, elements, formats, pages, published, term, wide

ROOT = Path(__file__).resolve().parents[2]
FORMATS = (*formats.SMALL, *containers.CONTAINERS, *wide.WIDE)
ASKED = {"weight_scale_inv", "weight_scale", "scale", "block-quantization", "group-quantization", "channel", "tensor-scale", "240-vs-448", "halving",
         "legacy-448-240",
         "reciprocal", "amax", "saturation", "subnormal", "e8m0-scales", "microscaling", "modules_to_not_convert", "dynamic-activation", "kv-cache",
         "tensor-parallel",
         "expert-parallel", "block-grid-and-shards", "memory-in-bytes", "sqnr", "e_score_correction_bias", "router"}


def everything(name: str) -> str:
    """All text of a page, numbers filled in."""
    return "\n".join(term.sections(term.terms()[name]).values())


def test_the_terms_that_are_asked_for_are_there() -> None:
    assert set(term.terms()) >= ASKED


@pytest.mark.parametrize("name", term.terms())
def test_a_term_is_whole(name: str) -> None:
    held = term.terms()[name]
    headings = re.findall(r"^## (.+)$", held.page, re.MULTILINE)
    assert headings == [h for h in term.SECTIONS if h in headings], "sections in their order"
    assert {"What it is", "What goes wrong", "See also", "References"} <= set(headings)
    assert held.says.endswith(".") and held.says[0] != " "
    told = pages.document(name)
    assert (told["schema"], told["what"], told["kind"]) == ("weighbridge.explain/1", name, "term")
    assert told["references"] and all(told["sections"].values())
    text = everything(name)
    assert "{" not in text and "}" not in text and "None" not in text
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("name", term.terms())
def test_every_number_that_is_computed_stands_in_the_page(name: str) -> None:
    held = term.terms()[name]
    asked = set(re.findall(r"{(\w+)}", held.page))
    assert asked == set(held.numbers() if held.numbers else ()), "each placeholder is filled, and nothing is computed in vain"


@pytest.mark.parametrize("name", (*term.terms(), *FORMATS))
def test_see_also_leads_somewhere_and_not_in_a_circle_of_one(name: str) -> None:
    words = pages.document(name)["see_also"]
    assert words and len(words) == len(set(words))
    for word in words:
        assert pages.document(word)["what"] in (word, name) and word != name, word


@pytest.mark.parametrize("name", term.terms())
def test_words_in_the_text_that_ask_for_a_page_find_one(name: str) -> None:
    for word in re.findall(r"explain ([\w-]+)`", everything(name)):
        assert pages.document(word)["what"] == word
    for code in re.findall(r"\bWB\d{3}\b", term.terms()[name].page):
        assert code in rules()


def test_no_word_means_two_things() -> None:
    words: list[str] = [term.plain(w) for held in term.terms().values() for w in (held.name, *held.also)]
    words += [term.plain(w) for w in (*FORMATS, *elements.elements(), *SCHEMES, *pages.SPELLED, *pages.LISTS)]
    words += [loaded.rule.name for loaded in rules().values()]
    assert len(words) == len(set(words)), sorted(w for w in words if words.count(w) > 1)
    assert set(pages.SPELLED.values()) <= set(FORMATS)


@pytest.mark.parametrize("file", ["docs/skip-lists.md", "docs/architecture.md", "weighbridge/encoding/codec.py", "weighbridge/verify/run.py"])
def test_own_files_in_references_exist(file: str) -> None:
    assert (ROOT / file).is_file()


# Numbers, by another way: ml_dtypes casts in place of the codec, closed forms in place of the inventory.

@cache
def gauss() -> dict[str, float]:
    """One block of Gaussian quantiles through ml_dtypes."""
    fn = ml_dtypes.float8_e4m3fn
    weight = np.array([NormalDist().inv_cdf((i + 0.5) / 16384) for i in range(16384)], np.float32) * np.float32(0.02)
    scale = np.float32(np.abs(weight).max() / np.float32(448))
    code = (weight / scale).astype(fn)
    held = code.astype(np.float64)

    def off(made: np.ndarray, true: np.ndarray) -> float:
        return float(np.linalg.norm(made - true) / np.linalg.norm(true))

    half = (code.astype(np.float32) / 2).astype(fn).astype(np.float64) * 2
    legacy = (code.astype(np.float32) / np.float32(448 / 240)).astype(ml_dtypes.bfloat16).astype(fn).astype(np.float64) * (448 / 240)
    return {"scale": float(scale), "amax": float(np.abs(weight).max()), "fp8": off(held * scale, weight.astype(np.float64)),
            "halving": off(half, held),
            "legacy": off(legacy, held), "total": off(legacy * scale, weight.astype(np.float64)), "clamped": off(np.clip(held, -240, 240), held),
            "above": float(np.mean(np.abs(held) > 240)), "half_changed": float(np.mean(half != held)),
            "legacy_changed": float(np.mean(np.abs(legacy / np.where(held == 0, 1, held) - (held != 0)) > 1e-6)),
            "bf16": off(weight.astype(ml_dtypes.bfloat16).astype(np.float64), weight.astype(np.float64))}


def shown(text: str, pattern: str) -> float:
    """The number that stands where `pattern` has (…)."""
    found = re.search(pattern, " ".join(text.split()))
    assert found, (pattern, text)
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize(("name", "pattern", "key", "factor"), [
    ("240-vs-448", r"Gaussian block (\S+) % of the codes are above", "above", 100), ("240-vs-448", r"to 240 costs (\S+) %", "clamped", 100),
    ("halving", r"Gaussian block (\S+) % of the weights change", "half_changed", 100), ("halving", r"and the error is (\S+) %", "halving", 100),
    ("halving", r"448/240 has (\S+) %", "legacy", 100), ("legacy-448-240", r"with an error of (\S+) %", "legacy", 100),
    ("legacy-448-240", r"Gaussian block (\S+) % of the weights", "legacy_changed", 100), ("legacy-448-240", r"together it is (\S+) %", "total", 100),
    ("legacy-448-240", r"FP8 itself cost (\S+) %", "fp8", 100), ("block-quantization", r"FP8 is (\S+) %", "fp8", 100),
    ("block-quantization", r"BF16 has (\S+) %", "bf16", 100), ("weight_scale_inv", r"gets the scale ([\d.e-]+)\. Code", "scale", 1),
    ("weight_scale_inv", r"magnitude of (\S+) gets", "amax", 1), ("amax", r"amax = (\S+) in a block", "amax", 1),
                                                                ("channel", r"anyway, (\S+) % on", "fp8", 100),
])
def test_numbers_of_a_gaussian_block(name: str, pattern: str, key: str, factor: float) -> None:
    assert shown(everything(name), pattern) == pytest.approx(gauss()[key] * factor, rel=0.06 if key == "halving" else 0.006)


def test_the_reciprocal_by_arithmetic() -> None:
    for name, pattern in (("weight_scale_inv", r": ([\d.e+]+) times too large"), ("reciprocal", r"1/scale\^2 = ([\d.e+]+) times")):
        assert shown(everything(name), pattern) == pytest.approx(1 / gauss()["scale"] ** 2, rel=0.05)


@pytest.mark.parametrize(("key", "pattern"), [("bf16", r"to BF16 (\S+) dB"), ("fp8", r"to FP8 (\S+) dB"), ("halving", r"by halving (\S+) dB"),
                                              ("legacy", r"by 448/240 (\S+) dB")])
def test_decibels(key: str, pattern: str) -> None:
    assert shown(everything("sqnr"), pattern) == pytest.approx(-20 * log10(gauss()[key]), abs=0.6 if key == "halving" else 0.06)
    assert shown(everything("sqnr"), r"for a scale gives (\S+) dB") == pytest.approx(20 * log10(gauss()["scale"] ** 2), abs=0.6)


def test_counts_over_all_codes() -> None:
    every = np.arange(256, dtype=np.uint8)
    fn, ieee = every.view(ml_dtypes.float8_e4m3fn).astype(np.float64), every.view(ml_dtypes.float8_e4m3).astype(np.float64)
    text = everything("240-vs-448")
    assert shown(text, r"share the name E4M3 and (\d+) of 256") == np.sum(fn == ieee)
    assert shown(text, r"are the difference: (\d+)") == np.sum(np.abs(fn) > 240)
    finite = fn[np.isfinite(fn)]
    half = (finite.astype(np.float32) / 2).astype(ml_dtypes.float8_e4m3fn).astype(np.float64) * 2
    legacy = (finite.astype(np.float32) / np.float32(448 / 240)).astype(ml_dtypes.bfloat16).astype(ml_dtypes.float8_e4m3fn)
    legacy = legacy.astype(np.float64) * 448 / 240
    normal = np.abs(finite) >= 2.0**-6
    error = np.abs(legacy - finite)[normal] / np.abs(finite)[normal]
    text = everything("halving")
    assert shown(text, r"odd ones below 0x10, (\d+) of 254") == np.sum(half != finite) and len(finite) == 254
    assert (shown(text, r"Of the (\d+) normal"), shown(text, r"codes (\d+) change value")) == (normal.sum(), np.sum((half != finite)[normal]))
    text = everything("legacy-448-240")
    assert shown(text, r"codes (\d+) change value") == np.sum(error > 1e-6)
    assert shown(text, r"value: (\S+) % on average") == pytest.approx(error.mean() * 100, rel=0.005)
    assert shown(text, r"average, (\S+) % at most") == pytest.approx(error.max() * 100, rel=0.005)


def test_the_weight_of_minimax_m2_by_closed_forms() -> None:
    layers, experts, hidden, inter, vocab, heads, keys = 62, 256, 3072, 1536, 200064, 6144, 1024
    fp8 = layers * (2 * heads * hidden + 2 * keys * hidden + 3 * experts * inter * hidden)
    scales = fp8 // 16384
    bf16 = layers * (heads + keys + 2 * hidden) + 2 * vocab * hidden + hidden
    f32 = layers * (experts * hidden + experts)
    text = everything("memory-in-bytes")
    assert shown(text, r"([\d,]+) tensors \(") == 96103 == 2 * layers * (4 + 3 * experts) + layers * 6 + 3
    assert shown(text, r"\(([\d,]+) of them") == layers * (4 + 3 * experts) == 47864
    assert shown(text, r"([\d,]+) parameters,") == fp8 + bf16 + f32 == 228_689_764_864
    size = fp8 + 4 * scales + 2 * bf16 + 4 * f32
    assert shown(text, r"([\d,]+) bytes =") == size == 230_121_630_720
    assert shown(text, r"it would be (\S+) GB") == round(2 * (fp8 + bf16 + f32) / 1e9)
    assert shown(text, r"= (\S+) GB \(") == round(size / 1e9, 2) and shown(text, r"\((\S+) GiB\)") == round(size / 2**30, 2)
    layer = fp8 // layers + 4 * scales // layers + 2 * (heads + keys + 2 * hidden) + 4 * (experts * hidden + experts)
    assert shown(text, r"layer has (\S+) GB in FP8") == round(layer / 1e9, 2)
    assert shown(text, r"and (\S+) GB in BF16") == round(2 * (fp8 // layers + heads + keys + 2 * hidden + experts * hidden + experts) / 1e9, 2)
    assert shown(text, r"halves the model: (\S+) %") == pytest.approx(size / (2 * (fp8 + bf16 + f32)) * 100, rel=0.002)
    assert shown(text, r"but ([\d,]+) bytes") == 96103 * 2
    assert shown(everything("block-quantization"), r"has ([\d,]+) scales") == scales == 13_880_064
    assert shown(everything("router"), r"have (\S+) % of its bytes") == pytest.approx(4 * layers * experts * hidden / size * 100, rel=0.005)
    text = everything("kv-cache")
    assert shown(text, r"each token: ([\d,]+) bytes in BF16") == 62 * 2 * 8 * 128 * 2
    assert shown(text, r"is (\S+) GB in BF16") == round(62 * 2 * 8 * 128 * 2 * 196608 / 1e9, 2)


def test_the_published_sizes_are_those_of_the_published_config() -> None:
    whole = json.loads((ROOT / "weighbridge" / "testing" / "minimax_m2_config.json").read_text())
    assert published.CONFIG.items() <= whole.items()
    assert list(published.BLOCK) == whole["quantization_config"]["weight_block_size"]


def test_whole_cuts() -> None:
    assert published.whole_cuts(1536) == [1, 2, 3, 4, 6, 12]
    text = " ".join(everything("block-grid-and-shards").split())
    assert "Whole blocks come with 1, 2, 3, 4, 6, 12 ways." in text and "192 rows = 1.5 blocks" in text
    ways = {way["ways"]: way for way in term.terms()["block-grid-and-shards"].figure()["ways"]}  # type: ignore[misc]
    assert ways[8]["cut_blocks"] == [b for b in range(12) if len({row // 192 for row in range(b * 128, b * 128 + 128)}) > 1] == [1, 4, 7, 10]
    assert not ways[4]["cut_blocks"] and ways[4]["whole"] and not ways[8]["whole"]


def test_small_facts() -> None:
    bias = np.array([8.0], np.float32)
    step = float((np.nextafter(bias.astype(ml_dtypes.bfloat16), np.array([9], ml_dtypes.bfloat16)).astype(np.float32) - bias)[0])
    assert shown(everything("e_score_correction_bias"), r"8 to 16 are (\S+) apart") == step
    assert shown(everything("e8m0-scales"), r"with this scale is ([\d,]+) times") == 120 / 2.0**-7
    assert shown(everything("subnormal"), r"below (\S+) of the block's") == pytest.approx(2.0**-10 / 448, rel=0.01)
    assert shown(everything("microscaling"), r"MXFP4 costs (\S+) bits") == 4.25
    assert shown(everything("microscaling"), r"128 x 128 (\d+\.\d+)") == round(8 + 32 / 16384, 3)
    assert shown(everything("amax"), r"amax / (\S+) = amax") == 6 * 448


def test_who_takes_gate_for_what() -> None:
    rows = {line[2:].partition(" (")[0]: line.partition("): ")[2] for line in everything("modules_to_not_convert").split("\n")
            if line.startswith("* ") and "(read in" in line}
    assert rows["neuron"] == "gate, gate_proj, gate_up_proj" and rows["transformers"] == "gate" and rows["vllm-fp8"] == "nothing"


def test_marks_of_240_against_448() -> None:
    lines = {line["name"]: line for line in term.terms()["240-vs-448"].figure()["lines"]}  # type: ignore[misc]
    for name, dtype in (("e4m3fn", ml_dtypes.float8_e4m3fn), ("e4m3", ml_dtypes.float8_e4m3), ("e4m3fnuz", ml_dtypes.float8_e4m3fnuz)):
        true = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
        for mark in lines[name]["marked"]:
            assert mark["value"] == (true[mark["code"]] if np.isfinite(true[mark["code"]]) else None)
        assert true[lines[name]["one"]] == 1.0


def test_blocks_of_text() -> None:
    made = term.blocks("One\ntwo.\n\n* a\n  b\n* c\n\n    x = y\nend")
    assert made == [{"kind": "paragraph", "text": "One two."}, {"kind": "list", "items": ["a b", "c"]}, {"kind": "formula", "text": "x = y"},
                    {"kind": "paragraph", "text": "end"}]
