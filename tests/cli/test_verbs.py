"""The verbs as scripts use them: flags, JSON keys and exit codes of the contract, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

CONVERT = {"from", "to", "options", "pieces", "converted_scales", "bytes_read", "bytes_written", "peak_memory_bytes", "seconds", "lossy", "files"}
VERIFY = {"weights", "grades", "missing", "surplus", "worst", "total_sqnr_db", "ok"}
TRACE = {"source", "steps", "destination"}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("verbs") / "src", **EVEN)


def run(*words: object, code: int = 0) -> dict:
    """One command with --format json: its exit code is `code`, its stdout one document."""
    done = subprocess.run([sys.executable, "-m", "weighbridge", *map(str, words), "--format", "json"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr + done.stdout
    document = json.loads(done.stdout)
    assert document["schema"].startswith("weighbridge.") and document["version"]
    assert "Traceback" not in done.stderr
    return document


def test_convert_verify_and_back(source, tmp_path):
    done = run("convert", source, tmp_path / "out", "--to", "neuron", "--attention", "exact", "--tp", 4)
    assert CONVERT <= done.keys() and done["converted_scales"] == 56 and done["seconds"] > 0
    assert all({"step", "count", "bound"} <= row.keys() for row in done["lossy"])
    found = run("verify", source, tmp_path / "out")
    assert VERIFY <= found.keys() and found["ok"] and set(found["grades"]) == {"identical", "exact", "bounded", "wrong"}


def test_wrong_weights_exit_3(source, tmp_path):
    run("convert", source, tmp_path / "out", "--to", "neuron", "--scale-rule", "reciprocal", "--allow", "reciprocal")
    assert not run("verify", source, tmp_path / "out", code=3)["ok"]


def test_dry_run_writes_nothing_and_says_what_stops_it(source, tmp_path):
    assert run("convert", source, "--to", "neuron", "--dry-run")["findings"] == []
    ragged = write_tiny(tmp_path / "ragged", **RAGGED)
    found = run("convert", ragged, tmp_path / "out", "--to", "neuron", "--dry-run", code=1)
    assert any("R25" in f["message"] for f in found["findings"]) and not (tmp_path / "out").exists()


def test_refusals_exit_2_with_an_error_document(source, tmp_path):
    done = run("convert", source, tmp_path / "out", "--to", "neuron", "--scale-rule", "reciprocal", code=2)
    assert done["schema"] == "weighbridge.error/1" and done["error"]["code"] == "reciprocal"
    assert set(done["error"]) == {"code", "message", "where", "hint"}
    assert run("convert", source, tmp_path / "out", "--to", "neuron", "--tp", 3, code=2)["error"]["hint"]
    assert run("convert", source, tmp_path / "out", code=2)["error"]["code"] == "usage"
    assert run("convert", source, tmp_path / "out", "--to", "nowhere", code=2)["error"]["code"] == "usage"


def test_without_a_layout_it_shows_the_ways(source, tmp_path):
    found = run("convert", source)
    assert found["schema"] == "weighbridge.convert/1"
    for way in found["ways"]:
        assert {"to", "readers", "bytes", "exact", "sqnr_db", "command", "refused"} <= way.keys()
    best = found["ways"][0]
    assert best["exact"] and "vllm" in best["readers"] and best["command"].endswith(f"--to {best['to']}")
    text = subprocess.run([sys.executable, "-m", "weighbridge", "convert", str(source)], capture_output=True, text=True, check=True).stdout
    assert all(len(line) <= 80 for line in text.splitlines() if "weighbridge convert" not in line)
    assert run("convert", source, "--group", 64, code=2)["error"]["where"] == "--group"


def test_for_a_reader_it_chooses_and_says_why(source, tmp_path):
    found = run("convert", source, tmp_path / "out", "--for", "vllm", "--device", "a100")
    assert found["to"] == found["choice"]["to"] == "hf-fp8" and found["choice"]["exact"] and "8.9" in found["choice"]["others"]["modelopt-fp8"]
    assert run("verify", source, tmp_path / "out")["ok"]
    assert run("convert", source, tmp_path / "x", "--for", "vllm", "--to", "hf-bf16", code=2)["error"]["where"] == "--for, --to"
    assert run("convert", source, tmp_path / "x", "--to", "hf-bf16", "--device", "a100", code=2)["error"]["where"] == "--device"
    assert "ct-int4" in run("convert", source, tmp_path / "x", "--to", "hf-bf16", "--zero-points", code=2)["error"]["hint"]


def test_a_plan_is_written_reviewed_and_applied(source, tmp_path):
    plan = tmp_path / "plan.json"
    command = ["convert", source, tmp_path / "out", "--to", "hf-bf16", "--plan", plan]
    assert subprocess.run([sys.executable, "-m", "weighbridge", *map(str, command)]).returncode == 0
    assert not (tmp_path / "out").exists() and json.loads(plan.read_text())["schema"] == "weighbridge.plan/1"
    assert run("convert", "--apply", plan)["to"] == "hf-bf16"
    assert run("verify", source, tmp_path / "out")["ok"]


def test_an_edited_plan_is_refused(source, tmp_path):
    plan = tmp_path / "plan.json"
    command = ["convert", source, tmp_path / "out", "--to", "hf-bf16", "--plan", plan]
    subprocess.run([sys.executable, "-m", "weighbridge", *map(str, command)], check=True)
    document = json.loads(plan.read_text())
    document["table"][0]["at"] = [0, 1, 0]
    plan.write_text(json.dumps(document))
    assert run("convert", "--apply", plan, code=2)["error"]["code"] == "plan-stale"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj.weight",
                                  "model.layers.0.self_attn.q_proj.weight_scale_inv", "layers.0.self_attn.q_proj.scale", "layers.0.attn.q"])
def test_trace_takes_every_name_of_a_tensor(source, name):
    done = run("trace", source, name, "--to", "neuron")
    assert TRACE <= done.keys()
    assert {r["name"] for r in done["source"]} == {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.q_proj.weight_scale_inv"}
    assert {"name", "dtype", "shape", "slice"} <= done["destination"][0].keys()
    assert any(s["op"] == "requantize" and s["lossy"] for s in done["steps"])


def test_trace_of_a_stack_names_all_its_sources(source):
    done = run("trace", source, "layers.1.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj", "--to", "neuron")
    assert len(done["source"]) == 2 * 2 * EVEN["experts"]
    assert run("trace", source, "layers.1.nothing", code=2)["error"]["code"] == "no-such-tensor"


def test_traced_numbers_are_those_that_convert_writes(source, tmp_path):
    from tests.verify.test_verify import place

    done = run("trace", source, "layers.1.block_sparse_moe.experts.1.w3", "--to", "neuron")
    run("convert", source, tmp_path / "out", "--to", "neuron")
    row = done["destination"][0]
    file, start, _ = place(tmp_path / "out", row["name"])
    (lead, _), (top, _), (left, _) = row["slice"]
    _, rows, cols = row["shape"]
    first = start + (lead * rows + top) * cols + left
    assert [f"0x{b:02X}" for b in file.read_bytes()[first : first + 8]] == done["block"]["after"]["codes"]


def test_demo_walks_to_the_end():
    done = subprocess.run([sys.executable, "-m", "weighbridge", "demo"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Converted 112 FP8 scales" in done.stdout and "NOT THE SAME WEIGHTS" in done.stdout
