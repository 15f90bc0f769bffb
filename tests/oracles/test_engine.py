"""The engine against transformers: every family, every variant, the same logits and the same greedy tokens."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import weighbridge as wb
from tests.engine.families import GOLDEN, VARIANTS, VOCAB, all_logits, config_of, engine, gap, greedy, source, write_model
from weighbridge.engine.weights import Weights
from weighbridge.plan.reader import Reader
from weighbridge.testing.safetensors_writer import write_file

IDS = np.random.default_rng(7).integers(3, VOCAB, 40)
TOLERANCE = 1e-4  # of the largest logit; the largest gap that was seen is 4e-6


@cache
def threads():
    torch.set_num_threads(1)


def oracle(folder):
    """The model as transformers loads it from `folder`, in float32. Nothing may be missing and nothing left over."""
    threads()
    model, told = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    return model.eval()


@torch.no_grad()
def reference(model, ids):
    return model(torch.tensor(np.asarray(ids))[None], use_cache=False).logits[0].float().numpy()


def reference_greedy(model, ids, tokens):
    out = list(map(int, ids))
    for _ in range(tokens):
        out.append(int(reference(model, out)[-1].argmax()))
    return out[len(ids) :]


@pytest.fixture(scope="module", params=VARIANTS)
def model(request, tmp_path_factory):
    folder = write_model(tmp_path_factory.mktemp(request.param), config_of(request.param))
    return request.param, folder, oracle(folder)


def test_logits_of_a_prompt_and_of_token_after_token(model):
    _, folder, theirs = model
    wanted, ours = reference(theirs, IDS), engine(folder)
    assert gap(all_logits(ours, IDS), wanted) < TOLERANCE
    session = ours.session(len(IDS))
    assert gap(np.stack([session.feed([i]) for i in IDS]), wanted) < TOLERANCE
    parts = ours.session(len(IDS))
    assert gap(np.concatenate([parts.feed(part, rows="all") for part in np.split(IDS, [11, 12, 31])]), wanted) < TOLERANCE


def test_greedy_tokens(model):
    _, folder, theirs = model
    assert greedy(engine(folder), IDS[:8].tolist(), 64) == reference_greedy(theirs, IDS[:8], 64)


def test_what_transformers_writes_is_read(model, tmp_path):
    """Its config.json has `rope_parameters` in place of the flat keys."""
    _, _, theirs = model
    theirs.save_pretrained(tmp_path / "saved")
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert "rope_parameters" in written and "rope_theta" not in written
    assert gap(all_logits(engine(tmp_path / "saved"), IDS), reference(theirs, IDS)) < TOLERANCE


def test_fp8_blocks_are_run_as_their_decoded_values(model, tmp_path):
    """Ragged 32 x 32 blocks, made by `convert`; transformers gets the decoded values."""
    name, folder, theirs = model
    wb.open(folder).convert(tmp_path / "fp8", "hf-fp8", block=(32, 32))
    bound = source(tmp_path / "fp8")
    assert bound.layout == "hf-fp8" and bound.scales == sum(w.linear for w in bound.inventory.weights.values())
    weights = Weights(bound, Reader(bound))
    tensors = {}
    for weight in bound.inventory.weights.values():
        value = weights.vector(weight.name) if weight.vector else weights.linear(weight.name).rows(np.arange(weight.shape[0]))
        tensors[weight.published] = ("F32", weight.shape[1:] if weight.vector else weight.shape, value.tobytes())
    (tmp_path / "decoded").mkdir()
    write_file(tmp_path / "decoded" / "model.safetensors", tensors)
    (tmp_path / "decoded" / "config.json").write_text(json.dumps(config_of(name)))
    decoded = oracle(tmp_path / "decoded")
    wanted = reference(decoded, IDS)
    assert gap(wanted, reference(theirs, IDS)) > 0.01, "rounding to FP8 must show"
    ours = engine(tmp_path / "fp8")
    assert gap(all_logits(ours, IDS), wanted) < TOLERANCE
    assert greedy(ours, IDS[:8].tolist(), 64) == reference_greedy(decoded, IDS[:8], 64)


def test_the_stored_logits_are_those_of_transformers(model):
    """tests/engine/golden is what `make test` holds the engine to; WEIGHBRIDGE_GOLDEN=1 writes it anew."""
    import os

    name, _, theirs = model
    path, wanted = GOLDEN / f"{name}.json", reference(theirs, IDS)
    if os.environ.get("WEIGHBRIDGE_GOLDEN"):
        rows = [0, 19, 39]
        document = {"config": config_of(name), "ids": IDS.tolist(), "greedy": reference_greedy(theirs, IDS[:8], 64),
                    "logits": {str(row): [float(f"{v:.6g}") for v in wanted[row]] for row in rows}}
        path.write_text(json.dumps(document) + "\n")
    stored = json.loads(path.read_text())
    assert stored["config"] == config_of(name) and stored["ids"] == IDS.tolist()
    assert all(gap(np.array(row), wanted[int(at)]) < 1e-5 for at, row in stored["logits"].items())
