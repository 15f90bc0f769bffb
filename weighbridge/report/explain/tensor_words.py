"""Words and tables of one tensor worked by hand: the same for the terminal, Markdown and the page."""

from __future__ import annotations

import math
from typing import Any
from weighbridge.report.units import size
from weighbridge.report.visible import visible

Row = tuple[str, ...]
Table = tuple[Row, list[Row]]
READERS = {"e4m3fn": "OCP e4m3fn (HF, vLLM, torch.float8_e4m3fn)", "e4m3": "E4M3 of Neuron: the same bits, but it ends at 240",
           "e4m3fnuz": "e4m3fnuz (AMD)", "e5m2": "OCP e5m2", "e2m1": "e2m1 (FP4)", "bf16": "BF16", "f16": "F16", "f32": "F32", "f64": "F64",
           "nf4": "nf4, a codebook of 16 values", "fp4": "fp4 of bitsandbytes, a codebook of 16 values"}


def short(value: float | None, digits: int = 6) -> str:
    """A number for a table; what is no number has a word."""
    if value is None:
        return "none"
    if math.isnan(value):
        return "NaN"
    return f"{value:.{digits}g}".replace("inf", "infinity")


def percent(part: float, whole: float) -> str:
    if not whole:
        return "0 %"
    share = 100 * part / whole
    return "0 %" if not part else f"{share:.3g} %"


def shape(sizes: list[int]) -> str:
    return "[" + ", ".join(map(str, sizes)) + "]"


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


def scale_words(document: dict[str, Any]) -> list[str]:
    """Sentences about the scales."""
    told = document["scales"]
    if told is None:
        return []
    out = []
    if told["median"] is None:
        out.append("No scale is finite and above zero.")
    elif told["least"] == told["largest"]:
        out.append(f"All {told['read']:,} scales are {short(told['median'], 9)}." if told["read"] > 1 else f"The scale is {short(told['median'], 9)}.")
    else:
        out.append(f"Least {short(told['least'])}, median {short(told['median'])}, largest {short(told['largest'])} "
                   f"({told['largest'] / told['least']:.3g} times the least).")
    if told["powers_of_two"]:
        out.append("Every scale is a power of two.")
    odd = [f"{told[word]:,} {name}" for word, name in (("nan", "NaN"), ("infinite", "infinite"), ("zero", "zero"), ("negative", "negative")) if told[word]]
    if odd:
        out.append(f"No scale at all: {', '.join(odd)} of {told['read']:,}. Their blocks cannot be decoded and are left out of the errors below.")
    if told["named"]:
        named = ", ".join(f"block [{o['at'][0]}, {o['at'][1]}] {short(o['scale'])} ({o['ratio']:.3g} x the median)" for o in told["named"])
        out.append(f"Outliers (4 times the median, or a quarter): {told['outliers']:,}. {named}.")
    if told["empty_blocks"] == told["blocks"]:
        out.append(f"All {told['blocks']:,} blocks hold only zero codes.")
    else:
        full = "Blocks with the least and the largest code" if (document["scale"] or {}).get("zero") else \
            f"Blocks with a code of the largest magnitude, {document['format']['max']:g}"
        out.append(f"{full}, which use their scale in full: {told['full_blocks']:,} of {told['blocks']:,}" + (" (halved codes end at 224)." if (document["conventions"] or {}).get("halved") else "."))
    return out


def code_words(document: dict[str, Any]) -> list[str]:
    """Sentences about the histogram."""
    told = document["codes"]
    if told is None:
        return _float_words(document["exponents"])
    total = told["total"]
    out = [f"{told['used']} of {told['possible']} codes occur."]
    if total and told["zero"] == total:
        return [f"All {total:,} codes are zero: there is a hole in the place of the weights, or the weights are zero."]
    parts = [("zero", "zero"), ("subnormal", "subnormal"), ("saturated", "at an end of the range" if (document["scale"] or {}).get("zero") else "at the largest magnitude"), ("nan", "NaN"), ("infinite", "infinite")]
    out += [f"{told[key]:,} ({percent(told[key], total)}) are {word}." for key, word in parts if told[key]]
    return out


def _float_words(told: dict[str, Any]) -> list[str]:
    if not told["total"]:
        return ["The tensor is empty."]
    out = [f"Largest magnitude {short(told['largest'])}."]
    if told["zero"] == told["total"]:
        return [f"All {told['total']:,} values are zero: there is a hole in the place of the weights, or the weights are zero."]
    return out + [f"{told[key]:,} ({percent(told[key], told['total'])}) are {word}." for key, word in
                  (("zero", "zero"), ("subnormal", "subnormal"), ("nan", "NaN"), ("infinite", "infinite")) if told[key]]


