"""A limit on memory: it holds for the whole process, and changes no token."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.engine.families import all_logits, config_of, engine, gap, greedy, source, write_model
from weighbridge.engine import memory
from weighbridge.engine.engine import load
from weighbridge.engine.positional import Positional
from weighbridge.errors import Refused
from weighbridge.plan.reader import Reader
from weighbridge.testing import safetensors_writer, shapes

# 116 MB, 2.5 MB of them for every token.
SIZES = shapes.Sizes(layers=3, hidden=512, inter=1024, heads=4, kv_heads=2, head_dim=64, experts=24, vocab=1024)
PROMPT = list(range(3, 303))

RUN = """
import json, sys
import numpy as np
from tests.engine.families import greedy, source
from weighbridge.engine.engine import load, load_kernels
from weighbridge.engine.memory import resident_set
load_kernels()
folder, more, prompt = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
bound = source(folder)
limit = resident_set() + more if more else None
model = load(bound, max_memory=limit, capacity=400)
tokens = greedy(model, prompt, 20)
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"limit": limit, "peak": peak, "tokens": tokens, "streamed": model.plan.streamed_bytes, "read": model.bytes_read,
                  "used": model.bytes_used, "slots": model._store.slots if model._store else 0}))
"""


def write_random(folder, sizes):
    """Random codes with one scale for all blocks: quick to write, and no two experts alike."""
    folder.mkdir()
    random = np.random.default_rng(5)
    tensors = {}
    for spec in shapes.tensors(sizes):
        count = int(np.prod(spec.shape))
        if spec.dtype == "F8_E4M3":
            raw = (random.integers(0, 256, count, np.uint8) & 0xBF).tobytes()  # magnitudes below 2
        elif spec.is_scale:
            raw = np.full(count, 1.6 * sizes.hidden**-0.5, np.float32).tobytes()
        elif "norm" in spec.name:
            raw = np.full(count, 0x3F80, np.uint16).tobytes()
        else:
            values = random.standard_normal(count, np.float32) * np.float32(spec.shape[-1] ** -0.5 if len(spec.shape) > 1 else 0.1)
            raw = values.tobytes() if spec.dtype == "F32" else (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        tensors[spec.name] = (spec.dtype, spec.shape, raw)
    safetensors_writer.write_file(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(shapes.config(sizes)))
    return folder


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    return write_random(tmp_path_factory.mktemp("memory") / "big", SIZES)


@pytest.fixture(scope="module")
def free(big):
    return run(big, 0)  # it compiles the kernels too, if nobody did


def run(folder, more):
    done = subprocess.run([sys.executable, "-c", RUN, str(folder), str(more), json.dumps(PROMPT)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_limit_maps_the_files(free):
    assert free["limit"] is None and free["streamed"] == 0 and free["read"] == free["used"] > 0


@pytest.mark.parametrize("more", [85_000_000, 115_000_000])
def test_the_process_stays_below_its_limit_and_gives_the_same_tokens(big, free, more):
    """300 tokens of prompt choose all 24 experts of a layer; few of them are held."""
    limited = run(big, more)
    assert limited["tokens"] == free["tokens"] and len(set(limited["tokens"])) > 3
    assert limited["streamed"] == 3 * 24 * (3 * 512 * 1024 + 3 * 4 * 32) and 8 <= limited["slots"] < 40
    assert limited["peak"] <= limited["limit"]
    assert limited["peak"] > limited["limit"] - 60_000_000, "room that is never used would slow it down"


def test_a_limit_above_everything_streams_nothing(big):
    limited = run(big, 300_000_000)
    assert limited["streamed"] == 0 and limited["peak"] <= limited["limit"]


def test_a_limit_below_what_every_token_uses_is_refused_with_two_numbers(big):
    with pytest.raises(Refused) as caught:
        load(source(big), max_memory=50_000_000)
    assert "50,000,000" in str(caught.value) and "are needed" in str(caught.value) and "allow" in caught.value.first.hint


def test_keys_and_values_come_out_of_the_same_limit(big):
    model = load(source(big), max_memory=memory.resident_set() + 105_000_000, capacity=100)
    before = model._store.slots
    session = model.session(5_000)  # 15,360,000 bytes, and an expert has 1,573,248
    assert session.cache.capacity == 5_000 and before - model._store.slots in (9, 10)
    with pytest.raises(Refused) as caught:
        model.session(2_000_000)
    assert "2,000,000 positions" in str(caught.value) and "positions fit" in caught.value.first.hint
    del session
    assert model._store.slots == before


@pytest.fixture
def small(monkeypatch):
    """The process and its room to work count for nothing: limits of kilobytes."""
    monkeypatch.setattr("weighbridge.engine.engine.resident_set", lambda: 0)
    monkeypatch.setattr(memory, "working_bytes", lambda arch: 0)


LAYOUTS = [("hf-fp8", {}), ("hf-bf16", {}), ("neuron", {"attention": "exact"}),
           ("neuron", {"attention": "exact", "shards": True, "tp": 4, "moe_tp": 2})]


@pytest.mark.parametrize(("layout", "options"), LAYOUTS)
def test_every_layout_is_read_by_position_as_it_is_mapped(tmp_path, small, layout, options):
    """Stacks, turned matrices, and experts cut over ranks; room for 2 of 8 experts, so a block must take them in turns."""
    import weighbridge as wb
    from weighbridge.testing.tiny import write_tiny

    write_tiny(tmp_path / "in", hidden=256, inter=256, layers=2, config={"num_experts_per_tok": 2})
    wb.open(tmp_path / "in").convert(tmp_path / "out", layout, **options)
    ids = np.arange(40)
    mapped = engine(tmp_path / "out")
    model = engine(tmp_path / "out", max_memory=least_limit(tmp_path / "out"), capacity=60)
    assert model.plan.streamed_bytes and model._store.slots == model.architecture.routing.top_k == 2
    assert gap(all_logits(model, ids), all_logits(mapped, ids)) < 1e-5
    assert greedy(model, [1, 2, 3], 20) == greedy(mapped, [1, 2, 3], 20)
    assert model._store.misses > 16 and isinstance(model._reader, Positional)


def least_limit(folder):
    """The least limit that is taken, read from the refusal of a smaller one."""
    with pytest.raises(Refused) as caught:
        engine(folder, max_memory=1, capacity=60)
    return int(caught.value.first.hint.split()[1].replace(",", ""))


@pytest.mark.parametrize("variant", ["qwen3_moe-dense-layers", "mixtral"])
def test_other_families_stream_their_experts(tmp_path, small, variant):
    folder = write_model(tmp_path / "m", config_of(variant))
    ids = np.arange(30)
    least = least_limit(folder)
    model = engine(folder, max_memory=least, capacity=60)
    assert model.plan.streamed_bytes and model._store.slots == model.architecture.routing.top_k
    assert gap(all_logits(model, ids), all_logits(engine(folder), ids)) < 1e-5
    roomy = engine(folder, max_memory=least + 2 * model._store.slot_bytes, capacity=60)
    assert roomy._store.slots == model._store.slots + 2
    assert greedy(model, [1, 2, 3], 30) == greedy(roomy, [1, 2, 3], 30) == greedy(engine(folder), [1, 2, 3], 30)
    assert roomy._store.misses < model._store.misses and roomy.bytes_read < model.bytes_read
    assert roomy.plan.floor_bytes_per_token < model.plan.floor_bytes_per_token < model.plan.active_bytes_per_token


def test_a_dense_model_that_does_not_fit_is_refused(tmp_path, small):
    folder = write_model(tmp_path / "m", config_of("llama"))
    total = sum(b.weight.nbytes for b in source(folder).bound)
    with pytest.raises(Refused) as caught:
        engine(folder, max_memory=total, capacity=1)
    assert f"{total:,} bytes are allowed" in str(caught.value) and "no experts" in caught.value.first.hint
    fits = engine(folder, max_memory=total + 2 * 4 * 3 * 2 * 10 * 16, capacity=16)
    assert fits.plan.streamed_bytes == 0 and isinstance(fits._reader, Reader) and not isinstance(fits._reader, Positional)


def test_a_file_that_shrinks_is_told(tmp_path, small):
    import os

    from weighbridge.errors import WeighbridgeError

    folder = write_model(tmp_path / "m", config_of("mixtral"))
    model = engine(folder, max_memory=least_limit(folder), capacity=60)
    os.truncate(folder / "model.safetensors", 5000)
    with pytest.raises(WeighbridgeError) as caught:
        all_logits(model, np.arange(30))
    assert "now it has 5,000" in str(caught.value) and "model.safetensors" in str(caught.value)


def test_experts_that_are_chosen_often_stay(tmp_path, small):
    folder = write_model(tmp_path / "m", config_of("mixtral"))
    model = engine(folder, max_memory=least_limit(folder) + 1 * 2 * 3 * 40 * 72, capacity=60)
    store = model._store
    assert store.slots == 3
    for chosen in ([0, 1], [0, 1], [0, 2], [0, 3], [0, 4]):
        taken = store.take(1, chosen)
        assert list(taken) == chosen and set(store.held) >= {(1, e) for e in chosen} and len(store.held) <= 3
        for e, (gate, _, down) in taken.items():
            assert gap(gate.rows(np.arange(72)), model_values(folder, f"layers.1.moe.experts.{e}.gate")) == 0
            assert gap(down.rows(np.arange(40)), model_values(folder, f"layers.1.moe.experts.{e}.down")) == 0
    assert set(store.held) == {(1, 0), (1, 1), (1, 4)}, "3 was used less often than 1"
    assert (store.hits, store.misses) == (2 + 1 + 1 + 1, 2 + 1 + 1 + 1)


def test_of_equals_the_one_whose_layer_comes_last_goes(tmp_path, small):
    """The same experts in every pass, and room for one fewer: only what was just used is read again, not everything in turn."""
    folder = write_model(tmp_path / "m", config_of("mixtral"))
    model = engine(folder, max_memory=least_limit(folder) + 3 * 2 * 3 * 40 * 72, capacity=60)
    store = model._store
    assert store.slots == 5
    for _ in range(10):
        for layer in range(3):
            store.take(layer, [1, 3])
    assert store.hits + store.misses == 60 and store.hits >= 30


def model_values(folder, name):
    from tests.engine.families import values

    weight = source(folder).inventory[name]
    return values(weight.published, weight.shape, 0)
