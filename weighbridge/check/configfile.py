"""`--config FILE`: settings of a reader, or a configuration file that stands in for the checkpoint's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from weighbridge.check.commandline import Command, read_flags
from weighbridge.check.flags import FLAGS, neuron_fields
from weighbridge.checkpoint.checkpoint import INDEX, JSON_LIMIT
from weighbridge.errors import Usage

YAML_LIMIT = 256_000  # bytes; a configuration of a server has a few hundred
MOST_FILES, DEEPEST = 64, 64
# A JSON with one of these keys holds settings of NxD Inference.
NEURON_KEYS = frozenset({"tp_degree", "moe_tp_degree", "moe_ep_degree", "ep_degree", "quantized", "quantized_checkpoints_path", "quantization_type",
                         "quantization_dtype", "blockwise_matmul_config", "logical_nc_config", "tkg_batch_size", "ctx_batch_size"})
MODEL_KEYS = frozenset({"architectures", "model_type", "hidden_size", "num_hidden_layers"})
GPTQ_FILES = ("quantize_config.json", "quant_config.json")
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmgtKMGT]?)(i?)[bB]?")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
KNOWN = "neuron_config.json, a YAML of vllm serve, hf_quant_config.json, config.json or model.safetensors.index.json"


@dataclass
class Configs:
    """What all `--config` files say together; of two that say the same thing the later counts.

    `fields` are those of `check.settings.Settings`. `overlay` holds files that stand in for the checkpoint's own (`store.OverlayStore`).
    `runtime` is told by the kind of file, empty where it tells none. `memory_share` and `unread` are as in `commandline.Command`.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    overlay: dict[str, bytes] = field(default_factory=dict)
    runtime: str = ""
    memory_share: float = 0.0
    unread: list[str] = field(default_factory=list)

    def join(self, fields: dict[str, Any]) -> None:
        """Add fields; `neuron`, `environment` and `sources` are joined key by key."""
        self.fields = joined(self.fields, fields)


def joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Fields of Settings from two places; the second counts where both speak. For files, then the command line, then own flags."""
    out = {**first, **second}
    for name in ("neuron", "environment", "sources"):
        if name in first and name in second:
            out[name] = {**first[name], **second[name]}
    return out


def read_files(paths: Iterable[Path], present: Collection[str] = (), runtime: str = "") -> Configs:
    """All that the files say, and folders of such files. `present` are the names of the checkpoint's own files, `runtime` is whose YAML it is.

    Raises Usage that names the file where it cannot be read or is none that is known.
    """
    found = Configs()
    for path in _files(paths):
        if path.suffix.lower() in (".yaml", ".yml"):
            _yaml(found, path, runtime)
        else:
            _json(found, path, present)
    return found


def parse_size(text: str, where: str) -> int:
    """A size in bytes from `24GB` (decimal, as the report prints sizes), `96GiB` (binary) or a plain number of bytes."""
    found = _SIZE.fullmatch(text.strip())
    size = float(found[1]) * (1024 if found[3] else 1000) ** _POWER[found[2].lower()] if found else 0
    if not 1 <= size <= 1 << 60 or (found and found[3] and not found[2]):
        raise Usage(f"{text!r:.40} is not a size", where, "write 24GB, 96GiB or a number of bytes")
    return int(size)


def _files(paths: Iterable[Path]) -> list[Path]:
    listed: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in (".json", ".yaml", ".yml") and p.is_file())
            if not inside:
                raise Usage("the folder holds no .json and no .yaml", f"--config {path}", f"known are {KNOWN}")
            listed += [p for p in inside if p.name not in ("weighbridge.json", "generation_config.json") and not p.name.startswith("tokenizer")]
        else:
            listed.append(path)
    if len(listed) > MOST_FILES:
        raise Usage(f"{len(listed):,} files, the limit is {MOST_FILES}", "--config", "name the files")
    return listed


def _read(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise Usage(f"{size:,} bytes, the limit is {limit:,}", f"--config {path}")
        with open(path, "rb") as file:  # a pipe or a device has no size: read no more than the limit
            raw = file.read(limit + 1)
    except OSError as error:
        raise Usage(f"cannot be read: {error.strerror}", f"--config {path}", f"known are {KNOWN}") from error
    if len(raw) > limit:
        raise Usage(f"more than {limit:,} bytes", f"--config {path}")
    return raw


def _json(found: Configs, path: Path, present: Collection[str]) -> None:
    raw = _read(path, JSON_LIMIT)
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Usage(f"is not JSON: {error}", f"--config {path}") from None
    if not isinstance(value, dict):
        raise Usage("is not a JSON object", f"--config {path}", f"known are {KNOWN}")
    name = _kind(path, value)
    if name != "neuron_config.json":
        found.overlay[name] = raw
        return
    inner = value.get("neuron_config", value)
    if not isinstance(inner, dict):
        raise Usage(f"neuron_config is {inner!r:.40}, not an object", f"--config {path}")
    _neuron(found, path, inner)
    if "neuron_config.json" in present:
        found.overlay["neuron_config.json"] = msgspec.json.encode(inner)


def _kind(path: Path, value: dict[str, Any]) -> str:
    """Which of the checkpoint's files it is, by what it holds; by its name where that says nothing."""
    if "neuron_config" in value or not NEURON_KEYS.isdisjoint(value) and "model_type" not in value:
        return "neuron_config.json"
    if "weight_map" in value:
        return INDEX
    if not MODEL_KEYS.isdisjoint(value):
        return "config.json"
    quantization = value.get("quantization")
    if isinstance(quantization, dict) or "producer" in value:
        return "hf_quant_config.json"
    if path.name in GPTQ_FILES or path.name in ("config.json", "neuron_config.json", "hf_quant_config.json"):
        return path.name
    raise Usage(f"holds {', '.join(map(str, list(value)[:4])) or 'nothing'}: no configuration that is known", f"--config {path}",
                f"known are {KNOWN}")


