"""Inputs that are large in one place, each of at most 10 MB: values, lists, keys, levels, names, axes, patterns.

`values()` are JSON values for any key of a configuration, `LARGE[name](folder)` changes a good folder of `tiny.write_tiny` in place. Whatever reads the folder
must answer within two seconds beyond what its size costs, in words that a terminal can hold.
"""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .safetensors_writer import encode, read_header
from .shapes import SCALE

LARGE: dict[str, Callable[[Path], None]] = {}
CONFIG, INDEX, HF_QUANT, NEURON = "config.json", "model.safetensors.index.json", "hf_quant_config.json", "neuron_config.json"
MODULES, ENTRIES = 60_000, 10_000  # modules in a header of less than 10 MB, and entries of a list
# Patterns whose time grows with a power of the text's length, or exponentially, where an engine tries every way.
PATTERNS = ("(a+)+$", "(a*)*b", "(.*)*x", "(.*a){20}x", "((.*)*)*$", "(?:.*)+x", ".*.*.*.*.*.*.*.*x", "(a|a)*b", "(a|aa)+$", "(\\w+\\.?)+!", "(x?){30}x{30}!",
            "(?:(?:.*)\\.){8}!", "^(([a-z])+.)+[A-Z]([a-z])+$", "(?=(.*)*x)y", "(.+)\\1\\1!", "(?:a?){200}a{200}!", "((){1000}){1000}!", "[^x]*[^y]*[^z]*[^a]*[^b]*!",
            "(?:\\d|\\w|[a-z_.])*!", "(?>a+)+!", "a++a", "(?i:(m+)+)!")


def large(function: Callable[[Path], None]) -> Callable[[Path], None]:
    """Registers an input under the name of its function."""
    LARGE[function.__name__] = function
    return function


def values() -> dict[str, Any]:
    """JSON texts of values that are large in one way."""
    return {
        "long text": json.dumps("x" * 4_000_000), "escapes": json.dumps("\x1b[31m\n" * 200_000), "many numbers": json.dumps([1] * 1_000_000),
        "many texts": json.dumps([f"model.layers.{n}.mlp" for n in range(200_000)]), "many keys": json.dumps({f"k{n}": n for n in range(200_000)}),
        "many objects": json.dumps([{"a": 1}] * 300_000), "deep": "[" * 500 + "]" * 500, "deep objects": '{"a":' * 500 + "1" + "}" * 500,
        "10^9": str(10**9), "2^24": str(1 << 24), "65536": "65536", "10^18": str(10**18), "10^100": str(10**100), "5,000 digits": "9" * 5000, "1e308": "1e308",
        "true": "true", "pair of 10^6": "[1000000,1000000]", "many pairs": json.dumps([[1, 1]] * 300_000),
    }


def set_text(path: Path, keys: tuple[str, ...], text: str) -> None:
    """Puts a JSON text at a place of a JSON file, which may be new."""
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    at = config
    for key in keys[:-1]:
        at[key] = at[key] if isinstance(at.get(key), dict) else {}
        at = at[key]
    at[keys[-1]] = "\0here"
    path.write_text(json.dumps(config).replace('"\\u0000here"', text), encoding="utf-8")


def _set(path: Path, keys: tuple[str, ...], value: Any) -> None:
    set_text(path, keys, json.dumps(value))


def header_only(folder: Path, tensors: dict[str, tuple[str, list[int], int]], name: str = "model.safetensors") -> None:
    """Replaces all shards by one file with these tensors (dtype, shape, bytes); its data is a hole on the disk."""
    for path in [*folder.glob("*.safetensors"), folder / INDEX]:
        path.unlink(missing_ok=True)
    header, end = {}, 0
    for each, (dtype, shape, size) in tensors.items():
        header[each] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = encode(header)
    with open(folder / name, "wb") as file:
        file.write(raw)
        file.truncate(len(raw) + end)


def _experts(count: int) -> list[str]:
    return [f"model.layers.{n // 768}.block_sparse_moe.experts.{n // 3 % 256}.w{n % 3 + 1}" for n in range(count)]


