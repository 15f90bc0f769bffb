"""The examples: what can be held without a device and without a download."""

from __future__ import annotations

import ast
import gzip
import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import weighbridge.api as wb
from tests.engine import faults
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.engine.capture import Capture
from weighbridge.engine.compare import EngineSide, compare
from weighbridge.engine.engine import load as load_engine
from weighbridge.layouts.rows import ROWS
from weighbridge.plan.bind import bind
from weighbridge.testing.safetensors_writer import read_header, write_file

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMOLLM2, JARGON = os.environ.get("WEIGHBRIDGE_SMOLLM2"), os.environ.get("WEIGHBRIDGE_JARGON")


def example(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_every_example_compiles(path):
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_the_device_example_uses_only_settings_that_convert_writes(tmp_path):
    wb.open(faults.DEMO).convert(tmp_path / "out", "neuron", attention="exact")
    written = json.loads((tmp_path / "out" / "neuron_config.json").read_text())
    tree = ast.parse((EXAMPLES / "load_on_neuron.py").read_text(encoding="utf-8"))
    used = {node.slice.value for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
            and node.value.id == "settings" and isinstance(node.slice, ast.Constant)}
    assert used >= {"quantized_checkpoints_path", "torch_dtype", "batch_size"} and used <= written.keys()
    settings, environment = example("load_on_neuron").read_settings(tmp_path / "out")
    assert environment == {"XLA_HANDLE_SPECIAL_SCALAR": "1", "UNSAFE_FP8FNCAST": "1"} and "env" not in settings
    assert Path(settings["quantized_checkpoints_path"]).resolve() == (tmp_path / "out").resolve()
    assert settings.keys() | {"env"} == written.keys()


def test_the_mapping_file_reads_a_padded_recording(tmp_path):
    """Four tokens in a bucket of eight, a batch of one, and a vocabulary padded to 200,192."""
    random = np.random.default_rng(0)
    shapes = {"embed_tokens": [1, 8, 6], "layers.0.self_attn": [1, 8, 6], "layers.0.block_sparse_moe": [1, 8, 6], "layers.0": [1, 8, 6], "lm_head": [1, 8, 200192]}
    values = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    (tmp_path / "recorded").mkdir()
    write_file(tmp_path / "recorded" / "device.safetensors", {name: ("F32", shapes[name], values[name].tobytes()) for name in shapes})
    capture = Capture(tmp_path / "recorded", EXAMPLES / "recorded_names.json")
    assert capture.names == ["embed", "layers.0.attn", "layers.0.experts", "layers.0.block", "logits"] and capture.positions == 4
    assert (capture.rows("layers.0.block", 0, 4) == values["layers.0"][0, :4]).all()
    assert (capture.rows("logits", 1, 3) == values["lm_head"][0, 1:3, :200064]).all()
    page = (EXAMPLES.parent / "docs" / "bring-up.md").read_text(encoding="utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])
    assert shown["names"].items() <= json.loads((EXAMPLES / "recorded_names.json").read_text())["names"].items()


def test_gguf_rows_become_hf_rows():
    """The example's order against the pairs that rotary positions turn: GGUF (0,1), (2,3)...; Hugging Face (0, half), (1, half + 1)..."""
    pytest.importorskip("gguf")
    rows = np.arange(12)[:, None].repeat(2, 1)  # two heads of six
    turned = example("smollm2").hf_order(rows, 2)[:, 0].tolist()
    assert turned == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


# ---- real weights

needs_smollm2 = pytest.mark.skipif(not SMOLLM2, reason="WEIGHBRIDGE_SMOLLM2: a folder that examples/smollm2.py wrote")
needs_text = pytest.mark.skipif(not (SMOLLM2 and JARGON), reason="WEIGHBRIDGE_SMOLLM2, and WEIGHBRIDGE_JARGON: jargon.dict.dz of Debian's dict-jargon")


def side(path) -> EngineSide:
    source = bind(open_checkpoint(path))
    return EngineSide(load_engine(source), source)


def windows() -> list[list[int]]:
    """3,072 tokens of the Jargon File in six windows."""
    from weighbridge.engine.tokenizer import Tokenizer

    text = gzip.decompress(Path(JARGON).read_bytes()).decode("utf-8", "replace")[400_000:430_000]
    ids = Tokenizer(open_checkpoint(SMOLLM2)).encode(text)[:3072]
    return [ids[at : at + 512] for at in range(0, 3072, 512)]


@needs_smollm2
def test_smollm2_knows_the_capital():
    from weighbridge.engine.tokenizer import Tokenizer

    tokenizer, engine = Tokenizer(open_checkpoint(SMOLLM2)), side(SMOLLM2).engine
    ids = tokenizer.encode("The capital of France is")
    assert tokenizer.decode([int(engine.session(16).feed(ids).argmax())]) == " Paris"


@needs_text
def test_block_fp8_costs_what_torch_says(tmp_path):
    """+0.0170 ± 0.0042 nats/token and KL 0.0200 by torch, all `*_proj` weights in blocks of 128x128: 576 is 4.5 of them."""
    wb.open(SMOLLM2).convert(tmp_path / "fp8", "hf-fp8", block=(128, 128))
    told = compare(side(SMOLLM2), side(tmp_path / "fp8"), windows(), tokens=0)
    assert told.ok and abs(told.document()["nats_difference"] - 0.0170) < 0.005 and abs(told.document()["kl"] - 0.0200) < 0.003


def _conversions() -> list[tuple[str, dict]]:
    """Every layout that a dense model in BF16 can go to without more than its files; 576 columns are 4.5 groups of 128."""
    without = {"hf-mxfp4": "holds stacked experts alone", "modelopt-fp8": "needs scales of the activations"}
    names = [name for name in ROWS if name not in without]
    return [(name, {"group": 64} if "--group" in ROWS[name].options else {}) for name in names] + [("ct-int4", {"group": 64, "zero_points": True})]


@needs_smollm2
@pytest.mark.parametrize(("layout", "options"), _conversions(), ids=str)
def test_every_layout_of_smollm2_runs_and_verifies(layout, options, tmp_path):
    """The same capital from codes of 8 bits. tests/oracles/test_layout_loads.py has the readers of the same conversions."""
    from weighbridge.engine.tokenizer import Tokenizer

    wb.open(SMOLLM2).convert(tmp_path / "out", layout, **options)
    assert wb.open(SMOLLM2).verify(tmp_path / "out")["ok"]
    tokenizer, engine = Tokenizer(open_checkpoint(tmp_path / "out")), side(tmp_path / "out").engine
    ids = tokenizer.encode("The capital of France is")
    best = tokenizer.decode([int(engine.session(16).feed(ids).argmax())])
    assert best == " Paris" or layout.endswith("4")


@needs_text
def test_one_q_proj_in_gguf_order_is_found(tmp_path):
    """Rows of layer 7's q_proj in GGUF's order: the text stays fluent, the layer is named."""
    shutil.copytree(SMOLLM2, tmp_path / "broken")
    path = tmp_path / "broken" / "model.safetensors"
    header, start = read_header(path)
    entry = header["model.layers.7.self_attn.q_proj.weight"]
    begin, end = entry["data_offsets"]
    with open(path, "r+b") as file:
        file.seek(start + begin)
        rows = np.frombuffer(file.read(end - begin), np.uint16).reshape(9, 2, 32, entry["shape"][1])
        file.seek(start + begin)
        file.write(rows.transpose(0, 2, 1, 3).tobytes())
    told = compare(side(SMOLLM2), side(tmp_path / "broken"), windows()[:1], tokens=0)
    assert told.first_bad_layer == "layers.7.attn" and "rows of q or k in another order" in " ".join(told.says)
