"""The documents of `inspect`: one row per role, or one per tensor."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.formats.claim import read_claims
from weighbridge.inspection.disagreements import disagreements
from weighbridge.inspection.survey import HELPER_ROLE, SurveyRow, Sum, Survey

SCHEMA = "weighbridge.inspect/1"
ORDER = ("embedding", "attention", "router", "experts", "shared_experts", "mlp", "norms", "biases", "lm_head", "mtp")
PARTS = ("qkv", "q", "q_a", "q_b", "k", "kv_a", "kv_b", "v", "o", "gate_up", "gate", "up", "down")


def inspect(checkpoint: Checkpoint, survey: Survey | None = None) -> dict[str, Any]:
    """What is in a checkpoint. Bytes of a row are its weights' and their scales', so rows add up to `bytes`.

    `parameters` counts real values of weights (two for each byte of FP4); scales and other helpers are not weights. `survey` is the checkpoint's,
    where one was made already.
    """
    survey = survey or Survey(checkpoint, read_claims(checkpoint))
    claims, total = survey.claims, survey.total
    return {
        "schema": SCHEMA,
        "source": checkpoint.label,
        "model_type": checkpoint.model_type or None,
        "shards": len(checkpoint.headers),
        "tensors": len(checkpoint.tensors),
        "parameters": total.parameters,
        "bytes": total.bytes,
        "bytes_bf16": 2 * total.parameters,
        "weights_quantized": survey.quantized,
        "scales": total.scales,
        "helpers": survey.helpers,
        "others": total.count - survey.quantized,
        "roles": [_row(row, sums) for row, sums in sorted(survey.rows.items(), key=_order)],
        "claims": claims.as_dict(),
        "disagreements": disagreements(checkpoint, claims, survey),
    }


def tensor_list(checkpoint: Checkpoint, pattern: str = "*") -> dict[str, Any]:
    """Single tensors whose names match a shell pattern, in the order of their names (numbers as numbers)."""
    names = [n for n in checkpoint.tensors if pattern == "*" or fnmatchcase(n, pattern)]
    rows = []
    for name in sorted(names, key=_natural):
        tensor = checkpoint.tensors[name]
        rows.append({"name": name, "dtype": tensor.dtype, "shape": list(tensor.shape), "file": tensor.file, "bytes": tensor.nbytes})
    return {"schema": SCHEMA, "source": checkpoint.label, "model_type": checkpoint.model_type or None, "pattern": pattern,
            "shards": len(checkpoint.headers), "tensors": len(rows), "bytes": sum(r["bytes"] for r in rows), "list": rows}


def _row(row: SurveyRow, sums: Sum) -> dict[str, Any]:
    return {
        "role": row.role, "dtype": row.dtype, "strategy": row.strategy, "block": list(row.block) if row.block else None, "scheme": row.scheme, "kind": row.kind,
        "scale_suffix": row.scale_suffix, "scale_dtype": row.scale_dtype, "count": sums.count, "parameters": sums.parameters,
        "bytes": sums.bytes, "scale_bytes": sums.scale_bytes,
    }


def _order(item: tuple[SurveyRow, Sum]) -> tuple[Any, ...]:
    """In the order in which the forward pass meets the roles; unknown ones behind, helpers last."""
    row = item[0]
    group, _, part = row.role.partition(".")
    first = ORDER.index(group) if group in ORDER else len(ORDER) + (row.role == HELPER_ROLE)
    return first, PARTS.index(part) if part in PARTS else len(PARTS), row.role, row.dtype, row.strategy, str(row)


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Layer 2 before layer 10."""
    return [(0, int(word), "") if word.isascii() and word.isdigit() and len(word) < 10 else (1, 0, word) for word in name.split(".")]