def many_modules(folder: Path, coded: bool = False) -> None:
    """Many modules of experts in one header, with or without codes and scales."""
    tensors: dict[str, tuple[str, list[int], int]] = {}
    for path in _experts(MODULES // 2 if coded else MODULES):
        tensors[f"{path}.weight"] = ("F8_E4M3", [128, 128], 16384) if coded else ("BF16", [8, 8], 128)
        if coded:
            tensors[f"{path}.{SCALE}"] = ("F32", [1, 1], 4)
    header_only(folder, tensors)


# Names, shapes and numbers of tensors.


@large
def axes(folder: Path) -> None:
    """A tensor with 20,000 axes of one element."""
    header_only(folder, {"model.embed_tokens.weight": ("F32", [1] * 20_000, 4)})


@large
def axes_of_two(folder: Path) -> None:
    """A tensor with 1,000,000 axes of two elements: the number of its elements has 300,000 digits."""
    header_only(folder, {"model.embed_tokens.weight": ("F32", [2] * 1_000_000, 4)})


@large
def axes_in_many(folder: Path) -> None:
    """10,000 tensors with 64 axes each, all different."""
    header_only(folder, {f"t{n}": ("U8", [1] * (n % 63) + [n % 200 + 1] + [1] * (63 - n % 63), n % 200 + 1) for n in range(10_000)})


@large
def sizes_in_many(folder: Path) -> None:
    """60,000 tensors of a size of their own."""
    header_only(folder, {f"model.layers.0.t{n}.weight": ("U8", [n + 1], n + 1) for n in range(60_000)})


@large
def names_alike(folder: Path) -> None:
    """60,000 tensors whose names differ in one number, which no family has."""
    header_only(folder, {f"model.layers.{n}.self_attn.q_proj.weight": ("BF16", [8, 8], 128) for n in range(60_000)})


@large
def names_unlike(folder: Path) -> None:
    """60,000 tensors whose names have nothing in common."""
    header_only(folder, {f"{n * 2654435761 % 2**32:08x}.{n * 40503 % 65536:x}x{n:x}.weight": ("BF16", [8, 8], 128) for n in range(60_000)})


@large
def name_long(folder: Path) -> None:
    """One tensor whose name has 4,000,000 letters."""
    header_only(folder, {"model." + "a" * 4_000_000 + ".weight": ("BF16", [8, 8], 128)})


@large
def name_of_dots(folder: Path) -> None:
    """One tensor whose name has 1,000,000 dots."""
    header_only(folder, {"model" + ".a" * 1_000_000 + ".weight": ("BF16", [8, 8], 128)})


@large
def names_of_numbers(folder: Path) -> None:
    """20,000 tensors whose names have 50 numbers each."""
    header_only(folder, {f"model.{n}" + ".layers.1.2" * 25 + ".weight": ("BF16", [8, 8], 128) for n in range(20_000)})


@large
def name_twice_over(folder: Path) -> None:
    """A name that repeats its prefix 20,000 times."""
    header_only(folder, {"model." * 20_000 + "weight": ("BF16", [8, 8], 128), "model.layers.0." * 20_000 + "weight": ("BF16", [8, 8], 128)})


@large
def number_long(folder: Path) -> None:
    """A layer number with 100,000 digits, and an expert's."""
    header_only(folder, {f"model.layers.{'9' * 100_000}.mlp.experts.{'8' * 100_000}.w1.weight": ("BF16", [8, 8], 128),
                         f"model.layers.{'9' * 20}.mlp.experts.{'8' * 20}.w1.weight": ("BF16", [8, 8], 128)})


@large
def number_huge(folder: Path) -> None:
    """Two layers, one of them with the number 10^9, and an expert 10^12."""
    header_only(folder, {f"model.layers.{n}.mlp.experts.{n * 1000}.w1.weight": ("BF16", [8, 8], 128) for n in (0, 10**9)})


@large
def axes_wrong_everywhere(folder: Path) -> None:
    """60,000 tensors whose bytes are not those of their shape."""
    header_only(folder, {f"model.layers.{n}.weight": ("BF16", [8, n + 1], 128) for n in range(60_000)})


@large
def dtype_long(folder: Path) -> None:
    """A dtype with 4,000,000 letters, and 1,000 that nobody knows."""
    header_only(folder, {"a": ("F" * 4_000_000, [8, 8], 128), **{f"b{n}": (f"X{n}", [8], 8) for n in range(1000)}})


@large
def scales_without_weights(folder: Path) -> None:
    """60,000 scales, each of a weight that is not there."""
    header_only(folder, {f"{path}.{SCALE}": ("F32", [1, 1], 4) for path in _experts(MODULES)})


@large
def metadata_large(folder: Path) -> None:
    """Free metadata: 100,000 keys, and a text of 2,000,000 letters that looks like a claim."""
    path = sorted(folder.glob("*.safetensors"))[0]
    header, start = read_header(path)
    data = path.read_bytes()[start:]
    texts = {f"k{n}": '{"_type": "x", "a": ' + "[" * 20 for n in range(100_000)} | {"claim": '{"_type": "' + "x" * 2_000_000 + '"}'}
    path.write_bytes(encode({"__metadata__": texts, **header}) + data)


@large
def metadata_layers(folder: Path) -> None:
    """ComfyUI's metadata with 50,000 layers of 50,000 formats."""
    path = sorted(folder.glob("*.safetensors"))[0]
    header, start = read_header(path)
    data = path.read_bytes()[start:]
    told = json.dumps({"layers": {f"l{n}": {"format": f"f{n}"} for n in range(50_000)}})
    path.write_bytes(encode({"__metadata__": {"_quantization_metadata": told}, **header}) + data)


# The index.


@large
def index_absent_files(folder: Path) -> None:
    """The index names 100,000 files that are not here."""
    _set(folder / INDEX, ("weight_map",), {f"t{n}": f"m{n}.safetensors" for n in range(100_000)})


@large
def index_bad_paths(folder: Path) -> None:
    """The index names 100,000 files that lead out of the folder."""
    _set(folder / INDEX, ("weight_map",), {f"t{n}": f"../{n}.safetensors" for n in range(100_000)})


@large
def index_long_path(folder: Path) -> None:
    """The index names a file by 1,000,000 folders, and one of 1,000,000 letters."""
    _set(folder / INDEX, ("weight_map",), {"a": "a/" * 1_000_000 + "x.safetensors", "b": "b" * 1_000_000 + ".safetensors"})


@large
def surplus_files(folder: Path) -> None:
    """3,000 empty .safetensors files beside the checkpoint, and 3,000 others."""
    for n in range(3000):
        (folder / f"surplus-{n}.safetensors").write_bytes(b"")
        (folder / f"note-{n}.txt").write_bytes(b"")


# Claims and lists against many modules.


def _list(folder: Path, key: str, entries: list[str], **claim: Any) -> None:
    _set(folder / CONFIG, ("quantization_config",), {"quant_method": "fp8", "weight_block_size": [128, 128], **claim, key: entries})


@large
def list_of_modules(folder: Path) -> None:
    """10,000 whole paths in the skip list, 60,000 modules."""
    many_modules(folder)
    _list(folder, "modules_to_not_convert", _experts(MODULES)[::6])


@large
def list_of_coded_modules(folder: Path) -> None:
    """10,000 whole paths in the skip list, of modules that are quantized in the files."""
    many_modules(folder, coded=True)
    _list(folder, "modules_to_not_convert", _experts(MODULES)[:ENTRIES])


@large
def list_of_strangers(folder: Path) -> None:
    """10,000 entries that match none of 60,000 modules."""
    many_modules(folder)
    _list(folder, "modules_to_not_convert", [f"model.layers.{n}.stranger" for n in range(ENTRIES)])


@large
def list_of_letters(folder: Path) -> None:
    """20,000 short entries that match nearly everything."""
    many_modules(folder)
    _list(folder, "modules_to_not_convert", [f"{n}" for n in range(20_000)])


@large
def list_of_globs(folder: Path) -> None:
    """10,000 shell patterns with many stars, 60,000 modules."""
    many_modules(folder)
    _list(folder, "exclude_modules", [f"*{n}*.*.*.*.*.*.*w4" for n in range(ENTRIES)], quant_method="modelopt", quant_algo="FP8")


@large
def list_of_expressions(folder: Path) -> None:
    """10,000 `re:` entries, 60,000 modules."""
    many_modules(folder)
    _list(folder, "ignore", [f"re:.*layers\\.{n}\\..*w\\d$" for n in range(ENTRIES)], quant_method="compressed-tensors", config_groups=_group(["Linear"]))


@large
def list_of_nested_expressions(folder: Path) -> None:
    """Patterns of every kind that takes for ever, against modules of one letter."""
    header_only(folder, {f"model.layers.0.{'a' * 200}{n}.weight": ("BF16", [8, 8], 128) for n in range(200)})
    _list(folder, "ignore", [f"re:{pattern}" for pattern in PATTERNS], quant_method="compressed-tensors", config_groups=_group(["Linear"]))


@large
def list_of_nested_expressions_without_mark(folder: Path) -> None:
    """The same patterns where the reader takes every entry for an expression."""
    header_only(folder, {f"model.layers.0.{'a' * 200}{n}.weight": ("BF16", [8, 8], 128) for n in range(200)})
    _list(folder, "modules_to_not_convert", list(PATTERNS))


@large
def list_of_slow_expressions(folder: Path) -> None:
    """1,000 patterns that are each allowed, and slow on each of 60,000 modules."""
    many_modules(folder)
    _list(folder, "ignore", [f"re:.*.*.*x{n}" for n in range(1000)], quant_method="compressed-tensors", config_groups=_group(["Linear"]))


@large
def list_long_entries(folder: Path) -> None:
    """Entries of 1,000 letters, and one of 1,000,000."""
    _list(folder, "modules_to_not_convert", ["a" * 1000 + str(n) for n in range(4000)] + ["b" * 1_000_000])


@large
def list_of_other_things(folder: Path) -> None:
    """A list of numbers, objects and nothing."""
    _list(folder, "modules_to_not_convert", [1, None, {}, [], True, {"a": [1] * 100_000}] * 2)  # type: ignore[list-item]


@large
def lists_under_all_keys(folder: Path) -> None:
    """Every key of a skip list has 2,000 entries of its own."""
    many_modules(folder)
    keys = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude", "llm_int8_skip_modules")
    _set(folder / CONFIG, ("quantization_config",), {"quant_method": "fp8", "weight_block_size": [128, 128],
                                                     **{key: [f"{key}.{n}" for n in range(2000)] for key in keys}})


def _group(targets: list[str]) -> dict[str, Any]:
    weights = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    return {"group_0": {"targets": targets, "weights": weights}}


@large
def groups_times_targets(folder: Path) -> None:
    """256 config_groups with 200 targets each, 60,000 modules."""
    many_modules(folder)
    groups = {f"g{n}": _group([f"model.layers.{n}.x{t}" for t in range(200)])["group_0"] for n in range(256)}
    _list(folder, "ignore", ["lm_head"], quant_method="compressed-tensors", config_groups=groups)


@large
def groups_of_expressions(folder: Path) -> None:
    """256 config_groups with 40 `re:` targets each, 60,000 modules."""
    many_modules(folder)
    groups = {f"g{n}": _group([f"re:.*{n}.*x{t}" for t in range(40)])["group_0"] for n in range(256)}
    _list(folder, "ignore", ["lm_head"], quant_method="compressed-tensors", config_groups=groups)


@large
def groups_of_nested_expressions(folder: Path) -> None:
    """Every pattern that takes for ever as a target."""
    header_only(folder, {f"model.layers.0.{'a' * 200}{n}.weight": ("BF16", [8, 8], 128) for n in range(200)})
    _list(folder, "ignore", ["lm_head"], quant_method="compressed-tensors", config_groups=_group([f"re:{pattern}" for pattern in PATTERNS]))


@large
def many_groups(folder: Path) -> None:
    """50,000 config_groups."""
    _list(folder, "ignore", ["lm_head"], quant_method="compressed-tensors", config_groups={f"g{n}": _group(["Linear"])["group_0"] for n in range(50_000)})


@large
def dynamic_rules(folder: Path) -> None:
    """20,000 expressions in GPTQ's `dynamic`, 60,000 modules."""
    many_modules(folder)
    _set(folder / CONFIG, ("quantization_config",), {"quant_method": "gptq", "bits": 4, "group_size": 128,
                                                     "dynamic": {f"-:.*layers\\.{n}\\..*": {} for n in range(20_000)}})


@large
def modelopt_layers(folder: Path) -> None:
    """hf_quant_config.json with 50,000 quantized_layers and 10,000 entries."""
    many_modules(folder)
    _set(folder / CONFIG, ("quantization_config",), None)
    _set(folder / HF_QUANT, ("quantization",), {"quant_algo": "MIXED_PRECISION", "exclude_modules": [f"*{n}*mlp*" for n in range(ENTRIES)],
                                                "quantized_layers": {path: {"quant_algo": "FP8"} for path in _experts(MODULES)[:50_000]}})


@large
def neuron_list(folder: Path) -> None:
    """neuron_config.json with 10,000 entries, 60,000 modules."""
    many_modules(folder)
    (folder / NEURON).write_text(json.dumps({"quantized": True, "tp_degree": 4, "modules_to_not_convert": [f"{n}." for n in range(ENTRIES)],
                                             "context_encoding_buckets": list(range(200_000))}), encoding="utf-8")


@large
def manifest_of_hops(folder: Path) -> None:
    """weighbridge.json with 50,000 hops."""
    (folder / "weighbridge.json").write_text(json.dumps({"hops": [{"to": "neuron", "lossy": []}] * 50_000, "options": {"block": [128, 128]}}), encoding="utf-8")


@large
def layers_times_experts(folder: Path) -> None:
    """Sizes at the border of what a model may have: 4,096 layers of 16 experts."""
    _set(folder / CONFIG, ("num_hidden_layers",), 4096)
    _set(folder / CONFIG, ("num_local_experts",), 16)


@large
def everything_in_one_layer(folder: Path) -> None:
    """One layer with 65,536 experts, of which the files hold few."""
    _set(folder / CONFIG, ("num_hidden_layers",), 1)
    _set(folder / CONFIG, ("num_local_experts",), 65536)
