"""One tensor worked by hand, in its four forms: what the document holds is what people see, and a file's names stay text."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.lessons import tensors
from tests.lessons.tensors import CASES, NAME
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.store import Folder
from weighbridge.lessons.tensor import document
from weighbridge.report import palette
from weighbridge.report.explain import tensor_text as explain_tensor
from weighbridge.report.explain import tensor_words as words

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = 'model.layers.0.<script>alert("1")</script>|`x`\x1b[31m.up_proj'


@pytest.fixture(params=[*CASES, "plain"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "plain":
        return document(tensors.plain(tmp_path / "c", "F32")[0], NAME)
    case = CASES[request.param](tmp_path / "c")
    return document(case.checkpoint, case.name)


def test_text_fits_a_terminal_and_holds_the_numbers(told: dict[str, Any]) -> None:
    text = explain_tensor.text(told)
    assert max(map(len, text.split("\n"))) <= 110, max(text.split("\n"), key=len)
    assert "None" not in text.replace("None of", "")
    for weight in told["block"]["weights"]:
        own = weight["stored"]
        assert f"{own['code']} = {' '.join(own['bits'])} -> {own['formula']}" in text
        assert words.short(own["weight"]) in text
    for row in told["costs"]:
        assert re.search(rf"^{re.escape(row['way'])} +{row['changed']:,}\b", text, re.MULTILINE), row["way"]
    if told["scales"]:
        assert words.short(told["scales"]["least"], 9) in text or words.short(told["scales"]["least"]) in text
        assert words.short(told["block"]["scale"], 9) in text


def test_the_histogram_counts_every_code_once(told: dict[str, Any]) -> None:
    if told["codes"] is None:
        held = told["exponents"]
        assert sum(row["count"] for row in held["powers"]) + held["zero"] + held["subnormal"] == held["total"] == told["looked_at"]["values"]
        return
    rows = words.histogram(told)
    assert sum(sum(plus) + sum(minus) for _, _, plus, minus in rows) == told["codes"]["total"]
    assert sum(len(plus) + len(minus) for _, _, plus, minus in rows) == told["codes"]["possible"]
    body = explain_tensor.text(told)
    assert all(f"{sum(plus) + sum(minus):,}" in body for _, _, plus, minus in rows)


def test_the_picture_is_valid_and_tells_its_numbers(told: dict[str, Any]) -> None:
    root = ElementTree.fromstring(explain_tensor.svg(told))
    assert root.tag == SVG + "svg" and root.find(SVG + "title").text.startswith(told["tensor"]["name"])  # type: ignore[union-attr]
    shown = [element.text for element in root.iter(SVG + "text")]
    assert all(w["stored"]["code"] in shown for w in told["block"]["weights"])
    titles = [element.text for element in root.iter(SVG + "title")]
    if told["codes"] is not None:
        most = max(told["codes"]["counts"])
        assert any(title.endswith(f": {most:,}") for title in titles if title)
    if told["maps"]:
        cells = [v for row in told["maps"]["scale"]["cells"] for v in row]
        assert sum(1 for title in titles if title and title.startswith("block")) == len(cells)
    box = [float(v) for v in root.get("viewBox", "").split()]
    for element in root.iter():
        if element.tag in (SVG + "text", SVG + "rect"):
            assert 0 <= float(element.get("x", 0)) <= box[2] and 0 <= float(element.get("y", 0)) <= box[3]


def test_markdown_has_tables_that_hold(told: dict[str, Any]) -> None:
    outside = re.sub(r"```.*?```", "", explain_tensor.markdown(told), flags=re.DOTALL)
    runs = re.findall(r"(?:^\|.*\|$\n?)+", outside, re.MULTILINE)
    assert len(runs) >= 3
    for run in runs:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in run.strip().split("\n")}) == 1


def test_the_page_fetches_nothing_and_is_well_formed(told: dict[str, Any]) -> None:
    page = explain_tensor.html(told)
    assert "default-src 'none'" in page and not re.search(r'(?:src|href)="(?!#)', page)
    for figure in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(figure)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for weight in told["block"]["weights"]:
        assert weight["stored"]["formula"] in page


def test_names_stay_text(tmp_path: Path) -> None:
    code, scale = tensors.random_codes((64, 64), "e4m3fn"), tensors.random_scales((2, 2))
    folder = tensors.write(tmp_path / "c", {HOSTILE + ".weight": ("F8_E4M3", (64, 64)), HOSTILE + ".weight_scale_inv": ("F32", (2, 2))},
                           {HOSTILE + ".weight": code.tobytes(), HOSTILE + ".weight_scale_inv": scale.tobytes()},
                           {"model_type": "nobody", "quantization_config": {"quant_method": "fp8", "weight_block_size": [32, 32]}})
    made = document(Checkpoint(Folder(folder)), HOSTILE)
    for form in (explain_tensor.html, explain_tensor.svg):
        assert "<script>alert" not in form(made) and "\x1b" not in form(made)
    assert "\x1b" not in explain_tensor.text(made) and "\x1b" not in explain_tensor.markdown(made)
    ElementTree.fromstring(explain_tensor.svg(made))
    markdown = explain_tensor.markdown(made)
    assert "&lt;script" in markdown and "<script" not in markdown


def test_a_large_grid_is_summed_up(tmp_path: Path) -> None:
    made = document(tensors.fp8(tmp_path / "c", 200, 400, block=(2, 2)).checkpoint, NAME)
    mapped = made["maps"]["scale"]
    assert mapped["grid"] == [100, 200] and len(mapped["cells"]) <= 48 and len(mapped["cells"][0]) <= 80
    assert max(map(len, explain_tensor.text(made).split("\n"))) <= 110 and "one sign stands for 3 x 3 blocks" in explain_tensor.text(made) and "a cell is 3 x 3 blocks" in explain_tensor.svg(made)
    assert len(explain_tensor.html(made)) < 2_000_000


def test_a_map_of_shades_follows_the_values(tmp_path: Path) -> None:
    """The largest scale has the fullest shade and the brightest colour, the least the palest and darkest."""
    def change(code: np.ndarray, scale: np.ndarray) -> None:
        scale[:] = np.geomspace(1e-5, 1e-3, scale.size).reshape(scale.shape)

    made = document(tensors.fp8(tmp_path / "c", 64, 512, change=change).checkpoint, NAME)
    rows = [line for line in explain_tensor.text(made).split("\n") if re.match(r" +[01] [·░▒▓█]", line)][:2]
    assert rows[0].split()[1].startswith("·") and rows[1].split()[1].endswith("█")
    picture = explain_tensor.svg(made)
    assert picture.index(f'fill="{palette.heat(0)}"') < picture.index(f'fill="{palette.heat(1)}"')


def test_same_bytes_whatever_the_seed_of_hashes(tmp_path: Path) -> None:
    tensors.fp8(tmp_path / "c")
    code = """import sys
from weighbridge.api import Model
from weighbridge.lessons.tensor import document
from weighbridge.report.explain import tensor_text as e
d = document(Model(sys.argv[1]).checkpoint, sys.argv[2])
sys.stdout.write(e.text(d) + e.markdown(d) + e.html(d) + e.svg(d))"""
    runs = [subprocess.run([sys.executable, "-c", code, str(tmp_path / "c"), NAME], capture_output=True, check=True,
                           env={**os.environ, "PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")]
    assert runs[0] == runs[1] and len(runs[0]) > 10_000
