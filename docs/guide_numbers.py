"""The numbers of docs/fp8/: each is computed here by the tool, from the number formats, the headers of a full-size replica of MiniMax-M2, and the demo checkpoint.

A number has one spelling, which both languages use.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shown import Stage

if TYPE_CHECKING:
    from weighbridge.models.inventory import Inventory

EXPERT = "layers.1.block_sparse_moe.experts.0.w1"
# What the first notes say, to be quoted.
QUOTED = {"note_layer": "192 MB", "note_layer_fp8": "48 MB", "note_saved": "75 %", "note_model": "46 GB", "note_converted": "47864"}
BAD_TP = 8  # the size that people try first


def numbers(replica: Path) -> dict[str, str]:
    """Name -> text. `replica` is a full-size MiniMax-M2 without weights."""
    from weighbridge.check import run
    from weighbridge.check.case import Case
    from weighbridge.check.settings import Settings
    from weighbridge.checkpoint.checkpoint import Checkpoint
    from weighbridge.checkpoint.source import open_store
    from weighbridge.inspection import inspect
    from weighbridge.models import inventory

    checkpoint = Checkpoint(open_store(str(replica)))
    made, told = inventory(checkpoint.config), inspect(checkpoint)
    case = Case(checkpoint, run.targets(["vllm"]), Settings(tp=BAD_TP), "none")
    return {**QUOTED, **formats(), **model(made, told), **cuts(made, told, run.document(case, run.findings(case, ["WB502"]))), **demo()}


def formats() -> dict[str, str]:
    """What the two E4M3 formats hold, and what each way down to 240 does to the codes."""
    import numpy as np

    from weighbridge.encoding import codec

    fn, ieee = codec.decode_table("e4m3fn").astype(np.float64), codec.decode_table("e4m3").astype(np.float64)
    form, finite = codec.FORMATS["e4m3fn"], np.isfinite(fn)
    codes, real = np.arange(256), np.isfinite(fn) & (fn != 0)
    halved, legacy = fn[codec.HALVE] * 2, fn[codec.LEGACY] * codec.LEGACY_FACTOR
    odd, moved = int((halved != fn)[finite].sum()), int((np.abs(legacy - fn) > 1e-6 * np.abs(fn))[finite].sum())
    normal = real & ((codes & 0x7F) >= 1 << form.mantissa_bits)
    error = np.abs(legacy - fn)[normal] / np.abs(fn)[normal]
    lost = finite & ~np.isfinite(ieee)
    assert odd == int(codec.halve_is_inexact(codes).sum()) and np.array_equal(fn[np.isfinite(ieee)], ieee[np.isfinite(ieee)])
    return {
        "codes": "256", "exponent_bits": str(form.exponent_bits), "mantissa_bits": str(form.mantissa_bits), "bits": str(1 + form.exponent_bits + form.mantissa_bits),
        "finite": str(int(finite.sum())), "max_fn": f"{fn[finite].max():g}", "max_ieee": f"{ieee[np.isfinite(ieee)].max():g}",
        "smallest": f"{fn[fn > 0].min():.3g}", "largest_step": f"{fn[0x7E] - fn[0x7D]:g}", "half_below": f"{np.median(fn[finite & (fn > 0)]):g}",
        "same_codes": str(int(np.isfinite(ieee).sum())), "lost_codes": str(int(lost.sum())), "first_lost": f"{np.abs(fn[lost]).min():g}",
        "first_lost_code": f"0x{int(codes[lost].min()):02X}", "halved_max": f"{fn[codec.HALVE][finite].max():g}",
        "odd_codes": str(odd), "odd_below_code": f"0x{int(codes[(halved != fn) & finite & (codes < 128)].max()) + 1:02X}",
        "odd_below": f"{fn[16]:g}", "legacy_changed": str(moved), "legacy_mean": f"{100 * error.mean():.1f} %", "legacy_largest": f"{100 * error.max():.1f} %",
    }


def model(made: Inventory, told: dict[str, Any]) -> dict[str, str]:
    """Counts, shapes and bytes of MiniMax-M2: `told` is what `inspect` says of its headers."""
    sizes, layers = made.sizes, made.sizes["layers"]
    roles = {row["role"]: row for row in told["roles"]}
    inside = [row for row in told["roles"] if row["role"] not in ("embedding", "lm_head", "norms")]
    norms = sum(weight.parameters for name, weight in made.weights.items() if weight.role == "norms" and name.startswith("layers.0."))
    layer_fp8, layer_bf16 = sum(row["bytes"] for row in inside) // layers + 2 * norms, 2 * (sum(row["parameters"] for row in inside) // layers + norms)
    attention, experts = [[row for row in inside if row["role"].startswith(part)] for part in ("attention.", "experts.")]
    shape = next(weight.shape for weight in made.weights.values() if weight.role == "attention.q")
    block = roles["attention.q"]["block"]
    by_dtype = {dtype: sum(row["count"] for row in told["roles"] if row["dtype"] == dtype) for dtype in ("BF16", "F32")}
    scale_bytes = sum(row["scale_bytes"] for row in told["roles"])
    return {
        "layers": str(layers), "experts": str(sizes["experts"]), "block": f"{block[0]}x{block[1]}", "block_side": str(block[0]),
        "block_codes": f"{block[0] * block[1]:,}", "q_rows": str(shape[0]), "q_cols": str(shape[1]), "grid_rows": str(-(-shape[0] // block[0])),
        "grid_cols": str(-(-shape[1] // block[1])), "attention_matrices": str(sum(row["count"] for row in attention) // layers),
        "expert_matrices": str(sum(row["count"] for row in experts) // layers // sizes["experts"]), "fp8_weights": f"{told['weights_quantized']:,}",
        "others": str(told["others"]), "others_bf16": str(by_dtype["BF16"]), "others_f32": str(by_dtype["F32"]), "tensors": f"{told['tensors']:,}",
        "files": str(told["shards"]), "parameters": f"{told['parameters']:,}", "bytes": f"{told['bytes']:,}", "gb": _gb(told["bytes"]), "gb_bf16": _gb(told["bytes_bf16"]),
        "share": f"{100 * told['bytes'] / told['bytes_bf16']:.1f} %", "saved": f"{100 - 100 * told['bytes'] / told['bytes_bf16']:.1f} %",
        "scale_gb": f"{scale_bytes / 1e6:.1f} MB", "scale_share": f"{100 * scale_bytes / told['bytes']:.3f} %",
        "layer_fp8": f"{layer_fp8 / 1e9:.2f} GB", "layer_bf16": f"{layer_bf16 / 1e9:.2f} GB",
        "attention_fp8": _mb(sum(row["bytes"] for row in attention) / layers), "attention_bf16": _mb(sum(2 * row["parameters"] for row in attention) / layers),
        "experts_fp8": _mb(sum(row["bytes"] for row in experts) / layers), "experts_bf16": _mb(sum(2 * row["parameters"] for row in experts) / layers),
        "tensors_twice": f"{2 * told['tensors']:,}",
    }


def cuts(made: Inventory, told: dict[str, Any], checked: dict[str, Any]) -> dict[str, str]:
    """At which sizes MiniMax-M2 can be cut: `checked` is what `check` says of vLLM at `BAD_TP`."""
    bad, sizes, finding = BAD_TP, made.sizes, checked["findings"][0]
    block = next(row["block"][0] for row in told["roles"] if row["role"] == "experts.gate")
    width = sizes["inter"]
    good = finding["fix"]["value"]
    rows = [f"| {n} | {width}/{n} = {width // n} | {width // n / block:g} |" for n in sorted({*good["expert_tp"], bad, 2 * bad})]
    return {
        "width": str(width), "tp_bad": str(bad), "width_bad": str(width // bad), "blocks_bad": f"{width / bad / block:g}", "expert_tp": _list(good["expert_tp"]),
        "whole_tp": _list(good["tp"]), "whole_tp_ep": _list(good["tp_with_ep"]), "refusal": finding["consequence"],
        "heads": str(sizes["heads"]), "head_dim": str(sizes["head_dim"]), "cut_rows": "\n".join(rows),
    }


def demo() -> dict[str, str]:
    """One block of the demo checkpoint, and what verify measures of three ways to convert it."""
    with Stage() as stage:
        found = _one_block(stage) | _codes_above()
        for name, flags in {"halve": "", "legacy": " --scale-rule legacy-448-240", "reciprocal": " --scale-rule reciprocal --allow reciprocal"}.items():
            stage.run(f"weighbridge convert DEMO {name} --to neuron --attention exact{flags}")
            verified = json.loads(stage.run(f"weighbridge verify DEMO {name} --format json", 3 if name == "reciprocal" else 0))
            found[f"{name}_db"] = f"{verified['total_sqnr_db']:.2f} dB"
            found |= {f"{name}_rounded": f"{_rounded(name):,}"} if name == "halve" else {}
    return found


def _rounded(folder: str) -> int:
    """How many codes the conversion rounded, from the manifest of its output."""
    return sum(step["inexact"] for step in json.loads(Path(folder, "weighbridge.json").read_text(encoding="utf-8"))["lossy"])


def _one_block(stage: Stage) -> dict[str, str]:
    """The block of `EXPERT` that `explain` works by hand (the picture shows it): its largest weight, under each convention, from the stored bytes."""
    import numpy as np

    from weighbridge.encoding import codec

    told = json.loads(stage.run(f"weighbridge explain DEMO {EXPERT} --format json"))
    (top_row, row_end), (left, col_end) = told["block"]["rows"], told["block"]["columns"]
    code, scale = _stored(f"model.{EXPERT}.weight")[top_row:row_end, left:col_end], _stored(f"model.{EXPERT}.weight_scale_inv")
    table, one = codec.decode_table("e4m3fn"), scale[tuple(told["block"]["at"])]
    place = np.unravel_index(np.argmax(np.abs(np.nan_to_num(table[code]))), code.shape)
    if float(one) != told["block"]["scale"] or abs(float(table[code[place]])) != told["block"]["largest_code_value"]:
        raise ValueError("explain shows another block than the file holds")
    top, half = code[place], codec.halve(code[place])
    return {
        "top_code": f"0x{int(top):02X}", "top_code_value": f"{table[top]:g}", "half_code": f"0x{int(half):02X}",
        "half_code_value": f"{table[half]:g}", "scale": f"{one:.4g}", "scale_twice": f"{2 * one:.4g}", "scale_inverse": f"{1 / one:.5g}",
        "top_value": f"{table[top] * one:.4g}", "top_neuron": f"{table[half] * (2 * one):.4g}", "top_wrong": f"{table[top] / one:,.0f}",
        "wrong_by": f"{1 / float(one) ** 2:,.0f}",
    }


def _codes_above() -> dict[str, str]:
    """How many stored codes of the demo lie above 240, as `check` counts them."""
    import weighbridge as wb

    finding = next(f for f in wb.open("DEMO").check("neuron")["findings"] if f["code"] == "WB601")
    above = int(finding["evidence"].split()[0].replace(",", ""))
    roles = wb.open("DEMO").inspect()["roles"]
    weights, values = (sum(row[key] for row in roles if row["strategy"] == "block") for key in ("count", "parameters"))
    return {"demo_above": f"{above:,}", "demo_above_share": f"{100 * above / values:.2f} %", "demo_weights": str(weights), "demo_codes": f"{values:,}"}


def _stored(name: str) -> Any:
    """One tensor of the demo as an array: uint8 codes, or float32 scales."""
    import numpy as np

    import weighbridge as wb

    opened = wb.open("DEMO").checkpoint
    tensor = opened.tensors[name]
    raw = opened.store.read(tensor.file, tensor.start, tensor.nbytes)
    return np.frombuffer(raw, np.uint8 if tensor.dtype == "F8_E4M3" else np.float32).reshape(tensor.shape)


def _gb(size: float) -> str:
    return f"{size / 1e9:.0f} GB"


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


def _list(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))
