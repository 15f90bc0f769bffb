"""Scores and sampling against transformers, on the demo checkpoint and on random logits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import weighbridge as wb  # noqa: E402
from weighbridge.engine.sampling import Sampling, distribution  # noqa: E402
from weighbridge.engine.score import score  # noqa: E402

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory):
    """transformers on the dequantized weights, in float32."""
    folder = tmp_path_factory.mktemp("demo") / "bf16"
    source = wb.open(DEMO)
    source.convert(folder, "hf-bf16")
    # BF16 rounds what FP8 times scale gives: the weights are replaced by the exact values below.
    shutil.copy(DEMO / "generation_config.json", folder / "generation_config.json")
    config = json.loads((folder / "config.json").read_text())
    config.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(config))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).float().eval()
    from weighbridge.plan.reader import Reader

    reader, exact = Reader(source.source), {}
    for bound in source.source.bound:
        weight = source.source.inventory[bound.stored.placement.parts[0].weight]
        exact[weight.name] = torch.from_numpy(np.ascontiguousarray(reader.matrix(bound).decode()))
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            at = f"layers.{number}."
            for part in "qkvo":
                getattr(layer.self_attn, f"{part}_proj").weight.copy_(exact[f"{at}attn.{part}"])
            experts = layer.mlp.experts
            for e in range(config["num_local_experts"]):
                experts.gate_up_proj[e].copy_(torch.cat([exact[f"{at}moe.experts.{e}.gate"], exact[f"{at}moe.experts.{e}.up"]]))
                experts.down_proj[e].copy_(exact[f"{at}moe.experts.{e}.down"])
    return model


def test_nats_per_token_are_those_of_transformers(reference) -> None:
    ours = wb.load(DEMO)
    ids = ours.tokenizer.encode((DEMO / "heldout.txt").read_text(encoding="utf-8"))[:2049]
    found = score(ours.engine, ids, 1)
    losses = []
    with torch.no_grad():
        for at in range(0, len(ids) - 1, 512):
            part = torch.tensor(ids[at : at + 513])
            logits = reference(part[None, :-1]).logits[0].double()
            losses.append(torch.nn.functional.cross_entropy(logits, part[1:], reduction="none"))
    theirs = float(torch.cat(losses).mean())
    assert abs(found.nats_per_token - theirs) < 0.002, (found.nats_per_token, theirs)


def test_greedy_text_is_that_of_transformers(reference) -> None:
    ours = wb.load(DEMO)
    for prompt in ("In the beginning", "And it came to pass", "The LORD is"):
        ids = ours.tokenizer.encode(prompt)
        with torch.no_grad():
            theirs = reference.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False, pad_token_id=0)[0, len(ids):].tolist()
        mine = [piece.id for piece in ours.generate(ids, max_tokens=64, temperature=0)]
        assert mine[: len(theirs)] == theirs[: len(mine)], prompt


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("settings", [Sampling(0.7), Sampling(1.0, top_k=40), Sampling(0.8, 0.95, 40), Sampling(1.3, 0.5), Sampling(1.0, 0.9, 3)])
def test_what_is_left_to_draw_from_is_what_transformers_leaves(settings: Sampling, seed: int) -> None:
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = np.random.default_rng(seed).normal(0, 3, 500).astype(np.float32)
    kept, probabilities = distribution(logits, settings)
    scores = TemperatureLogitsWarper(settings.temperature)(None, torch.from_numpy(logits)[None].double())
    if settings.top_k:
        scores = TopKLogitsWarper(settings.top_k)(None, scores)
    if settings.top_p < 1:
        scores = TopPLogitsWarper(settings.top_p)(None, scores)
    expected = torch.softmax(scores, -1)[0].numpy()
    assert set(kept.tolist()) == set(np.flatnonzero(expected > 0).tolist())
    assert np.allclose(expected[kept], probabilities, atol=1e-12)
