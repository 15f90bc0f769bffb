"""Shows what typical loading faults do to the checkpoint, on its heldout.txt.

Usage: python faults.py CHECKPOINT
Each line: the fault, added nats per token and its standard error, mean KL, share of equal top tokens.
"""
import sys
from pathlib import Path

import torch
from evaluate import compare, dequantize, load_model
from transformers import AutoTokenizer


def changed(weights, part, change):
    return {name: change(t) if part in name else t for name, t in weights.items()}


def swapped(weights):
    other = {".w1.": ".w3.", ".w3.": ".w1."}
    return {next((name.replace(a, b) for a, b in other.items() if a in name), name): t
            for name, t in weights.items()}


def broken_weights(weights):
    """Yields the name of each fault and the weights that it leaves."""
    yield "all tensors rounded to BF16 (no fault)", changed(weights, "", lambda t: t.bfloat16().float())
    yield "router weight rounded to BF16", changed(weights, "gate.weight", lambda t: t.bfloat16().float())
    yield "selection bias lost", changed(weights, "correction_bias", torch.zeros_like)
    yield "q_norm and k_norm weights lost", changed(
        changed(weights, "q_norm", torch.ones_like), "k_norm", torch.ones_like)
    yield "one q_proj transposed in its blocks", changed(
        weights, "layers.1.self_attn.q_proj",
        lambda t: t.view(-1, 128, t.shape[1] // 128, 128).transpose(1, 3).reshape(t.shape))
    yield "w1 and w3 swapped", swapped(weights)


def main():
    folder = Path(sys.argv[1])
    tok = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor(tok.encode((folder / "heldout.txt").read_text(encoding="utf-8")))
    weights = dequantize(folder)
    right = load_model(weights, folder)

    def report(name, model):
        r = compare(right, model, ids)
        print(f"{name} | {r['difference']:+.4f} ± {r['difference_stderr']:.4f} | "
              f"{r['mean_kl']:.5f} | {100 * r['same_top1']:.1f} %", flush=True)

    for name, broken in broken_weights(weights):
        report(name, load_model(broken, folder))
    model = load_model(weights, folder)
    for theta in (10000.0, 5000000.0):
        model.model.rotary_emb.inv_freq = theta ** (-torch.arange(0, 64, 2).float() / 64)
        report(f"rope_theta taken as {theta:.0f}", model)


if __name__ == "__main__":
    main()