def _neuron(found: Configs, path: Path, settings: dict[str, Any]) -> None:
    sources: dict[str, str] = {}
    fields = neuron_fields(settings, path.name, sources)
    for key in settings:
        sources[f"neuron:{key}"] = f"{path.name}: {key}"
    found.join(fields | {"neuron": dict(settings), "sources": sources})
    found.runtime = found.runtime or "neuron"


def _yaml(found: Configs, path: Path, runtime: str) -> None:
    value = load_yaml(path)
    runtime = runtime or _reader_of(value)
    pairs = [(str(key), inner) for key, inner in value.items() if isinstance(key, str)]
    if runtime == "tensorrt-llm":
        pairs += [(key, inner) for outer in ("kv_cache_config", "moe_config") if isinstance(value.get(outer), dict) for key,
                  inner in value[outer].items()
                  if key == "free_gpu_memory_fraction"]
        cache = value.get("kv_cache_config")
        if isinstance(cache, dict) and isinstance(cache.get("dtype"), str):
            pairs.append(("kv-cache-dtype", cache["dtype"]))
    command: Command = read_flags(runtime, [(key, inner) for key, inner in pairs if inner is not None])
    fields = command.fields
    unread = fields["sources"].pop("unread", "")
    fields["sources"] = {name: f"{path.name}: {said.lstrip('-')}" for name, said in fields["sources"].items()}
    if unread:
        fields["sources"][f"unread: {path.name}"] = unread.replace("--", "")
    found.join(fields)
    found.runtime = found.runtime or command.runtime
    found.memory_share = command.memory_share or found.memory_share
    found.unread += [f"{path.name}: {flag.lstrip('-')}" for flag in command.unread]


def _reader_of(value: dict[str, Any]) -> str:
    """Whose YAML it is: the reader that knows most of its keys; vLLM if that does not tell."""
    keys = {key.replace("_", "-").lower() for key in value if isinstance(key, str)}
    if keys & {"kv-cache-config", "moe-config", "cuda-graph-config"}:
        return "tensorrt-llm"
    return max(("vllm", "sglang", "tensorrt-llm"), key=lambda runtime: len(keys & FLAGS[runtime].keys()))


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML map of plain values. Aliases are refused: no server's configuration needs them, and they can blow up."""
    raw = _read(path, YAML_LIMIT)
    try:
        import yaml
    except ImportError:
        raise Usage("reading YAML needs PyYAML", f"--config {path}",
                    "pip install 'weighbridge[check]', or give the same as a command line after --") from None
    try:
        for token in yaml.scan(raw):
            if isinstance(token, (yaml.AliasToken, yaml.TagToken)):
                raise Usage("YAML aliases and tags are not read", f"--config {path}", "write the values out")
        value = yaml.safe_load(raw)
    except (yaml.YAMLError, RecursionError, ValueError, UnicodeError) as error:
        raise Usage(f"is not YAML: {' '.join(str(error).split())[:200]}", f"--config {path}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Usage("is not a map of settings", f"--config {path}", "write key: value lines")
    if _depth(value) > DEEPEST:
        raise Usage(f"is nested more than {DEEPEST} deep", f"--config {path}")
    return value


def _depth(value: Any) -> int:
    """Levels of lists and maps, without recursion."""
    deepest, left = 0, [(value, 1)]
    while left:
        inner, level = left.pop()
        deepest = max(deepest, level)
        if level <= DEEPEST and isinstance(inner, (dict, list)):
            left += [(v, level + 1) for v in (inner.values() if isinstance(inner, dict) else inner)]
    return deepest
