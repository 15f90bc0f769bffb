"""modules_to_not_convert: the list of modules that are not quantized; each reader matches it in its own way.

## What it is
A list in the quantization config: what is plain in the files and must be built plain. Other names for it are `ignored_layers` (vLLM,
MiniMax), `ignore` (compressed-tensors, new ModelOpt), `exclude_modules` (ModelOpt's hf_quant_config.json), `exclude` (Quark) and
`llm_int8_skip_modules` (bitsandbytes). `weighbridge explain skip-list` shows how each reader compares an entry with a module's path.

## In numbers
In the list of MiniMax-M2 as published, `gate` means the router. Of `gate`, `gate_proj` and `experts.gate_up_proj` each reader takes it for:

{table}

## What goes wrong
* NxD compares by substring: `gate` is in `gate_up_proj`, so all experts are built plain, and their codes are read without scales. About 900
  times off, no error. Never copy Hugging Face's list into a Neuron configuration; `["lm_head"]`, and `o_proj` where it is BF16, is what NxD
  needs.
* `model.layers.1` is also in `model.layers.10`.
* What is listed and quantized is built plain; what is plain and not listed waits for a scale.

## Often written, and wrong
"`self_attn` in the list caused the AssertionError" is half right. `self_attn` must not be listed while attention is FP8, but what fires is
the 2-D block scale on attention, listed or not (`verify_scale_dimension`). With per-row scales the listed variant raises nothing, and the
model speaks garbage.

## See also
skip-list, router, e_score_correction_bias, WB301, WB302, WB304, WB702

## References
NxD 2.29 quantization/quantize.py 122-123; NxDI modules/attention/gqa.py 110-134, 650-657; transformers 5.23.0; docs/skip-lists.md.
"""

from __future__ import annotations

ALSO = ("ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules")
MODULES = ("model.layers.0.block_sparse_moe.gate", "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.experts.gate_up_proj")


def numbers() -> dict[str, str]:
    from weighbridge.runtimes.skip import COLUMNS, RULES

    rows = []
    for reader in COLUMNS:
        hit = [module.rpartition(".")[2] for module in MODULES if RULES[reader].matches("gate", module)]
        rows.append(f"* {reader} (read in {RULES[reader].read_in}): {', '.join(hit) or 'nothing'}")
    return {"table": "\n".join(rows)}
