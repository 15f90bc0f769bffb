"""`inspect` for people: text and Markdown from its document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weighbridge.report.markdown import escaped
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import count, size
from weighbridge.report.visible import visible

HEAD = ("role", "dtype", "strategy", "block", "scale", "count", "parameters", "bytes")
LIST_HEAD = ("name", "dtype", "shape", "file", "bytes")
SKIP_SHOWN = 8
Table = Callable[..., str]


def text(document: dict[str, Any]) -> str:
    """Aligned text, sections divided by empty lines."""
    blocks = [_title(document), _roles(document, text_table), "\n".join(_summary(document))]
    blocks.append("What config.json claims\n" + _lines(_claims(document["claims"])))
    blocks.append("Where it differs\n" + _lines(_differences(document)))
    return "\n\n".join(blocks)


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown, for an issue or a model card."""
    blocks = [f"## {escaped(_title(document))}", _roles(document, markdown_table), "\n".join(f"- {escaped(line)}" for line in _summary(document))]
    blocks.append("### What config.json claims\n\n" + "\n".join(f"- {escaped(key)}: {escaped(value)}" for key, value in _claims(document["claims"])))
    blocks.append("### Where it differs\n\n" + "\n".join(f"- **{escaped(key)}**: {escaped(value)}" if key else f"- {escaped(value)}" for key, value in _differences(document)))
    return "\n\n".join(blocks)


def list_text(document: dict[str, Any]) -> str:
    return _list(document, text_table)


def list_markdown(document: dict[str, Any]) -> str:
    return _list(document, markdown_table) if document["list"] else escaped(_list(document, markdown_table))


def _list(document: dict[str, Any], table: Table) -> str:
    rows = [(t["name"], t["dtype"], "x".join(map(str, t["shape"])) or "scalar", t["file"], t["bytes"]) for t in document["list"]]
    total = f"{count(document['tensors'], 'tensor')}, {document['bytes']:,} bytes"
    return table(LIST_HEAD, rows) + "\n\n" + total if rows else f"no tensor matches {visible(document['pattern'])}"


def _title(document: dict[str, Any]) -> str:
    return visible(f"{document['source']}: {document['model_type'] or 'no model_type'}, {count(document['shards'], 'file')}, "
                 f"{count(document['tensors'], 'tensor')}")


def _roles(document: dict[str, Any], table: Table) -> str:
    rows = []
    for row in document["roles"]:
        block = "x".join(map(str, row["block"])) if row["block"] else ""
        scale = f"{row['scale_dtype']} {row['scale_suffix'].lstrip('._')}" if row["scale_suffix"] else ""
        rows.append((row["role"], row["dtype"], row["strategy"], block, scale, row["count"], row["parameters"], row["bytes"]))
    weights = sum(row["count"] for row in document["roles"])
    return table(HEAD, rows, ("total", "", "", "", "", weights, document["parameters"], document["bytes"]))


def _summary(document: dict[str, Any]) -> list[str]:
    return [_counts(document), f"{document['parameters']:,} parameters in {document['bytes']:,} bytes ({size(document['bytes'])})",
            _bf16(document)]


def _counts(document: dict[str, Any]) -> str:
    """`47,864 FP8 weights with 47,864 F32 scales, 375 others, 96,103 tensors`."""
    coded = [row for row in document["roles"] if row["scale_suffix"] and row["strategy"] != "none"]
    kinds = sorted({"FP8" if row["dtype"].startswith("F8_") else row["dtype"] for row in coded})
    scales = sorted({row["scale_dtype"] for row in coded})
    parts = []
    if document["weights_quantized"]:
        weights = count(document["weights_quantized"], f"{'/'.join(kinds)} weight".strip())
        parts.append(f"{weights} with {count(document['scales'], '/'.join(scales) + ' scale')}" if scales else f"{weights} without scales")
    parts.append(f"{document['others']:,} others" if parts else count(document["others"], "weight"))
    if document["helpers"]:
        parts.append(count(document["helpers"], "helper tensor"))
    return ", ".join([*parts, count(document["tensors"], "tensor") + " in all"])


def _bf16(document: dict[str, Any]) -> str:
    plain, stored = document["bytes_bf16"], document["bytes"]
    if not document["weights_quantized"] or not plain:
        return f"in BF16 it takes {size(plain)}"
    return f"in BF16 it would be {size(plain)}: these files have {100 * stored / plain:.1f} % of that"


def _claims(claims: dict[str, Any]) -> list[tuple[str, str]]:
    shown = [(key, _value(claims[key])) for key in ("quant_method", "fmt", "block", "group_size", "bits", "activation_scheme", "scale_fmt")
             if claims[key] is not None]
    if claims["source"] is None:
        shown.append(("quantization", "none claimed"))
    if claims["skip"]:
        more = len(claims["skip"]) - SKIP_SHOWN
        names = ", ".join(claims["skip"][:SKIP_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
        shown.append((claims["skip_key"], visible(names)))
    if claims["mtp_modules"]:
        shown.append(("MTP modules", str(claims["mtp_modules"])))
    return shown


def _value(value: Any) -> str:
    return visible("x".join(map(str, value)) if isinstance(value, list) else str(value))


def _differences(document: dict[str, Any]) -> list[tuple[str, str]]:
    shown = []
    for found in document["disagreements"]:
        place = f" [{found['where']}]" if found["where"] else ""
        times = f" ({found['count']:,} times)" if found["count"] > 1 and found["code"] not in ("mtp-absent", "claim-missing") else ""
        hint = f"; {found['hint']}" if found["hint"] else ""
        note = "note: " if found["level"] == "note" else ""
        shown.append((found["code"], visible(f"{note}{found['message']}{times}{place}{hint}")))
    return shown or [("", "nowhere")]


def _lines(pairs: list[tuple[str, str]]) -> str:
    width = max((len(key) for key, _ in pairs), default=0)
    return "\n".join(f"  {key.ljust(width)}  {value}" if key else f"  {value}" for key, value in pairs)
