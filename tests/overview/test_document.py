"""The whole document: what the verbs say, unchanged; broken checkpoints; the same bytes each time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weighbridge.inspection.document as inspection
from tests.failures.tools import build, llama, m2
from tests.inspection.tables import write_headers
from weighbridge.api import open as open_model
from weighbridge.check import run
from weighbridge.check.case import Case
from weighbridge.check.settings import Settings
from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.drawing.document import document as draw
from weighbridge.errors import WeighbridgeError
from weighbridge.inspection.survey import Survey
from weighbridge.overview.document import document
from weighbridge.testing.hostile import FAULTS
from weighbridge.testing.tiny import EVEN, RAGGED, write_tiny

KEYS = ["schema", "version", "source", "model_type", "inspect", "check", "commands", "draw", "map", "scales", "memory", "tensors", "ways", "verify", "notes"]
PARTS = {"inspect", "draw", "map", "scales", "memory", "tensors", "ways"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("report") / "m", **EVEN)


def case_of(folder: Path, runtimes: str = "", **said: Any) -> Case:
    return Case(open_checkpoint(folder, lenient=True), run.targets([runtimes] if runtimes else []), Settings(**said))


def test_parts_are_the_documents_of_the_verbs(tiny: Path) -> None:
    whole = document(case_of(tiny, "vllm,neuron", tp=4))
    assert list(whole) == KEYS and whole["schema"] == "weighbridge.report/1"
    fresh = case_of(tiny, "vllm,neuron", tp=4)
    assert whole["inspect"] == inspection.inspect(open_checkpoint(tiny))
    assert whole["check"] == run.document(fresh, run.findings(fresh))
    assert whole["draw"] == draw(case_of(tiny, "vllm,neuron", tp=4))
    assert whole["ways"]["to"] == "neuron" and whole["verify"] is None and whole["notes"] == []
    assert whole["memory"]["runtimes"] == ["vllm", "neuron"]


def test_nothing_is_surveyed_or_planned_twice(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    own = Survey.__init__

    def counted(self: Survey, *args: Any, **more: Any) -> None:
        made.append("survey")
        own(self, *args, **more)

    monkeypatch.setattr(Survey, "__init__", counted)
    document(case_of(tiny, "vllm,neuron"))
    assert made == ["survey"]


@pytest.mark.parametrize(("make", "to"), [(m2, "neuron"), (llama, "hf-bf16")])
def test_the_layout_that_suits(tmp_path: Path, make: Any, to: str) -> None:
    tensors, config = make()
    assert document(case_of(build(tmp_path / "m", tensors, config)))["ways"]["to"] == to


def test_ragged_sizes_go_to_bf16_and_a_layout_that_cannot_hold_them_is_refused_in_a_note(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "m", **RAGGED)
    assert document(case_of(folder))["ways"]["to"] == "hf-bf16"
    whole = document(case_of(folder), to="neuron")
    assert whole["ways"] is None
    assert [n["part"] for n in whole["notes"]] == ["ways"] and "R25" in whole["notes"][0]["reason"]


def test_an_unknown_family_has_every_part(tmp_path: Path) -> None:
    whole = document(case_of(write_headers(tmp_path / "m", {"model.layers.0.self_attn.q_proj.weight": ("BF16", (4, 4))}, {"model_type": "no\n</script>such"})))
    assert whole["ways"]["to"] == "hf-bf16" and len(whole["ways"]["list"]) == 1 and not whole["notes"]
    assert {name for name in PARTS if whole[name] is None} == set()


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_broken_checkpoint_is_shown_as_far_as_it_can_be(tiny: Path, tmp_path: Path, name: str) -> None:
    """Where `check` works, the report does, and each part that is not there has its reason."""
    folder = shutil.copytree(tiny, tmp_path / "m")
    FAULTS[name](folder)
    case = case_of(folder, "vllm,neuron")
    try:
        checked = run.document(case, run.findings(case))
    except WeighbridgeError:
        with pytest.raises(WeighbridgeError):
            document(case_of(folder, "vllm,neuron"))
        return
    whole = document(case_of(folder, "vllm,neuron"))
    assert whole["check"] == checked
    assert {part for part in PARTS if whole[part] is None} <= {note["part"] for note in whole["notes"]}
    assert all(note["reason"] for note in whole["notes"])
    msgspec.json.encode(whole)


@pytest.mark.parametrize("what", ["config", "shard", "all"])
def test_parts_of_what_cannot_be_read(tiny: Path, tmp_path: Path, what: str) -> None:
    folder = shutil.copytree(tiny, tmp_path / "m")
    shards = sorted(folder.glob("*.safetensors"))
    if what == "config":
        (folder / "config.json").write_bytes(b"{")
    for shard in shards[: {"config": 0, "shard": 1, "all": len(shards)}[what]]:
        shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    whole = document(case_of(folder))
    assert {n["part"] for n in whole["notes"]} >= {"checkpoint", "ways", "draw", "memory"}
    assert (whole["tensors"]["total"] == 0) == (what == "all")
    assert whole["check"]["findings"]


def test_verify_against_itself_and_against_another(tiny: Path, tmp_path: Path) -> None:
    same = document(case_of(tiny), against=open_checkpoint(tiny))["verify"]
    assert same["schema"] == "weighbridge.verify/1" and same["ok"] and same["least_equal"] == []
    other = write_tiny(tmp_path / "b", **EVEN, seed=1)
    worse = document(case_of(tiny), against=open_checkpoint(other))["verify"]
    assert not worse["ok"] and len(worse["least_equal"]) == 20 and worse["least_equal"][0]["grade"] == "wrong"
    shares = [row["equal_share"] for row in worse["least_equal"]]
    assert shares == sorted(shares)


def test_what_cannot_be_compared_is_a_note(tiny: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "m")
    (folder / "config.json").write_bytes(b"{")
    whole = document(case_of(tiny), against=open_checkpoint(folder, lenient=True))
    assert whole["verify"] is None and [n["part"] for n in whole["notes"]] == ["verify"]


def test_commands_print_the_same(tiny: Path) -> None:
    case = case_of(tiny, "vllm@0.11", tp=8, expert_parallel=True, device_memory=10**9)
    told = document(case, words=["--runtime", "vllm@0.11", "--config", "a b.json"])["commands"]
    assert told["check"].endswith("--runtime vllm@0.11 --config 'a b.json'") and told["inspect"] == f"weighbridge inspect {tiny}"
    told = document(case)["commands"]
    assert told["check"].endswith("--runtime vllm@0.11 --tp 8 --device-memory 1000000000 --enable-expert-parallel")
    assert told["trace"].endswith(" TENSOR --to neuron")
    assert told["report"].startswith(f"weighbridge report {tiny} --runtime vllm@0.11 --tp 8 ") and told["report"].endswith(" --to neuron")


@pytest.mark.parametrize(("runtime", "said", "start"), [
    ("vllm", {"tp": 8}, [8, 1]), ("vllm", {"tp": 8, "expert_parallel": True}, [8, 8]), ("sglang", {"tp": 4, "ep": 2}, [4, 2]), ("vllm", {}, None),
    ("neuron", {"tp": 6, "moe_tp": 2, "moe_ep": 3}, [6, 3]),
])
def test_the_memory_opens_at_the_cut_of_the_command_line(tiny: Path, runtime: str, said: dict, start: list[int] | None) -> None:
    told = document(case_of(tiny, runtime, **said))["memory"]
    assert told["start"] == start
    assert start is None or any(row[:2] == start for row in told["table"][runtime]["rows"])


def test_the_python_face(tiny: Path) -> None:
    told = open_model(tiny).report("vllm", tp=8, to="hf-fp8")
    assert told["ways"]["to"] == "hf-fp8" and told["check"]["runtimes"] == ["vllm"]
    assert open_model(tiny).report(against=tiny)["verify"]["ok"]
    with pytest.raises(WeighbridgeError):
        open_model(tiny).report("vllm", no_such_setting=1)


def test_the_same_bytes_whatever_the_hash_seed(tiny: Path) -> None:
    code = ("import sys, msgspec, weighbridge; "
            "sys.stdout.buffer.write(msgspec.json.encode(weighbridge.open(sys.argv[1]).report('vllm,sglang,neuron,tensorrt-llm,transformers,llama.cpp')))")
    said = [subprocess.run([sys.executable, "-c", code, tiny], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
            for seed in ("0", "1", "17")]
    assert said[0] == said[1] == said[2] and json.loads(said[0])["schema"] == "weighbridge.report/1"


words = st.sampled_from(["layers", "model", "experts", "mlp", "weight", "weight_scale_inv", "scale", "a{0}", "}", "0", "1", "2", "07", "gate_proj", "q_proj", "self_attn",
                         "qweight", "scales", "<b>", "\u202e", "bias"])
tables = st.dictionaries(st.lists(words, min_size=1, max_size=8).map(".".join),
                         st.sampled_from([("BF16", (2, 2)), ("F8_E4M3", (4, 4)), ("F32", (1, 1)), ("F32", ()), ("I32", (0, 3)), ("U8", (2, 2, 2))]), min_size=1, max_size=25)
values = st.recursive(st.none() | st.booleans() | st.integers(-5, 1 << 40) | st.floats() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)
configs = st.dictionaries(st.sampled_from(["model_type", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "hidden_size", "quantization_config", "layer_types",
                                           "sliding_window", "num_local_experts", "num_experts", "text_config", "vocab_size", "head_dim", "max_position_embeddings"]),
                          values | st.sampled_from(["minimax_m2", "llama", "deepseek_v3"]), max_size=8)


@settings(max_examples=120, deadline=None)
@given(tables, configs)
def test_hostile_names_and_configs(tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any], config: dict[str, Any]) -> None:
    folder = write_headers(tmp_path_factory.mktemp("hostile") / "m", table, json.loads(json.dumps(config, default=str)))
    case = Case(Checkpoint(open_checkpoint(folder, lenient=True).store, lenient=True), run.targets(["vllm,neuron,sglang"]), Settings())
    try:
        whole = document(case)
    except WeighbridgeError:
        with pytest.raises(WeighbridgeError):
            run.findings(case)
        return
    msgspec.json.encode(whole)
    assert {part for part in PARTS if whole[part] is None} <= {note["part"] for note in whole["notes"]}


def test_the_room_imports_nothing_heavy() -> None:
    code = "import sys, weighbridge.overview.document, weighbridge.cli.report; sys.exit(bool({'numpy', 'numba', 'torch', 'ml_dtypes'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
