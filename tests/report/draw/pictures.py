"""What tests of pictures share: boxes of texts and shapes by the estimate that the pictures use, and documents of real models."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import weighbridge.api as wb
from tests.inspection import tables
from weighbridge.check.case import Case
from weighbridge.check.settings import Settings, Target
from weighbridge.drawing.document import document
from weighbridge.report.draw.words import SIZES, width

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"
SVG = "{http://www.w3.org/2000/svg}"


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float
    words: str


def draw(src: Path | str, to: str | None = None, runtime: str | None = None, settings: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The document of `draw`."""
    model, target = wb.open(src), Target(runtime) if runtime else None
    case = Case(model.checkpoint, (target,) if target else (), Settings(**(settings or {})))
    return document(case, target, model.plan(to, **options) if to else None)


def of_table(model: str, folder: Path, experts: int | None = None) -> dict[str, Any]:
    """The document of a model from its real tensor table, or of its first `experts` alone."""
    return draw(tables.write(model, folder / model, experts))


def llama(folder: Path) -> dict[str, Any]:
    """A dense decoder of the sizes of Llama 3 8B."""
    hidden, inter, kv, vocab = 4096, 14336, 1024, 128256
    table = {"model.embed_tokens.weight": ("BF16", (vocab, hidden)), "model.norm.weight": ("BF16", (hidden,)), "lm_head.weight": ("BF16", (vocab, hidden))}
    for layer in range(32):
        at = f"model.layers.{layer}."
        table |= {f"{at}{name}.weight": ("BF16", (hidden,)) for name in ("input_layernorm", "post_attention_layernorm")}
        table |= {f"{at}self_attn.{name}_proj.weight": ("BF16", (rows, hidden)) for name, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden))}
        table |= {f"{at}mlp.{name}_proj.weight": ("BF16", shape) for name, shape in
                  (("gate", (inter, hidden)), ("up", (inter, hidden)), ("down", (hidden, inter)))}
    config = {"model_type": "llama", "hidden_size": hidden, "intermediate_size": inter, "num_hidden_layers": 32, "num_attention_heads": 32,
              "num_key_value_heads": 8, "vocab_size": vocab, "max_position_embeddings": 8192, "rope_theta": 500000.0, "rms_norm_eps": 1e-5}
    return draw(tables.write_headers(folder / "llama", table, config))


def parse(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def titles(root: ET.Element) -> list[str]:
    """What a pointer or a screen reader gets."""
    return [e.text or "" for e in root.iter(SVG + "title")]


def words(root: ET.Element) -> list[str]:
    return [shown(e) for e in root.iter(SVG + "text")]


def shown(element: ET.Element) -> str:
    return (element.text or "") + "".join(child.tail or "" for child in element)


def texts(root: ET.Element) -> list[Box]:
    """A box for each text, as wide as it is at most."""
    out = []
    for element in root.iter(SVG + "text"):
        classes, told = element.get("class") or "", shown(element)
        size = next((SIZES[name] for name in ("mono", "head", "small") if name in classes.split()), 13.0)
        x, y, wide = float(element.get("x") or 0), float(element.get("y") or 0), width(told, classes)
        left = x - wide if "end" in classes.split() else x - wide / 2 if "mid" in classes.split() else x
        out.append(Box(left, y - 0.76 * size, left + wide, y + 0.22 * size, told))
    return out


def assert_legible(svg: str) -> ET.Element:
    """Every text and every rectangle inside the picture, and no two texts upon each other."""
    root = parse(svg)
    _, _, wide, high = map(float, (root.get("viewBox") or "").split())
    boxes = texts(root)
    assert boxes
    outside = [b for b in boxes if b.left < 0 or b.top < 0 or b.right > wide + 0.5 or b.bottom > high]
    assert not outside, outside[:5]
    for element in root.iter(SVG + "rect"):
        x, y, w, h = (float(element.get(key) or 0) for key in ("x", "y", "width", "height"))
        assert w >= 0 and h >= 0 and x >= 0 and y >= 0 and x + w <= wide + 0.5 and y + h <= high + 0.5, element.attrib
    boxes.sort(key=lambda b: b.top)
    upon = []
    for place, one in enumerate(boxes):
        for other in boxes[place + 1:]:
            if other.top >= one.bottom:
                break
            if one.words and other.words and min(one.right, other.right) - max(one.left, other.left) > 0.5 and min(one.bottom, other.bottom) - other.top > 0.5:
                upon.append((one, other))
    assert not upon, upon[:4]
    return root
