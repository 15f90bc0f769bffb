"""`weighbridge compare` as scripts use it: keys, exit codes, forms, the picture, captures; and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.engine import faults
from weighbridge.report.compare import svg as compare_svg
from weighbridge.report.compare import text as compare_text
from weighbridge.report import visible

KEYS = {"schema", "version", "a", "b", "kl", "kl_stderr", "top1_agreement", "nats_difference", "first_different_token", "layers", "first_bad_layer",
        "tolerance", "says", "prompts", "positions", "missing", "ok"}
IDS = "1144,258,1878,1272,17,300,301,302,40,41,42,43,44,45,46,47,48,49,50"


@pytest.fixture(scope="module")
def lost(tmp_path_factory) -> Path:
    return faults.lost_bias(tmp_path_factory.mktemp("compare") / "lost")


def run(*words: object, code: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, "-m", "weighbridge", "compare", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


def document(*words: object, code: int = 0) -> dict:
    return json.loads(run(*words, "--format", "json", code=code).stdout)


def test_equal_runs_exit_0_with_the_keys_of_the_contract():
    told = document(faults.DEMO, faults.DEMO, "--ids", IDS, "--max-tokens", 2)
    assert KEYS <= told.keys() and told["schema"] == "weighbridge.compare/1"
    assert {"name", "max_abs", "mean_abs", "cosine", "relative"} <= told["layers"][0].keys()
    assert (told["kl"], told["top1_agreement"], told["first_bad_layer"], told["ok"], told["positions"]) == (0, 1, None, True, 19)
    assert [row["name"] for row in told["layers"]][:3] == ["embed", "layers.0.attn", "layers.0.router"] and told["layers"][-1]["name"] == "logits"


def test_a_fault_exits_3_and_the_picture_is_an_svg(lost, tmp_path):
    pytest.importorskip("tokenizers")
    words = ("--prompts", tmp_path / "prompts.txt", "--max-tokens", 0)
    (tmp_path / "prompts.txt").write_text((faults.DEMO / "heldout.txt").read_text()[:1500].replace("\n", " ") + "\n\nAnd it came to pass\n")
    told = run(faults.DEMO, lost, *words, "-o", tmp_path / "picture.svg", code=3).stdout
    assert "layers.2.router <-" in told and "THE RUNS PART at layers.2.router" in told and "selection bias" in told and "2 prompts" in told
    root = ElementTree.fromstring((tmp_path / "picture.svg").read_text())
    assert root.tag.endswith("svg") and "layers.2.router" in "".join(root.itertext()) and root.findall(".//*[@class='bad']")


def test_markdown_goes_into_a_file(tmp_path):
    run(faults.DEMO, faults.DEMO, "--ids", IDS, "--max-tokens", 0, "--format", "markdown", "-o", tmp_path / "out.md")
    assert "| stage | relative |" in (tmp_path / "out.md").read_text()


def test_numerics_of_one_side(lost):
    told = document(faults.DEMO, faults.DEMO, "--ids", IDS, "--max-tokens", 0, "--b-numerics", "neuron", "--tp", 1, code=3)
    assert told["b"]["numerics"] == "neuron" and told["kl"] is None and told["first_bad_layer"] == "layers.0.attn"


def test_a_tolerance_of_the_user_counts(lost):
    assert document(faults.DEMO, faults.doubled_scale(lost.parent / "double"), "--ids", IDS, "--max-tokens", 0, code=3)["first_bad_layer"] == "layers.2.attn"
    told = document(faults.DEMO, lost.parent / "double", "--ids", IDS, "--max-tokens", 0, "--tolerance", 1000, code=3)
    assert told["first_bad_layer"] is None and told["tolerance"]["relative"] == 1000  # the output is still another one


def test_some_layers_alone():
    told = document(faults.DEMO, faults.DEMO, "--ids", IDS, "--max-tokens", 0, "--layers", "1:3")
    assert {row["name"].split(".")[1] for row in told["layers"] if row["name"].startswith("layers.")} == {"1", "2"}


def test_a_capture_and_a_checkpoint(tmp_path):
    pytest.importorskip("tokenizers")
    subprocess.run([sys.executable, "-m", "weighbridge", "run", str(faults.DEMO), "-p", "In the beginning", "--max-tokens", "1", "--capture", str(tmp_path / "cap")],
                   check=True, capture_output=True)
    told = document(faults.DEMO, tmp_path / "cap")
    assert told["ok"] and told["kl"] < 1e-9 and told["b"]["layout"] == "hf-fp8"
    assert "brings its own prompt" in document(faults.DEMO, tmp_path / "cap", "--ids", "1", code=2)["error"]["message"]


def test_two_checkpoints_share_the_memory():
    told = document(faults.DEMO, faults.DEMO, "--ids", IDS, "--max-tokens", 0, "--max-memory", "1GB")
    assert told["ok"] and told["kl"] < 1e-9


@pytest.mark.parametrize("words, says", [
    (("--ids", "1,x"), "no list of token ids"), (("--ids", "99999"), "not one of 2,048"), (("--ids", "1", "--prompt", "a"), "goes without"),
    (("--tolerance", "0"), "no relative error"), (("--tolerance", "nan"), "no relative error"), (("--max-tokens", "-1"), "greedy steps"), (("--layers", "a"), "range of layers"),
    (("--max-memory", "lots"), "lots"), (("--prompts", "/nonexistent"), "no text file"), (("--ids", "1", "--max-memory", "1MB"), "are needed"),
])
def test_what_cannot_be_is_refused(words, says):
    error = document(faults.DEMO, faults.DEMO, *words, code=2)["error"]
    assert says in error["message"] and (error["hint"] or error["where"])


def test_a_folder_that_is_neither(tmp_path):
    (tmp_path / "empty").mkdir()
    assert document(faults.DEMO, tmp_path / "empty", "--ids", "1", code=2)["schema"] == "weighbridge.error/1"


# ---- the long form, and texts of others

def long_document(layers: int, bad: int | None) -> dict:
    rows = [{"name": "embed", "max_abs": 0.0, "mean_abs": 0.0, "cosine": 1.0, "relative": 0.0, "norm_ratio": 1.0, "not_finite": [0, 0]}]
    for layer in range(layers):
        late = bad is not None and layer >= bad
        rows += [rows[0] | {"name": f"layers.{layer}.{stage}", "relative": 0.5 if late else 1e-6} for stage in ("attn", "experts", "block")]
    rows.append(rows[0] | {"name": "logits", "relative": None, "cosine": None, "max_abs": None, "mean_abs": None, "not_finite": [0, 7]})
    outcome = {"kl": None, "kl_stderr": None, "top1_agreement": 0.5, "top1_stderr": None, "nats_a": None, "nats_b": None, "nats_difference": None, "nats_stderr": None}
    sides = {side: {"source": "a<b>&\x1b[31m", "layout": "hf-fp8", "numerics": "plain"} for side in ("a", "b")}
    return {**sides, **outcome, "prompts": 1, "positions": 3, "first_different_token": {"prompt": 0, "position": 3, "decoding": "greedy", "a": 5, "b": -1},
            "layers": rows, "first_bad_layer": f"layers.{bad}.attn" if bad is not None else None, "tolerance": {"relative": 0.25, "kl": 0.1, "why": "test"},
            "says": ["words"], "missing": {"b": ["norm"]}, "ok": bad is None}


def test_a_long_model_shows_the_bad_layer_and_some_others():
    told = compare_text.text(long_document(62, 40))
    names = [line.split()[0] for line in told.splitlines() if line.startswith("layers.")]
    assert {"layers.39.attn", "layers.40.attn", "layers.40.experts", "layers.41.block", "layers.0.block", "layers.32.block"} <= set(names)
    assert len(names) < 20 and "more: --format json lists all" in told and "1 stage not in B: norm" in told
    assert "7 NaN or infinite" in told and "not a number" in told and "B NaN" in told


def test_names_of_files_do_not_steer_the_terminal_or_the_picture():
    made = visible.for_people(long_document(3, 1))
    for body in (compare_text.text(made), compare_text.markdown(made), compare_svg.svg(long_document(3, 1))):
        assert "\x1b" not in body
    assert ElementTree.fromstring(compare_svg.svg(long_document(3, None))) is not None


def test_bars_grow_with_the_logarithm():
    widths = [len(compare_text.bar(10.0**power)) for power in range(-8, 3)]
    assert widths == sorted(widths) and widths[0] == 0 and widths[-1] == compare_text.BAR and compare_text.bar(0.0) == ""
