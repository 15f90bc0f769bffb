"""router: the small matrix that sends each token to its experts; it stays float32.

## What it is
`block_sparse_moe.gate.weight` [{experts}, {hidden}], F32 in MiniMax-M2's files. scores = sigmoid(x W^T); the {top} experts with the largest
score + bias are taken, and their scores, divided by their sum, are the weights.

## Who multiplies, who divides
* transformers 5.23.0 casts the activation to the weight's dtype, so a BF16 load routes otherwise than a float32 one.
* vLLM builds the router without quantization and computes in F32 (models/minimax_m2.py).
* NxD Inference stores it as `router.linear_router.weight`, and casts it to BF16 on the way to the device.

## In numbers
All routers of the model have {share} of its bytes. There is nothing to gain by quantizing them.

## What goes wrong
* The name `gate` is the router in `block_sparse_moe.gate`, and a part of `gate_proj` and `gate_up_proj`, which are the experts.
* A converter that casts every `.weight` to BF16 changes the choice of experts in silence.

## See also
e_score_correction_bias, modules_to_not_convert, expert-parallel, f32, WB304, WB719

## References
transformers 5.23.0 models/minimax_m2/modular_minimax_m2.py; vLLM model_executor/models/minimax_m2.py (one stored version of main); NxD 2.29
modules/moe/routing.py 73.
"""

from __future__ import annotations

from weighbridge.lessons.arithmetic import percent
from weighbridge.lessons.published import CONFIG, totals


def numbers() -> dict[str, str]:
    experts, hidden = CONFIG["num_local_experts"], CONFIG["hidden_size"]
    return {"experts": str(experts), "hidden": str(hidden), "top": str(CONFIG["num_experts_per_tok"]),
            "share": percent(CONFIG["num_hidden_layers"] * experts * hidden * 4 / totals()["bytes"])}
