"""Rows J (index, shards, truncation), K (tied embeddings) and L7 (a promised draft layer)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.failures.tools import Config, Row, Tensors, build, deepseek, llama, m2, qwen3_moe

Make = Callable[[], tuple[Tensors, Config]]


def halves(tensors: Tensors) -> dict[str, list[str]]:
    names = list(tensors)
    return {"model-00001-of-00002.safetensors": names[: len(names) // 2], "model-00002-of-00002.safetensors": names[len(names) // 2:]}


def good(make: Make) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tensors, config = make()
        return build(folder, tensors, config, shards=halves(tensors))
    return write


def shard_absent(make: Make) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        good(make)(folder)
        (folder / "model-00002-of-00002.safetensors").unlink()
        return folder
    return write


def without(make: Make, *endings: str) -> Callable[[Path], Path]:
    """Weights (with their scales) taken out of files and index alike."""
    def write(folder: Path) -> Path:
        tensors, config = make()
        kept = {name: spec for name, spec in tensors.items() if not any(ending in name for ending in endings)}
        assert len(kept) < len(tensors)
        return build(folder, kept, config, shards=halves(kept))
    return write


def index_with(name: str, make: Make) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tensors, config = make()
        parts = halves(tensors)
        weight_map = {n: file for file, names in parts.items() for n in names} | {name: "model-00002-of-00002.safetensors"}
        return build(folder, tensors, config, shards=parts, index=weight_map)
    return write


def legacy_index(folder: Path) -> Path:
    """Fifteen files by their names, and the index of an earlier export in thirty."""
    tensors, config = llama()
    names = list(tensors)
    build(folder, tensors, config, shards={f"model-{i + 1:05d}-of-00015.safetensors": names[i::15] for i in range(15)})
    index = {"metadata": {}, "weight_map": {name: f"model-{i % 30 + 1:05d}-of-00030.safetensors" for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def fifteen(folder: Path) -> Path:
    tensors, config = llama()
    names = list(tensors)
    return build(folder, tensors, config, shards={f"model-{i + 1:05d}-of-00015.safetensors": names[i::15] for i in range(15)})


def cut(make: Make, keep: float) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        good(make)(folder)
        file = folder / "model-00001-of-00002.safetensors"
        with open(file, "r+b") as handle:
            handle.truncate(int(file.stat().st_size * keep))
        return folder
    return write


def pointer(make: Make) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        good(make)(folder)
        (folder / "model-00001-of-00002.safetensors").write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 4996670464\n")
        return folder
    return write


def header_of(length: int) -> Callable[[Path], Path]:
    """A good file whose header has that many bytes: spaces at its end are allowed by the format."""
    def write(folder: Path) -> Path:
        tensors, config = llama()
        build(folder, tensors, config)
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        old = int.from_bytes(raw[:8], "little")
        path.write_bytes(length.to_bytes(8, "little") + raw[8:8 + old].ljust(length) + raw[8 + old:])
        return folder
    return write


def gptq(qweight: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tensors, config = llama(quantize=False)
        packed: Tensors = {}
        for name, (dtype, shape) in tensors.items():
            path = name.removesuffix(".weight")
            if not path.endswith("_proj"):
                packed[name] = (dtype, shape)
                continue
            rows, columns = shape
            packed |= {path + ".qweight": ("I32", (columns // 8, rows)), path + ".qzeros": ("I32", (columns // 128, rows // 8)),
                       path + ".scales": ("F16", (columns // 128, rows)), path + ".g_idx": ("I32", (columns,))}
        if not qweight:
            del packed["model.layers.1.mlp.up_proj.qweight"]
        config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True, "checkpoint_format": "gptq"}
        zeros = {name: b"\x77" * (4 * shape[0] * shape[1]) for name, (_, shape) in packed.items() if name.endswith("qzeros")}
        order = {name: b"".join((i // 128).to_bytes(4, "little") for i in range(shape[0])) for name, (_, shape) in packed.items() if name.endswith("g_idx")}
        return build(folder, packed, config, data=zeros | order)
    return write


def tied(head: str, **config: object) -> Callable[[Path], Path]:
    """Head: "none", "plain" or "gptq"."""
    def write(folder: Path) -> Path:
        tensors, settings = llama(tied=True, quantize=False)
        settings |= config
        if head == "plain":
            tensors["lm_head.weight"] = ("BF16", (1024, 512))
        if head == "gptq":
            tensors |= {"lm_head.qweight": ("I32", (64, 1024)), "lm_head.qzeros": ("I32", (4, 128)), "lm_head.scales": ("F16", (4, 1024)),
                        "lm_head.g_idx": ("I32", (512,))}
        return build(folder, tensors, settings)
    return write


def nested_tie(inner: bool | None) -> Callable[[Path], Path]:
    """The language model of a multimodal checkpoint: the config says that it is tied, `text_config` may not."""
    def write(folder: Path) -> Path:
        tensors, settings = llama(tied=True, quantize=False)
        text = {key: value for key, value in settings.items() if key != "tie_word_embeddings"}
        if inner is not None:
            text["tie_word_embeddings"] = inner
        return build(folder, tensors, {"model_type": "some_vlm", "architectures": ["SomeVLM"], "tie_word_embeddings": True, "text_config": text})
    return write


def promised(**config: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tensors, settings = m2(**config)
        return build(folder, tensors, settings)
    return write


def deepseek_mtp(there: bool) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        tensors, config = deepseek(mtp=there)
        return build(folder, tensors, config | {"num_nextn_predict_layers": 1})
    return write


ROWS = [
    Row("J2", "WB101", shard_absent(m2), good(m2), where="model-00002-of-00002.safetensors"),
    Row("J2", "WB101", shard_absent(llama), good(llama), "vllm", "model-00002-of-00002.safetensors", variant="llama"),
    Row("J3", "WB109", without(m2, "experts.3.w2"), good(m2), "vllm", "block_sparse_moe.experts.3.w2", variant="expert"),
    Row("J3", "WB109", without(deepseek, "layers.1.self_attn.kv_b_proj"), good(deepseek), "", "layers.1.self_attn.kv_b_proj", variant="deepseek"),
    Row("J3", "WB109", without(qwen3_moe, "layers.0.mlp.gate.weight"), good(qwen3_moe), "", "layers.0.mlp.gate", variant="router"),
    Row("J3", "WB109", without(m2, "layers.1.self_attn.q_norm"), good(m2), "", "layers.1.self_attn.q_norm", variant="norm"),
    Row("J4", "WB104", index_with("mtp.fc.weight", llama), good(llama), "", "mtp.fc.weight"),
    Row("J4", "WB104", index_with("model.layers.9.mlp.gate.weight", qwen3_moe), good(qwen3_moe), "sglang", "model.layers.9.mlp.gate.weight", variant="layer"),
    Row("J5", "WB116", header_of(99_996), header_of(100_008), "", "99,996", severity="warning"),
    Row("J8", "WB101", legacy_index, fifteen, "transformers", "-of-00030.safetensors"),
    Row("J9", "WB109", gptq(False), gptq(True), "", "model.layers.1.mlp.up_proj"),
    Row("J10", "WB102", cut(llama, 0.5), good(llama), "", "model-00001-of-00002.safetensors", variant="data"),
    Row("J10", "WB102", cut(m2, 0.0000001), good(m2), "vllm", "model-00001-of-00002.safetensors", variant="header"),
    Row("J10", "WB103", pointer(llama), good(llama), "", "model-00001-of-00002.safetensors", variant="lfs"),
    Row("K3", "WB112", tied("none", tie_word_embeddings=False), tied("none"), "vllm", "lm_head", variant="untied"),
    Row("K3", "WB112", nested_tie(None), nested_tie(True), "vllm", "text_config", variant="nested"),
    Row("K4", "WB113", tied("gptq"), tied("none"), "vllm", "lm_head"),
    Row("L7", "WB114", promised(use_mtp=True, num_mtp_modules=3), promised(), "", "num_mtp_modules", severity="warning"),
    Row("L7", "WB114", deepseek_mtp(False), deepseek_mtp(True), "vllm", "num_nextn_predict_layers", severity="warning", variant="deepseek"),
]

UNDECIDED: dict[str, str] = {}
