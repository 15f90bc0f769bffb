"""transformers, kept running beside bench_run: reads one command a line, answers with the seconds that it took.

    python benchmarks/peer_transformers.py FOLDER EXPERTS THREADS

FOLDER holds a BF16 checkpoint, EXPERTS is the name of an experts implementation. Commands: `prefill N` (N tokens into
an empty cache), `decode N` (N tokens, one at a time, after 16 tokens that are not timed).
"""
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main() -> None:
    folder, experts, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, experts_implementation=experts).eval()
    print("ready", model.dtype, flush=True)
    with torch.inference_mode():
        for line in sys.stdin:
            what, count = line.split()
            print({"prefill": prefill, "decode": decode}[what](model, int(count)), flush=True)


def prefill(model, count: int) -> float:
    ids = tokens(model, count)
    start = time.perf_counter()
    model(ids, use_cache=True, logits_to_keep=1)
    return time.perf_counter() - start


def decode(model, count: int) -> float:
    out = model(tokens(model, 16), use_cache=True, logits_to_keep=1)
    start = time.perf_counter()
    for _ in range(count):
        out = model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
    return time.perf_counter() - start


def tokens(model, count: int) -> torch.Tensor:
    return torch.arange(1, count + 1)[None] * 31 % model.config.vocab_size


if __name__ == "__main__":
    main()
