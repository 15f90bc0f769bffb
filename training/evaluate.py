"""Compares the original BF16 weights with the dequantized FP8 ones; both run in float32.

Usage: python evaluate.py RUN CHECKPOINT [--results results.json]
Prints held-out nats per token, their paired difference, and samples of both.
"""
import argparse
import json
import shutil
import tempfile
from pathlib import Path

import torch
from quantize import original
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
WINDOW = 512
PROMPTS = ("In the beginning", "And it came to pass", "The LORD is")


def dequantize(folder):
    """Codes times the scale of their block, in float32. A scale may stand in another file."""
    stored = {}
    for path in sorted(folder.glob("*.safetensors")):
        stored.update(load_file(path))
    weights = {}
    for name, tensor in stored.items():
        scale = stored.get(name + "_scale_inv")
        if scale is not None:
            rows, columns = tensor.shape
            spread = scale.repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :columns]
            tensor = tensor.float() * spread
        if not name.endswith("_scale_inv"):
            weights[name] = tensor.float()
    return weights


def load_model(weights, folder):
    """Loads through transformers with the checkpoint's own config, less its quantization."""
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    with tempfile.TemporaryDirectory() as temporary:
        Path(temporary, "config.json").write_text(json.dumps(config))
        # Without this file, "use_mtp" in config.json turns on MTP decoding, and generate() fails.
        shutil.copy(folder / "generation_config.json", temporary)
        save_file(weights, Path(temporary, "model.safetensors"), metadata={"format": "pt"})
        model, info = AutoModelForCausalLM.from_pretrained(
            temporary, dtype=torch.float32, experts_implementation="grouped_mm", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


@torch.no_grad()
def window_logits(model, ids):
    """Windows of 512 tokens, each scored from its own start."""
    for at in range(0, len(ids) - 1, WINDOW):
        part = ids[at:at + WINDOW + 1]
        yield part[1:], model(part[None, :-1], use_cache=False).logits[0].log_softmax(-1)


def compare(first, second, ids):
    losses, kl, same = [], [], []
    for (want, a), (_, b) in zip(window_logits(first, ids), window_logits(second, ids)):
        losses.append(torch.stack([-x.gather(1, want[:, None])[:, 0] for x in (a, b)]))
        kl.append((a.exp() * (a - b)).sum(-1))
        same.append(a.argmax(-1) == b.argmax(-1))
    losses = torch.cat(losses, dim=1).double()
    difference = losses[1] - losses[0]
    return {"tokens": losses.shape[1],
            "bf16_nats_per_token": round(losses[0].mean().item(), 5),
            "fp8_nats_per_token": round(losses[1].mean().item(), 5),
            "difference": round(difference.mean().item(), 5),
            "difference_stderr": round((difference.std() / len(difference) ** 0.5).item(), 5),
            "mean_kl": round(torch.cat(kl).mean().item(), 5),
            "same_top1": round(torch.cat(same).float().mean().item(), 4)}


def sample(model, tok, ids, tokens=90):
    """Temperature 0.8, top-k 40. The seed is fixed, so both models draw the same numbers."""
    torch.manual_seed(7)
    ids = torch.tensor([ids])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=True,
                         temperature=0.8, top_k=40, top_p=1.0, bos_token_id=tok.bos_token_id,
                         eos_token_id=tok.eos_token_id, pad_token_id=tok.eos_token_id)
    return tok.decode(out[0])


def samples(models, tok):
    chat = tok.apply_chat_template([{"role": "user", "content": "Who is my neighbour?"}],
                                   add_generation_prompt=True, tokenize=False)
    found = {}
    for prompt in (*PROMPTS, chat):
        ids = tok.encode(prompt if prompt == chat else tok.bos_token + prompt)
        found[prompt] = {name: sample(model, tok, ids) for name, model in models.items()}
        for name, text in found[prompt].items():
            print(f"--- {name}\n{text}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(2)
    tok = AutoTokenizer.from_pretrained(args.checkpoint)
    bf16 = {name: t.float() for name, t in original(args.run).items()}
    models = {"bf16": load_model(bf16, args.checkpoint),
              "fp8": load_model(dequantize(args.checkpoint), args.checkpoint)}
    results = {}
    for key, path in (("all held-out books", args.run / "heldout.txt"),
                      ("heldout.txt of the checkpoint", args.checkpoint / "heldout.txt")):
        text = path.read_text(encoding="utf-8")
        ids = torch.tensor(tok.encode(text, add_special_tokens=False))
        results[key] = {"bytes": len(text.encode()), **compare(models["bf16"], models["fp8"], ids)}
        print(key, json.dumps(results[key], indent=1))
    results["samples"] = samples(models, tok)
    if args.results:
        args.results.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
