"""What a plan costs, told before anything is written."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from weighbridge.convert.run import plan_document
from weighbridge.convert.sidecars import Sidecars
from weighbridge.errors import Problem
from weighbridge.layouts import NEURON, neuron
from weighbridge.layouts.options import ATTENTION
from weighbridge.plan.plan import Plan

# Measured by benchmarks/bench_errors.py on Gaussian weights in 128x128 block FP8.
MEASURED = {
    "published": "q/k/v 2.6 % (32 dB), o_proj 0.17 % (56 dB)",
    "row": "2.6 % (32 dB)",
    "bf16": "0.17 % (56 dB)",
    "exact": "2e-7 (134 dB); not yet compiled on a device",
}


def dry_run(plan: Plan) -> dict[str, Any]:
    """The document of `convert --dry-run`: the plan's cost, the choices of attention, and what would stop it."""
    findings = plan.open_problems + _scales(plan) + Sidecars(plan, []).problems()
    document = plan_document(plan) | {"findings": [asdict(p) for p in findings], "dry_run": True}
    if plan.layout in NEURON and plan.targets:
        document["attention"] = [_attention(plan, mode) for mode in ATTENTION]
    return document


def _scales(plan: Plan) -> list[Problem]:
    """Scales are 0.02 % of the bytes: they are looked at wherever they are on this machine."""
    from weighbridge.plan.reader import Reader

    local = plan.source.checkpoint.store.path("config.json") is not None
    return Reader(plan.source).scale_problems() if local else []


def _attention(plan: Plan, mode: str) -> dict[str, Any]:
    options = replace(plan.options, attention=mode)
    total = 0
    said: dict[str, str] = {}
    for layer in range(plan.inventory.sizes["layers"]):
        for projection in "qkvo":
            rows, cols = plan.inventory[f"layers.{layer}.attn.{projection}"].shape
            encoding = neuron.attention_encoding(options, projection, cols)
            said[projection] = encoding.describe((rows, cols))
            total += sum(field.nbytes((rows, cols)) for field in encoding.fields)
    return {"mode": mode, "qkv": said["q"], "o": said["o"], "bytes": total, "error": MEASURED[mode], "chosen": mode == plan.options.attention}
