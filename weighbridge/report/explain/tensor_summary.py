"""What one tensor is, in lines of label and words: where it lies, its scheme, its codes, its scale, and how much of it was looked at."""

from __future__ import annotations

from typing import Any

from weighbridge.report.explain.tensor_words import percent, shape, short
from weighbridge.report.units import size
from weighbridge.report.visible import visible

READERS = {"e4m3fn": "OCP e4m3fn (HF, vLLM, torch.float8_e4m3fn)", "e4m3": "E4M3 of Neuron: the same bits, but it ends at 240",
           "e4m3fnuz": "e4m3fnuz (AMD)", "e5m2": "OCP e5m2", "e2m1": "e2m1 (FP4)", "bf16": "BF16", "f16": "F16", "f32": "F32", "f64": "F64",
           "nf4": "nf4, a codebook of 16 values", "fp4": "fp4 of bitsandbytes, a codebook of 16 values"}


def facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What it is, by lines of label and words."""
    tensor, scale, form = document["tensor"], document["scale"], document["format"]
    axes = ", ".join(tensor["axes"]) or "a single number"
    out = [("tensor", visible(tensor["name"])), ("file", f"{visible(tensor['file'])}, {size(tensor['bytes'])} from byte {tensor['first_byte']:,}"),
           ("stored as", f"{tensor['dtype']} {shape(tensor['shape'])}, axes {axes}"), ("a code is" if document["codes"] else "a value is", _code_is(form))]
    if tensor["matrices"] > 1:
        out.append(("seen as", f"{tensor['matrices']:,} matrices of {tensor['rows']:,} x {tensor['columns']:,} values"))
    elif tensor["packing"]:
        out.append(("seen as", f"{tensor['rows']:,} x {tensor['columns']:,} values"))
    if tensor["packing"]:
        out.append(("packed", _packing(tensor["packing"])))
    if tensor["turned"]:
        out.append(("turned", "rows are input channels, columns are output channels: the weight of the layer is the transpose"))
    if document["scheme"]:
        scheme = document["scheme"]
        out.insert(3, ("scheme", f"{scheme['name']}: {scheme['says']} (weighbridge explain {scheme['name']})"))
    if scale is None:
        out.append(("scale", "none: the values are what is stored" if document["codes"] is None else "none"))
    else:
        out += _scale_facts(scale)
    if document["problem"]:
        out.append(("but", visible(document["problem"])))
    return out + _looked(document)


def _code_is(form: dict[str, Any]) -> str:
    name, bits, (low, high) = READERS.get(form["name"], form["name"]), form["fields"], form["ends"]
    if form["kind"] == "book":
        return f"{name}: {bits[0]} bits, an index into values from {low:.5g} to {high:.5g}"
    if len(bits) == 1:
        stored = f", stored with {form['bias']} added" if form["bias"] > 0 else ""
        return f"{name}: an integer of {bits[0]} bits, from {low:g} to {high:g}{stored}"
    return f"{name}: {bits[0]} sign, {bits[1]} exponent (bias {form['bias']}), {bits[2]} mantissa bits, largest {form['max']:.5g}"


def _packing(told: dict[str, Any]) -> str:
    """How codes share a byte or words, in one sentence."""
    words = "a byte" if (told["words"], told["word"]) == (1, 8) else f"a word of {told['word']} bits" if told["words"] == 1 else f"{told['words']} words of {told['word']} bits"
    starts, width = told["starts"], told["width"]
    along = "one row after another" if told["axis"] == "rows" else "columns"
    in_a_row = starts == [width * i for i in range(told["values"])]
    order = "the first in the lowest bits" if in_a_row else "their first bits, in the order of the values: " + ", ".join(map(str, starts))
    return f"{told['values']} codes of {width} bits in {words}, along the {'rows' if told['axis'] == 'rows' else along}; {order}"


def _scale_facts(scale: dict[str, Any]) -> list[tuple[str, str]]:
    rows, columns = scale["block"]
    lead, down, right = scale["grid"]
    each = {"tensor": "one for the whole matrix", "channel": "one for each row" if rows == 1 else "one for each column"}.get(
        scale["strategy"], f"one for each block of {rows} x {columns}")
    if scale["run"]:
        each = f"one for each run of {scale['run']:,} values, row after row"
    grid = f"{down:,} x {right:,}" + (f" for each of {lead:,} matrices" if lead > 1 else "")
    zero = scale.get("zero")
    rule = "weight = (code - zero point) x scale" if zero else "weight = code x scale"
    out = [("scale", f"{visible(scale['name'])}, {scale['dtype']} {shape(scale['shape'])}"), ("", f"{each}: a grid of {grid}. It multiplies: {rule}"),
           ("says so", visible(scale["says"]) or "nobody")]
    if scale["over"]:
        out.append(("", f"the scale is the stored number divided by {scale['over']:g}"))
    if scale["padded"]:
        out.append(("", "the stored grid is padded with zeros where the reader pads heads"))
    if scale["second"]:
        second = scale["second"]
        word = "times" if second["operation"] == "x" else "divided by"
        held = f" = {short(second['value'], 9)}" if second["one"] else ""
        out.append(("second scale", f"{visible(second['name'])}{held}: each scale is {word} {'it' if second['one'] else 'one of it'}"))
    if zero:
        out.append(("zero point", f"{visible(zero['name'])}, {zero['dtype']} {shape(zero['shape'])}, {zero['element']}: one for each scale"))
    if scale.get("order"):
        out.append(("order", "groups of rows are not one after the other: g_idx has the group of each row"))
    return out


def _looked(document: dict[str, Any]) -> list[tuple[str, str]]:
    seen, out = document["looked_at"], []
    if seen["values"] == seen["of"]:
        told = f"all {seen['of']:,} values"
    else:
        told = f"{seen['values']:,} of {seen['of']:,} values ({percent(seen['values'], seen['of'])}): {seen['rows']:,} of {seen['of_rows']:,} rows, "
        told += f"at {seen['places']} places at even distances"
    out.append(("looked at", told + ("" if seen["local"] else ", fetched from elsewhere")))
    stands = document["stands_for"]
    if stands:
        matrix, row, column = stands["corner"]
        told = f"{visible(document['asked'])}, found by the plan to {stands['layout']}"
        if any(stands["corner"]):
            told += f": its first weight is at row {row:,}, column {column:,}" + (f" of matrix {matrix}" if document["tensor"]["matrices"] > 1 else "")
        if stands["others"]:
            told += f"; {stands['others']:,} more tensors go into that name: {', '.join(map(visible, stands['next']))}, …"
        out.append(("asked for", told))
    return out
