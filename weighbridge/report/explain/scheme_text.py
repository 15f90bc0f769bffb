"""`explain ct-int4` and `explain nf4` for people: tables and sentences that the terminal, Markdown and the page share."""

from __future__ import annotations

from typing import Any

from weighbridge.report.explain.format_text import amount, pairs
from weighbridge.report.explain.tensor_words import place_words, short, step_words
from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.wrap import wrapped

Row = tuple[str, ...]
Table = tuple[str, Row, list[Row]]
FIELD_HEAD = ("tensor", "what it is", "dtype", "code", "one for", "shape")
EXACT_HEAD = ("scheme", "layout", "way", "when")
READER_HEAD = ("layout", "reader", "loads it", "condition")
CODE_HEAD = ("code", "bits", "value")
LIST_HEAD = ("scheme", "codes", "claimed by", "written")
MOST_CODES = 32  # of an element with more, the terminal shows the ends


def facts(d: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and number of everything that is one line."""
    if d["kind"] == "element":
        return _element_facts(d)
    rows = [("a value", d["formula"]), ("claimed by", ", ".join(f"`{m}`" for m in d["methods"])),
            ("written by", f"weighbridge convert SRC DST --to {d['layout']}" if d["layout"] else "nobody here: it is read only"),
            ("example", f"a weight of {d['shape']} values{' (stored turned: input channels are rows)' if d['turned'] else ''}"),
            ("bytes", f"{d['bytes']:,}: {d['bits_per_value']:.6g} bits for each value, {d['bytes'] / d['bf16_bytes'] * 100:.4g} % of BF16")]
    return rows


def _element_facts(d: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("bits", str(d["bits"])), ("values", f"{d['values']:,} different ones, from {amount(d['min'])} to {amount(d['max'])}" if d["codes"]
                                       else f"from {amount(-d['max'])} to {amount(d['max'])}")]
    if d["bias"] and d["element_kind"] == "offset":
        rows.append(("stored", f"with {d['bias']} added" if d["bias"] > 0 else f"less {-d['bias']}"))
    if d["relative_error_bound"]:
        rows.append(("relative error", f"at most {d['relative_error_bound'] * 100:.4g} % for normal values, to the nearest"))
    else:
        rows.append(("rounding", f"to the nearest: at most {short(d['half_step'], 4)} off inside the range"))
    return [*rows, ("used by", ", ".join(d["used_by"]) or "no scheme of the table")]


def field_rows(d: dict[str, Any]) -> list[Row]:
    rows = []
    for f in d["fields"]:
        role = f["role"] + (f" of {f['of'].lstrip('._')}" if f["of"] else "") + (", may be absent" if f["optional"] else "")
        shape = "a JSON text" if f["shape"] is None and f["role"] == "offset" else "" if f["shape"] is None else str(f["shape"])
        over = f" / {f['over']:g}" if f["over"] else ""
        rows.append((" or ".join(s or "(the name itself)" for s in f["suffixes"]), role, ", ".join(f["dtypes"]), f"{f['element']}{over}", f["block"], shape))
    return rows


def packing_lines(p: dict[str, Any]) -> list[str]:
    """A unit as it lies in memory, highest bit first: which value each run of bits belongs to."""
    word, owner = p["word"], {}
    for value, parts in enumerate(p["places"]):
        for part in parts:
            for bit in range(part["bits"][0], part["bits"][1] + 1):
                owner[part["word"], bit] = value
    out = []
    for number in range(p["words"]):
        runs: list[list[int]] = []
        for bit in range(word - 1, -1, -1):
            value = owner.get((number, bit), -1)
            if runs and runs[-1][0] == value:
                runs[-1][2] = bit
            else:
                runs.append([value, bit, bit])
        cells = [f"{'v' + str(value) if value >= 0 else 'unused'} {high}" + (f"-{low}" if low != high else "") for value, high, low in runs]
        named = f"{'byte' if word == 8 else 'word'} {number}: " if p["words"] > 1 else ""
        for at in range(0, len(cells), 8):
            out.append((named if at == 0 else " " * len(named)) + "| " + " | ".join(cells[at : at + 8]) + " |")
    return out


def packing_words(p: dict[str, Any]) -> str:
    unit = "one byte" if (p["words"], p["word"]) == (1, 8) else f"one word of {p['word']} bits" if p["words"] == 1 else f"{p['words']} words of {p['word']} bits"
    return (f"{p['suffix'].lstrip('._') or 'the tensor'}: {p['values']} codes of {p['width']} bits share {unit}, along the {p['axis']}. "
            "vN is value N of the unit, then its bits; the highest bit stands first:")


def example_lines(d: dict[str, Any]) -> list[str]:
    """A few weights of the example, from bits to value."""
    e = d["example"]
    out = [step_words(step) for step in e["steps"]]
    for w in e["weights"]:
        own = w["stored"]
        value = f"{own['value']:.9g}" if own["zero"] is None else f"({own['value']:.9g} - {own['zero']:g})"
        line = f"[{w['row']}, {w['column']}]: {own['code']} = {' '.join(own['bits'])} -> {own['formula']}; {value} x {short(own['scale'])} = {short(own['weight'])}"
        out += [line, *([f"    its code is {place_words(w['place'])}"] if w["place"] else [])]
    return out


def example_words(d: dict[str, Any]) -> str:
    e = d["example"]
    return f"A small weight of {e['shape']} values, one scale for {e['block'][0]} x {e['block'][1]} of them; [row, column] in stored axes. Its numbers are decoded for this page."


def reader_rows(d: dict[str, Any]) -> list[Row]:
    return [(r["layout"], r["reader"], r["loads"], r["condition"]) for r in d["readers"]]


def exact_rows(d: dict[str, Any]) -> list[Row]:
    return [(e["to"], e["layout"] or "", e["step"], "always" if e["always"] else "where its scales or zero points allow it") for e in d["exact"]]


EXACT_WORDS = ("No value changes on these ways. Where a condition stands, the plan reads scales and zero points and decides tensor by tensor: "
               "powers of two near each other, zero points in the middle of their range.")


def code_rows(d: dict[str, Any], all_codes: bool = True) -> list[Row]:
    digits = -(-d["bits"] // 4)
    rows = [(f"0x{c['code']:0{digits}X}", c["bits"], "no number" if c["value"] is None else f"{c['value']:.9g}") for c in d["codes"]]
    return rows if all_codes or len(rows) <= MOST_CODES else [*rows[:8], ("...", "", ""), *rows[-8:]]


def tables(d: dict[str, Any], all_codes: bool = True) -> list[Table]:
    """(heading, head, rows) of what is a table in every form."""
    if d["kind"] == "element":
        return [("Codes", CODE_HEAD, code_rows(d, all_codes))] if d["codes"] else []
    made: list[Table] = [("Tensors", FIELD_HEAD, field_rows(d))]
    if d["exact"]:
        made.append(("Where it goes exactly", EXACT_HEAD, exact_rows(d)))
    if d["readers"]:
        made.append(("Who reads it", READER_HEAD, reader_rows(d)))
    return made


def lists(d: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """(heading, sentence, lines): what stands in a box of fixed width."""
    if d["kind"] == "element":
        return []
    made = [("How its codes lie", packing_words(p), packing_lines(p)) for p in d["packings"][:1]]
    made += [("How its zero points lie" if "zero" in p["suffix"] else "How the others lie", packing_words(p), packing_lines(p)) for p in d["packings"][1:]]
    return [*made, ("Worked by hand", example_words(d), example_lines(d))]


def text(d: dict[str, Any]) -> list[tuple[str, str]]:
    """(heading, body) in the terminal."""
    out = [("", pairs([(name, told.replace("`", "")) for name, told in facts(d)]))]
    rows = tables(d, all_codes=False)
    if d["kind"] == "element":
        return [*out, *((heading, text_table(head, cells)) for heading, head, cells in rows)]
    out.append(("Tensors", "\n".join(_field_lines(d))))
    out += [(heading, f"{wrapped(words)}\n\n" + "\n".join(_kept(line) for line in lines)) for heading, words, lines in lists(d)]
    for heading, head, cells in rows[1:]:
        lead = f"{wrapped(EXACT_WORDS)}\n\n" if heading == "Where it goes exactly" else ""
        out.append((heading, lead + (_reader_lines(cells) if heading == "Who reads it" else text_table(head, cells))))
    return out


def _kept(line: str) -> str:
    """A line of a box: a picture of bits as it is, a sentence wrapped with its indent."""
    bare = line.lstrip()
    return line if "| v" in line else wrapped(bare, indent=6, first=line[: len(line) - len(bare)])


def _field_lines(d: dict[str, Any]) -> list[str]:
    """Two lines for each tensor: a table of six columns is too wide for a terminal."""
    out = []
    for name, role, dtypes, element, block, shape in field_rows(d):
        out += [f"{name}  ({role})", wrapped(f"{dtypes}{f' {shape}' if shape else ''}; {element + ', ' if element else ''}one for {block}", indent=4, first="    ")]
    return out


def _reader_lines(rows: list[Row]) -> str:
    return "\n".join(wrapped(f"{layout} in {reader}: {loads}{f'; {condition}' if condition else ''}", indent=4, first="") for layout, reader, loads, condition in rows)


def markdown(d: dict[str, Any]) -> list[str]:
    out = [markdown_table(("what", "how much"), facts(d))]
    rows = tables(d)
    first = 1 if d["kind"] == "scheme" else 0
    out += [f"## {heading}\n\n{markdown_table(head, cells)}" for heading, head, cells in rows[:first]]
    out += [f"## {heading}\n\n{words}\n\n```text\n" + "\n".join(lines) + "\n```" for heading, words, lines in lists(d)]
    for heading, head, cells in rows[first:]:
        lead = f"{EXACT_WORDS}\n\n" if heading == "Where it goes exactly" else ""
        out.append(f"## {heading}\n\n{lead}{markdown_table(head, cells)}")
    return out


def list_rows(document: dict[str, Any]) -> list[Row]:
    """A row for each scheme in the list of formats."""
    return [(s["name"], f"{s['element']}, {s['strategy']}", ", ".join(s["methods"]), "yes" if s["layout"] else "") for s in document["schemes"]]
