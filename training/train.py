"""Trains a small MiniMax-M2 on the King James text, bounded by wall clock.

Usage: python train.py KJV.txt OUT [--seconds 1560] [--threads 2]
OUT receives tokenizer.json, heldout.txt and best/ (float32, as save_pretrained writes it).
"""
import argparse
import math
import random
import re
import time
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import MiniMaxM2Config, MiniMaxM2ForCausalLM

HELD_OUT = ("Ruth", "Ecclesiastes", "Jonah", "James", "1 John")
BOS, ROLE, EOS = "]~!b[", "]~b]", "[e~["
SYSTEM = "You speak as the King James Bible speaks."
VOCAB, PEAK_LR, BIAS_STEP, CHAT_SHARE = 2048, 3e-3, 1e-3, 0.12


def read_chapters(path):
    """Returns {book: [chapter, ...]}, a chapter being its list of verses without numbers."""
    books, chapter = {}, None
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        verse = re.match(r"\s+\d+ (.*)", line)
        title = re.match(r"(\S.*?) (\d+)$", line)
        if verse:
            chapter.append(verse[1].strip())
        elif title:
            chapter = []
            books.setdefault(title[1], []).append(chapter)
    return books


def train_tokenizer(texts, path):
    """Byte-level BPE; the five chat tokens come after the merges, as in the published model."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - 5, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(texts, trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (BOS, ROLE, EOS)])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>")])
    assert tok.get_vocab_size() == VOCAB
    tok.save(str(path))
    return tok


class Data:
    """Windows of running text, with a share of rows in the chat format."""

    def __init__(self, chapters, tok, rng):
        self.rng, self.tok, self.chapters = rng, tok, [c for c in chapters if len(c) > 3]
        docs = tok.encode_batch([BOS + "\n".join(c) + EOS for c in chapters])
        self.stream = torch.tensor([i for d in docs for i in d.ids])

    def chat_row(self, length):
        """One verse from the user; the verses that follow it from the model."""
        ids = []
        while len(ids) < length:
            chapter = self.rng.choice(self.chapters)
            at = self.rng.randrange(len(chapter) - 2)
            answer = "\n".join(chapter[at + 1:at + self.rng.randint(3, 4)])
            ids += self.tok.encode(
                f"{BOS}{ROLE}system\n{SYSTEM}{EOS}\n{ROLE}user\n{chapter[at]}{EOS}\n"
                f"{ROLE}ai\n<think>\n</think>\n\n{answer}{EOS}\n").ids
        return torch.tensor(ids[:length])

    def batch(self, rows, length):
        out = []
        for _ in range(rows):
            if self.rng.random() < CHAT_SHARE:
                out.append(self.chat_row(length))
            else:
                at = self.rng.randrange(len(self.stream) - length)
                out.append(self.stream[at:at + length])
        return torch.stack(out)


def make_model():
    config = MiniMaxM2Config(
        vocab_size=VOCAB, hidden_size=256, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=6, num_key_value_heads=2, head_dim=128, num_local_experts=8,
        num_experts_per_tok=2, max_position_embeddings=1024, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 0.5},
        bos_token_id=VOCAB - 5, eos_token_id=VOCAB - 3, tie_word_embeddings=False)
    # "batched_mm" is about a hundred times slower on a CPU.
    return MiniMaxM2ForCausalLM._from_config(config, experts_implementation="grouped_mm").float()


class Balancer:
    """The loss-free rule: raise the bias of an expert under its share, lower it above."""

    def __init__(self, model):
        self.blocks = [layer.mlp for layer in model.model.layers]
        self.loads = [torch.zeros(8) for _ in self.blocks]
        for i, block in enumerate(self.blocks):
            block.gate.register_forward_hook(lambda m, a, out, i=i: self.count(m, out[2], i))

    def count(self, gate, picked, i):
        if gate.training:
            self.loads[i] = torch.bincount(picked.flatten(), minlength=8).float()

    def step(self):
        for block, load in zip(self.blocks, self.loads):
            block.e_score_correction_bias += BIAS_STEP * torch.sign(load.mean() - load)

    def report(self):
        worst = max(float(load.max() / load.mean()) for load in self.loads)
        size = max(float(b.e_score_correction_bias.abs().max()) for b in self.blocks)
        return f"worst load {worst:.2f}x, largest bias {size:.3f}"


@torch.no_grad()
def held_out_loss(model, stream, length=512):
    model.eval()
    total = count = 0
    for at in range(0, len(stream) - 1, length):
        ids = stream[None, at:at + length + 1]
        logits = model(ids[:, :-1], use_cache=False).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    model.train()
    return total / count


def learning_rate(done):
    """Warm up over the first 3 % of the time, then a cosine down to 3 %."""
    if done < 0.03:
        return PEAK_LR * (done / 0.03 + 0.01)
    return PEAK_LR * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - 0.03) / 0.97))))


def train(model, data, held, seconds, eval_seconds, out):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                   {"params": vectors, "weight_decay": 0.0}], lr=0.0, betas=(0.9, 0.95))
    balancer, best, step, tokens, recent = Balancer(model), math.inf, 0, 0, []
    start, next_eval = time.monotonic(), eval_seconds
    model.train()
    while True:
        spent = time.monotonic() - start
        if spent >= next_eval or spent >= seconds:
            loss = held_out_loss(model, held)
            if loss < best:
                best = loss
                model.save_pretrained(out / "best")
            print(f"  held-out {loss:.4f} (best {best:.4f}); {balancer.report()}", flush=True)
            next_eval = spent + eval_seconds
        if spent >= seconds:
            break
        rate = learning_rate(spent / seconds)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids = data.batch(2, 1025) if step % 8 == 7 else data.batch(8, 257)
        logits = model(ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        balancer.step()
        step, tokens, recent = step + 1, tokens + ids.shape[0] * (ids.shape[1] - 1), recent + [loss.item()]
        if step % 50 == 0:
            print(f"step {step} seconds {time.monotonic() - start:.0f} tokens {tokens} lr {rate:.2e} "
                  f"loss {sum(recent) / len(recent):.4f}", flush=True)
            recent = []
    print(f"done: {step} steps, {tokens} tokens, {time.monotonic() - start:.0f} s, best held-out {best:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1560)
    parser.add_argument("--eval-seconds", type=float, default=120)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1611)
    args.out.mkdir(parents=True, exist_ok=True)
    books = read_chapters(args.text)
    kept = [c for name, chapters in books.items() if name not in HELD_OUT for c in chapters]
    held = [c for name in HELD_OUT for c in books[name]]
    tok = train_tokenizer(("\n".join(c) for c in kept), args.out / "tokenizer.json")
    held_text = "\n\n".join("\n".join(c) for c in held) + "\n"
    (args.out / "heldout.txt").write_text(held_text, encoding="utf-8")
    data = Data(kept, tok, random.Random(1611))
    held_ids = torch.tensor(tok.encode(held_text).ids)
    model = make_model()
    print(f"{len(books)} books, {len(data.stream)} training tokens, {len(held_ids)} held-out tokens, "
          f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    train(model, data, held_ids, args.seconds, args.eval_seconds, args.out)


if __name__ == "__main__":
    main()
