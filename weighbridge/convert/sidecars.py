"""Everything beside the weights: config.json told anew, the index, neuron_config.json, what is carried along."""

from __future__ import annotations

import fnmatch
import math
from pathlib import Path
from typing import Any

from weighbridge import __version__
from weighbridge.checkpoint.checkpoint import INDEX
from weighbridge.convert.apply import Loss
from weighbridge.convert.output import write_json
from weighbridge.convert.shape import FileShape, bare
from weighbridge.errors import utf8
from weighbridge.layouts import neuron as neuron_layout
from weighbridge.plan.plan import Plan
from weighbridge.runtimes import neuron as reader

CARRIED = ("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
           "chat_template*", "preprocessor_config.json", "LICENSE*", "NOTICE*", "README.md")
PUBLISHED_SKIP = ["gate", "e_score_correction_bias", "lm_head"]
DEFAULT_CONTEXT = 4096  # tokens; what a first run on a device is compiled for


def write_sidecars(plan: Plan, root: Path, shapes: list[FileShape]) -> dict[str, list[str]]:
    """Write them all; returns what was copied, rewritten and dropped, for report and manifest."""
    write_json(root / "config.json", configuration(plan))
    rewritten = ["config.json"]
    if plan.layout != "neuron-shards":
        write_json(root / INDEX, _index(shapes))
        rewritten.append(INDEX)
    if plan.layout.startswith("neuron"):
        write_json(root / "neuron_config.json", neuron_configuration(plan))
        rewritten.append("neuron_config.json")
    checkpoint = plan.source.checkpoint
    copied, dropped = [], []
    for file, size in checkpoint.files.items():
        if file in rewritten or file in checkpoint.headers or file in ("weighbridge.json", "neuron_config.json", INDEX):
            continue
        if "/" not in file and any(fnmatch.fnmatch(file, pattern) for pattern in CARRIED):
            (root / file).write_bytes(checkpoint.store.read(file, 0, size))
            copied.append(file)
        else:
            dropped.append(file)
    return {"copied": copied, "rewritten": rewritten, "dropped": dropped}


def configuration(plan: Plan) -> dict[str, Any]:
    """config.json as the output is, not as the source was."""
    config = dict(plan.source.checkpoint.config)
    own = config.pop("quantization_config", None)
    if plan.layout == "hf-fp8":
        claim = dict(own) if isinstance(own, dict) else {"activation_scheme": "dynamic"}
        listed = claim.get("modules_to_not_convert")
        claim["modules_to_not_convert"] = _still_true(plan, listed if isinstance(listed, list) else _skip_list(plan))
        config["quantization_config"] = claim | {"quant_method": "fp8", "fmt": "float8_e4m3fn", "weight_block_size": list(plan.options.block)}
    else:
        config["dtype" if "dtype" in config else "torch_dtype"] = "bfloat16"
    return config


def _skip_list(plan: Plan) -> list[str]:
    """As the makers write it where they are known; else the head and each router by its whole name, which every reader matches."""
    if plan.inventory.model_type == "minimax_m2":
        return PUBLISHED_SKIP
    return ["lm_head", *(w.published.removesuffix(".weight") for w in plan.inventory.weights.values() if w.role == "router")]


def _still_true(plan: Plan, listed: list[Any]) -> list[Any]:
    """Entries of a skip list that name no module which this output holds in FP8."""
    quantized = {t.stored.stem for t in plan.targets if t.encoding.quantized}
    ends = quantized | {".".join(stem.split(".")[-n:]) for stem in quantized for n in (1, 2)}
    return [entry for entry in listed if entry not in ends]


def _index(shapes: list[FileShape]) -> dict[str, Any]:
    weight_map: dict[str, str] = {}
    total = 0
    for shape in shapes:
        total += shape.size - len(shape.header)
        for place in shape.places:
            stored = place.target.stored
            weight_map[bare(stored.name)] = shape.name
            if place.target.encoding.quantized:
                weight_map[bare(stored.scale_name)] = shape.name
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def candidates(plan: Plan) -> dict[str, bool]:
    """Every module that NxD may quantize, by its path in the traced model, and whether this output holds it in FP8."""
    found: dict[str, bool] = {}
    for target in plan.targets:
        stem = bare(target.stored.stem)
        if stem == "lm_head" or stem.endswith("_proj"):
            module = stem.replace(".self_attn.o_proj", ".self_attn.o_proj.o_proj") if not stem.endswith("o_proj.o_proj") else stem
            for p in "qkv":
                if module.endswith(f".self_attn.{p}_proj"):
                    module = module.replace(f".{p}_proj", f".qkv_proj.{p}_proj")
            found[module] = found.get(module, True) and target.encoding.quantized
    return found


def neuron_configuration(plan: Plan) -> dict[str, Any]:
    """Exactly the settings under which this output loads."""
    options = plan.options
    parallel, _ = neuron_layout.parallelism(plan.inventory, options)
    exact = options.attention == "exact"
    rows, columns = options.block
    longest = plan.source.checkpoint.config.get("max_position_embeddings")
    told = isinstance(longest, int) and not isinstance(longest, bool) and longest > 0
    context = options.context or min(DEFAULT_CONTEXT, longest if told else DEFAULT_CONTEXT)
    return reader.configuration(parallel, exact=exact, block=(1, rows) if exact else (columns, rows), skip=reader.skip_list(candidates(plan)),
                                context=context, shards=plan.layout == "neuron-shards")


def manifest(plan: Plan, shapes: list[FileShape], losses: dict[str, Loss], carried: dict[str, list[str]]) -> dict[str, Any]:
    """Who made this from what, and what was lost on the way. No times and no paths: equal work, equal bytes."""
    checkpoint = plan.source.checkpoint
    return {
        "schema": "weighbridge.manifest/1",
        "version": __version__,
        "plan": plan.digest,
        "source": {
            "name": utf8(Path(checkpoint.label).name), "layout": plan.source.layout, "digest": checkpoint.digest,
            "files": {f: {"bytes": h.size, "header_sha256": h.sha256} for f, h in checkpoint.headers.items()},
        },
        "layout": plan.layout,
        "options": plan.options.asdict(),
        "hops": [*checkpoint.hops, _hop(plan)],
        "allowed": sorted({p.code for p in plan.problems if p.code in plan.options.allow} | (set(plan.options.allow) & {"reciprocal"})),
        "converted_scales": plan.scales,
        "lossy": [row | measured(losses.get(row["step"], Loss())) for row in plan.lossy],
        "files": {s.name: {"bytes": s.size} for s in shapes},
        **{key: [utf8(file) for file in files] for key, files in carried.items()},
    }


def _hop(plan: Plan) -> dict[str, Any]:
    """This conversion as one link of the chain that leads back to the published checkpoint."""
    return {"from": plan.source.checkpoint.digest, "layout": plan.layout, "options": plan.options.asdict(),
            "lossy": [row["step"] for row in plan.lossy]}


def measured(loss: Loss) -> dict[str, Any]:
    """The measured side of a lossy step; `share` is the part of the values that was compared."""
    good = loss.error > 0 and loss.signal > 0 and math.isfinite(loss.error)
    sqnr = round(10 * math.log10(loss.signal / loss.error), 2) if good else None
    return {"values": loss.values, "inexact": loss.inexact or None, "sqnr_db": sqnr, "overflow": not math.isfinite(loss.error),
            "share": round(loss.measured / loss.values, 4) if loss.values else 0}