def block_words(document: dict[str, Any]) -> list[str]:
    """Where the worked block lies, why it was chosen, and how well its scale is used."""
    block = document["block"]
    if block is None:
        return ["There is no block: the tensor is empty."]
    stack = f" of matrix {block['matrix']}" if block["matrix"] is not None else ""
    where = f"rows {block['rows'][0]:,} to {block['rows'][1] - 1:,}, columns {block['columns'][0]:,} to {block['columns'][1] - 1:,}"
    out = [f"Block [{block['at'][0]}, {block['at'][1]}]: {where}{stack}. Chosen: {block['why']}."]
    if block["rows_apart"]:
        first = ", ".join(f"{row:,}" for row in block["rows_apart"][:6])
        out.append(f"Its {len(block['rows_apart']):,} rows lie apart, where g_idx names its group: {first}{', …' if len(block['rows_apart']) > 6 else ''}.")
    if block["picked_from"] != block["rows"]:
        out.append(f"It is large: the weights below come from its rows {block['picked_from'][0]:,} to {block['picked_from'][1] - 1:,}.")
    if "scales" in block:
        return out + _tile_words(block)
    if block["scale"] is None:
        return [*out, "Without a scale that fits, codes have no weight."]
    out += [step_words(step) for step in block["steps"] if step["steps"] or step["role"] == "zero" or step["over"]]
    what = "code value in it" if block["zero"] is None else "distance of a code in it from the zero point"
    out.append(f"Its scale is {short(block['scale'], 9)}. The largest {what} is {block['largest_code_value']:g}, so its largest weight (amax) is "
               f"{block['largest_code_value']:g} x {short(block['scale'], 9)} = {short(block['amax'], 9)}.")
    if block["full"] is not None and block["amax"] is not None and 0 < block["full"] < math.inf:
        most = block["full"] / block["scale"] if block["zero"] is not None and block["scale"] else block["max"]
        out.append(f"scale x {most:g} = {short(block['full'], 9)} is the most it can hold: {percent(block['amax'], block['full'])} of its range is used.")
    return out


def step_words(step: dict[str, Any]) -> str:
    """How stored numbers become one factor: `Its scale: weight_scale 0x5A = 1.25, / weight_global_scale 1234.5 = 0.00101`."""
    leaf = visible(step["name"]).rpartition(".")[2]
    own = f" ({step['element']})" if step["stored"] else ""
    if step["role"] == "zero":
        return f"Its zero point is {step['value']:g}: {leaf} holds {step['stored']}{own}."
    told = f"Its scale: {leaf} holds {step['stored']}{own} = {short(step['value'] * (step['over'] or 1), 9)}"
    told += f", over {step['over']:g} = {short(step['value'], 9)}" if step["over"] else ""
    for part in step["steps"]:
        named = f"{part['stored']} of {visible(part['name']).rpartition('.')[2]}" if part["role"] == "offset" else visible(part["name"]).rpartition(".")[2]
        told += f", {part['sign']} {short(part['value'], 9)} ({named})"
    return told + (f" = {short(step['result'], 9)}." if step["steps"] else ".")


def place_words(places: list[dict[str, Any]]) -> str:
    """`bits 12 to 15 of word [4, 3] = 0x3A7F…`."""
    out = []
    for place in places:
        low, high = place["bits"]
        what = "byte" if place["word"] == 8 else "word"
        at = "[" + ", ".join(f"{number:,}" for number in place["index"]) + "]"
        out.append(f"{f'bit {low}' if low == high else f'bits {low} to {high}'} of {what} {at} = {place['hex']}")
    return ", then ".join(out)


def _tile_words(block: dict[str, Any]) -> list[str]:
    if block["amax"] is None or not block["scales"]:
        return ["It holds no finite value."]
    out = [f"Its largest magnitude (amax) is {short(block['amax'], 9)}."]
    if not block["finite"]:
        return [*out, "It holds NaN or infinity: FP8 makes the whole block NaN, so that nobody can use it."]
    own, other = (short(block["scales"][name], 9) for name in ("block-448", "block-240"))
    return [*out, f"FP8 would give it the scale amax/448 = {own}, or amax/240 = {other} for a reader that ends at 240."]


def formulas(document: dict[str, Any]) -> list[str]:
    """One line of arithmetic for each weight of the block."""
    out = []
    for w in (document["block"] or {"weights": []})["weights"]:
        own = w["stored"]
        line = f"{own['code']} = {' '.join(own['bits'])} -> {own['formula']}"
        if own["weight"] is not None and own["scale"] is not None:
            value = f"{own['value']:.9g}" if own["zero"] is None else f"({own['value']:.9g} - {own['zero']:g})"
            line += f"; {value} x {short(own['scale'])} = {short(own['weight'])}"
        out += [line, *([f"       its code is {place_words(w['place'])}"] if w.get("place") else [])]
    return list(dict.fromkeys(out))


