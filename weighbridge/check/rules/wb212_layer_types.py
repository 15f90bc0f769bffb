"""WB212 layer-types: a list with one value for each layer has another number of values than the model has layers.

## What it does
Compares the lengths of `layer_types`, `attn_type_list` and their kin with `num_hidden_layers`.

## Why it matters
Readers refuse the config, or layers get another kind of attention than they were trained with: the text is wrong, and nothing says so.

## Example
An exporter wrote 48 `layer_types` for a model of 60 layers.

## How to mend
Take the publisher's list.

## References
intel/auto-round#1984; transformers 5.23.0 configuration_utils.py `layer_type_validation`.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.rule import Rule
from weighbridge.check.skip_units import units

RULE = Rule("WB212", "layer-types", "error")
KEYS = ("layer_types", "attn_type_list", "mlp_layer_types", "hybrid_layer_pattern", "moe_layer_freq")


def find(case: Case) -> Iterator[Finding]:
    layers = case.sizes.layers
    stored = {u.layer for u in units(case) if u.role.startswith(("attention.", "mlp.", "experts."))}
    for key in KEYS if layers else ():
        value = case.text_config.get(key)
        if not isinstance(value, list) or len(value) == layers:
            continue
        nested = "text_config." if case.text_config is not case.config else ""
        beyond = len(value) > layers and len(value) == len(stored)  # draft layers have a value too
        yield RULE.finding(f"{key} has {len(value):,} values for {layers:,} layers", Where("config.json", key=nested + key),
                           evidence=f"{len(value):,} values, num_hidden_layers {layers:,}, layers in the files {len(stored):,}",
                           consequence="ValueError in readers that compare; else layers get another kind of attention, without an error",
                           fix=f"take the publisher's {key}: {layers:,} values", severity="note" if beyond else "error")