def stored_table(document: dict[str, Any]) -> Table:
    """Eight weights as the file holds them."""
    weights = document["block"]["weights"]
    coded = document["codes"] is not None
    rounded = document["format"]["name"] != "bf16"
    zeros = coded and document["block"]["zero"] is not None
    head: Row = ("at", "why this one", "code", "bits", "code value", *(("- zero",) if zeros else ()), "x scale = weight", "to the next code")
    if not coded:
        head = ("at", "why this one", "stored", "bits", "value", *(("in BF16",) if rounded else ()))
    rows = []
    for w in weights:
        own = w["stored"]
        first = (f"[{w['row']}, {w['column']}]", w["why"], own["code"], " ".join(own["bits"]))
        less = (short(own["less_zero"]),) if zeros else ()
        rows.append((*first, short(own["value"]), *less, short(own["weight"]), short(w["step"])) if coded else
                    (*first, short(own["value"]), *((short(w["bf16"]),) if rounded else ())))
    return head, rows


def other_table(document: dict[str, Any]) -> Table | None:
    """The same weights under the other convention, and what wrong or lossy ways make of them."""
    weights = document["block"]["weights"]
    if document["codes"] is None:
        return _fp8_table(weights)
    if not weights or weights[0]["stored"]["weight"] is None:
        return None
    if "other" not in weights[0]:
        return ("code", "weight", "in BF16", "with 1/scale"), [(w["stored"]["code"], short(w["stored"]["weight"], 5), short(w["bf16"], 5), short(w["reciprocal"], 4)) for w in weights]
    if "legacy" in weights[0]:
        head: Row = ("code", "x scale", "halved", "bits", "x 2 scale", "off by", "raw byte", "448/240", "off by", "1/scale")
        return head, [(w["stored"]["code"], short(w["stored"]["weight"], 5), w["other"]["code"], " ".join(w["other"]["bits"]), short(w["other"]["weight"], 5), off(w["difference"]),
                       w["raw"], short(w["legacy"]["weight"], 5), _share(w["legacy_difference"], w["stored"]["weight"]), short(w["reciprocal"], 4)) for w in weights]
    head = ("code", "x scale", "doubled", "bits", "x scale/2", "off by", "raw byte", "1/scale")
    return head, [(w["stored"]["code"], short(w["stored"]["weight"], 5), w["other"]["code"], " ".join(w["other"]["bits"]), short(w["other"]["weight"], 5), off(w["difference"]),
                   w["raw"], short(w["reciprocal"], 4)) for w in weights]


def _fp8_table(weights: list[dict[str, Any]]) -> Table | None:
    if not weights:
        return None
    head = ("value", "max 448: code", "bits", "weight", "off by", "max 240: code", "bits", "weight", "off by")
    return head, [(short(w["stored"]["value"], 5), *(cell for name in ("block-448", "block-240") for cell in (
        w[name]["code"], " ".join(w[name]["bits"]), short(w[name]["weight"], 5), _share(w[name]["weight"] - w["stored"]["value"], w["stored"]["value"])))) for w in weights]


def off(difference: float | None) -> str:
    return "NaN" if difference is not None and math.isnan(difference) else "equal" if difference == 0 else short(difference, 3)


def _share(difference: float | None, value: float | None) -> str:
    """How far off, as a share of the value."""
    if difference is None or value is None or math.isnan(difference):
        return "NaN"
    if difference == 0:
        return "equal"
    if not value:
        return short(difference, 3)
    share = 100 * difference / value
    return f"{share:+.2g} %" if abs(share) >= 1e-4 else "rounding"


def convention_words(document: dict[str, Any]) -> list[str]:
    """The two readers of FP8 over the whole tensor, in sentences."""
    told = document["conventions"]
    if told is None:
        return []
    total = told["total"]
    if told["stored"] == "e4m3":
        out = [f"The codes are in Neuron's form. {_none(told['above'])} of {total:,} lie at 0x78 or above, where Neuron reads infinity or NaN."
               + ("" if not told["above"] else f" {told['infinite']:,} would be infinity, {told['nan']:,} NaN: this file was never brought below 240.")]
        out.append("Up to 0x77 (240) a byte means the same in OCP e4m3fn, so HF readers can take codes and scales as they are.")
        if told["halved"]:
            out.append(f"The manifest says that the codes were halved. Doubled, with half the scale, {told['equal']:,} of {total:,} are the published values again"
                       + (f"; {told['overflow']:,} are above 224 and cannot be doubled." if told["overflow"] else "."))
        return out
    above = f": as raw bytes Neuron would read {told['infinite']:,} as infinity and {told['nan']:,} as NaN." if told["above"] else "."
    out = ["Both use 1 sign, 4 exponent (bias 7) and 3 mantissa bits. From 0x00 to 0x77 (240) a code means the same in both."]
    out.append(f"From 0x78 on, e4m3fn goes on to 448; Neuron's E4M3 has infinity at 0x78 and NaN above. {_none(told['above'])} of {total:,} codes "
               f"({percent(told['above'], total)}) lie there{above}")
    if told["largest_after"]:
        out.append(f"Halved, with twice the scale, the largest code value is {told['largest_after']:g}. {told['equal']:,} of {total:,} values stay equal; "
                   f"{told['inexact']:,} ({percent(told['inexact'], total)}) have an odd code below 0x10 and are rounded.")
    return out


def _none(count: int) -> str:
    return f"{count:,}" if count else "None"


def nothing_to_lose(document: dict[str, Any]) -> bool:
    """Whether no value that was looked at is other than zero, or none can be decoded."""
    return all(row["relative"] is None for row in document["costs"])


def cost_table(document: dict[str, Any]) -> Table:
    """What each way of storing the same values costs."""
    rows = []
    for row in document["costs"]:
        relative, quality = row["relative"], row["sqnr_db"]
        told = "nothing to lose" if relative is None else "exact" if relative == 0 else f"{relative:.3g}" if relative < 100 else f"{relative:.3g} times the values"
        rows.append((row["way"], f"{row['changed']:,}", percent(row["changed"], row["of"]), told, "" if quality is None else f"{quality:.1f} dB", row["says"]))
    return ("way", "values changed", "share", "relative error", "signal to error", "what it does"), rows


def histogram(document: dict[str, Any]) -> list[tuple[str, str, list[int], list[int]]]:
    """Codes by exponent: (field, range of values, counts of the positive codes, counts of the negative ones)."""
    told, fields = document["codes"], document["format"]["fields"]
    counts, values = told["counts"], told["values"]
    if len(fields) == 1:
        order = sorted(range(len(counts)), key=lambda c: values[c])
        step = max(1, len(order) // 16)
        return [("", _range([values[c] for c in order[i : i + step]]), [counts[c] for c in order[i : i + step]], []) for i in range(0, len(order), step)]
    size, half = 1 << fields[2], len(counts) // 2
    return [(f"{at // size:0{fields[1]}b}", _range([v for v in values[at : at + size] if v is not None]), counts[at : at + size], counts[half + at : half + at + size])
            for at in range(0, half, size)]


def _range(values: list[float]) -> str:
    return "no numbers" if not values else f"{values[0]:.4g}" if len(values) == 1 else f"{values[0]:.4g} … {values[-1]:.4g}"


def told_other(document: dict[str, Any]) -> str:
    """What the second table of the block shows."""
    first = document["block"]["weights"][0]
    if document["codes"] is None:
        return "What block FP8 would make of them:"
    if "legacy" in first:
        return f"The same weights for Neuron (halved codes, twice the scale: {short(first['other']['scale'], 9)}), and what other hands make of them:"
    if "other" in first:
        return f"The same weights for a reader of OCP e4m3fn (doubled codes, half the scale: {short(first['other']['scale'], 9)}):"
    return "The same weights in other forms:"


def factor_words(document: dict[str, Any]) -> list[str]:
    return [f"reciprocal: at the median scale the weights become {row['factor']:.3g} times {'too large' if row['factor'] > 1 else 'what they were'}."
            for row in document["costs"] if "factor" in row]


def known(told: dict[str, Any]) -> list[float]:
    """The cells of a map that have a number."""
    return [v for row in told["cells"] for v in row if v is not None]


def error_words(document: dict[str, Any]) -> list[str]:
    """What the maps of errors show: the main step first, then the bound of quantization itself."""
    maps, out = document["maps"], []
    if "error" in maps:
        cells, name = known(maps["error"]), maps["error"]["way"]
        if not cells:
            out.append(f"Relative error of the step '{name}': nothing to lose, no block has a value other than zero.")
        elif max(cells) == 0:
            out.append(f"Relative error of the step '{name}': none, every block is exact.")
        else:
            blocks = "blocks" if maps["error"]["step"] == [1, 1] else "cells"
            out.append(f"Relative error of the step '{name}'; {sum(c == 0 for c in cells):,} of {len(cells):,} {blocks} are exact.")
    if cells := known(maps["bound"]):
        out.append(f"The most that quantization itself can have cost is half a step of every code: {short(min(cells), 4)} to {short(max(cells), 4)} of the values. "
                   "Where the originals lie evenly between two codes, rounding costs 0.58 of that (1/√3).")
    return out
