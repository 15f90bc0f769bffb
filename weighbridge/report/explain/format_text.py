"""`explain e4m3fn` in the terminal and as Markdown: number lines drawn with characters, tables of binades and codes."""

from __future__ import annotations

from math import floor, log2
from typing import Any

from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.wrap import wrapped

WIDTH = 96
HEIGHTS = " ▁▂▃▄▅▆▇█"  # columns by how many values share them: none, 1, 2, 3, 4, to 8, to 16, to 32, more
MOST_ROWS = 24  # longer tables show their ends


def amount(value: float | None) -> str:
    """A number in full where it is short, as a power of two where it is one."""
    if value is None:
        return ""
    if value and (abs(value) < 1 / 64 or abs(value) >= 1 << 20) and log2(abs(value)).is_integer():
        return f"{'-' if value < 0 else ''}2^{int(log2(abs(value)))}"
    return f"{value:,.10g}" if 1e-4 <= abs(value) < 1e7 or not value else f"{value:.6g}"


def tick(count: int) -> str:
    """The mark of a column that holds `count` values."""
    return HEIGHTS[count if count < 5 else 5 if count <= 8 else 6 if count <= 16 else 7 if count <= 32 else 8]


def even_line(values: list[float], low: float, high: float, width: int = WIDTH) -> str:
    """One mark for each column of an even axis."""
    counts = [0] * width
    for value in values:
        if low <= value <= high:
            counts[round((value - low) / (high - low) * (width - 1))] += 1
    return "".join(map(tick, counts)).rstrip()


def log_line(values: list[float], low: int, high: int, width: int = WIDTH) -> str:
    """The same on an axis of equal octaves from 2^low to 2^high."""
    counts = [0] * width
    for value in values:
        counts[round((log2(value) - low) / (high - low) * (width - 1))] += 1
    return "".join(map(tick, counts)).rstrip()


def scale_of(labels: list[tuple[float, str]], width: int = WIDTH) -> str:
    """Labels below an axis, each under its place (0..1); one that would touch its neighbour is left out."""
    line = [" "] * (width + 8)
    taken = -1
    for share, label in labels:
        start = min(max(round(share * (width - 1)) - len(label) // 2, 0), width - len(label))
        if start > taken:
            line[start : start + len(label)] = label
            taken = start + len(label)
    return "".join(line).rstrip()


def even_labels(top: float) -> list[tuple[float, str]]:
    """Labels of an even axis at round places: multiples of a power of two. Numbers that would need many digits are left out."""
    step = 2.0 ** floor(log2(top / 5))
    made = [(i * step / top, amount(i * step)) for i in range(int(top / step) + 1)]
    return [(share, label) for share, label in made if len(label) <= 9] + ([] if made[-1][0] == 1 else [(1.0, amount(top))])


def format_lines(d: dict[str, Any]) -> list[str]:
    """The axes of a small format: even, near zero, and by octaves."""
    values = sorted({row["value"] for row in d["codes"] if row["value"] is not None and row["value"] > 0})
    top, low, high = d["max"], floor(log2(values[0])), floor(log2(d["max"])) + 1
    step = max(1, -(-(high - low) // 12))
    out = ["A mark is a column of the axis; its height says how many values share the column:",
           "▁ 1  ▂ 2  ▃ 3  ▄ 4  ▅ to 8  ▆ to 16  ▇ to 32  █ more", "",
           f"Even axis, 0 to {amount(top)}: dense at zero, sparse at the end", "", even_line([0.0, *values], 0.0, top), scale_of(even_labels(top))]
    near = 4 * d["min_normal"]
    if d["min_subnormal"] and near < top / 4:
        out += ["", f"Near zero, magnified {top / near:,.0f} times: below {amount(2 * d['min_normal'])} the steps are equal, they shrink no more",
                "",
                even_line([0.0, *values], 0.0, near), scale_of(even_labels(near))]
    return [*out, "", "By octaves: the values are spread alike" + (", until they thin out below the normals" if d["min_subnormal"] else ""), "",
            log_line(values, low, high), scale_of([((e - low) / (high - low), f"2^{e}") for e in range(low, high + 1, step)])]


def reach_lines(rows: list[dict[str, Any]], what: str) -> list[str]:
    """How far each format reaches, on an axis of powers of two: dots are subnormals, lines normals."""
    low = floor(log2(min(row["from"] for row in rows))) - 2
    high = floor(log2(max(row["to"] for row in rows))) + 3
    width = WIDTH - 12

    def at(value: float) -> int:
        return round((log2(value) - low) / (high - low) * (width - 1))

    out = []
    for row in rows:
        start, normal, end = at(row["from"]), at(row["normal"]), at(row["to"])
        name = ("> " if row["name"] == what else "  ") + row["name"].ljust(10)
        out.append(f"{name}{' ' * start}{'·' * (normal - start)}{'━' * (end - normal + 1)}")
    labels = [((e - low) / (high - low), f"2^{e}") for e in range(-128, high, 32)]
    return [*out, " " * 12 + scale_of(labels, width), "", "━ normal values, · subnormal ones"]


def facts(d: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and number of everything that is one number."""
    fields = " + ".join(f"{bits} {name}" for name, bits in d["fields"].items() if bits)
    counts, bound = d["counts"], d["relative_error_bound"]
    rows = [("also called", ", ".join(d["names"])), ("fields", f"{fields} = {d['bits']} bits; exponent bias {d['bias']}"),
            ("codes", (f"{counts['codes']:,}: {counts['finite_codes']:,} finite ({counts['values']:,} values), "
                       f"{counts['infinity_codes']} infinite, {counts['nan_codes']:,} NaN")),
            ("largest", amount(d["max"])), ("smallest normal", amount(d["min_normal"])),
            ("smallest subnormal", amount(d["min_subnormal"]) or "none: there are no subnormals, and no zero"),
            ("from smallest to largest", f"{d['octaves']:.1f} octaves"),
            ("relative error", f"at most 2^-{d['fields']['mantissa'] + 1} = {bound * 100:.4g} % for normal values, to the nearest")]
    if d.get("absolute_error_bound_subnormal"):
        rows.append(("error below the normals", f"at most {amount(d['absolute_error_bound_subnormal'])}, absolute"))
    if "step_at_one" in d:
        rows += [("step at 1", amount(d["step_at_one"])), ("whole numbers", f"all up to {d['whole_numbers_up_to']:,}")]
    return rows


def end_of(d: dict[str, Any]) -> str:
    """What comes after the largest value."""
    end = d["end"]
    after = {"nan": "NaN", "infinity": "infinity"}.get(end["next_is"], "")
    told = f"code 0x{end['next_code']:02X} would mean {amount(end['would_be_next'])}, and is {after}" if after else "no code is left for it"
    return f"After {amount(end['largest'])} (code 0x{end['code']:02X}) comes the end: {told}. {d['beyond']}"


def binade_rows(d: dict[str, Any]) -> list[tuple[str, ...]]:
    rows = [("below the normals" if b["kind"] == "subnormal" else f"2^{b['exponent']}", amount(b["first"]), amount(b["last"]), amount(b["step"]),
             str(b["values"]))
            for b in d["binades"]]
    return rows if len(rows) <= MOST_ROWS else [*rows[:4], ("...", "", "", "", ""), *rows[-4:]]


def special_rows(d: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Codes that are no plain numbers, runs folded."""
    rows: list[tuple[str, str, str]] = []
    run: list[dict[str, Any]] = []
    for row in [*d["special"], None]:
        if run and (row is None or row["kind"] != run[-1]["kind"] or row["code"] != run[-1]["code"] + 1):
            codes = f"0x{run[0]['code']:02X}" + (f" to 0x{run[-1]['code']:02X}" if len(run) > 1 else "")
            bits = run[0]["bits"] + (f" to {run[-1]['bits']}" if len(run) > 1 else "")
            rows.append((codes, bits, _meaning(run[0])))
            run = []
        if row is not None:
            run.append(row)
    return rows


def _meaning(row: dict[str, Any]) -> str:
    sign = "-" if row["negative"] else ""
    return {"nan": "NaN", "infinity": f"{sign}infinity", "zero": f"{sign}0"}[row["kind"]]


def value_of(row: dict[str, Any]) -> str:
    """A code's meaning in a table of all codes."""
    return amount(row["value"]) if row["kind"] in ("normal", "subnormal") else _meaning(row)


def code_grid(d: dict[str, Any]) -> list[str]:
    """All codes of the positive half, bits apart, in columns; the negative half is the same with the sign."""
    half = [row for row in d["codes"] if not row["negative"]]
    if len(half) > 128:
        half = [*half[:4], *half[len(half) // 2 - 8 : len(half) // 2 + 8], *half[-4:]]
    cells = [f"0x{row['code']:02X}  {row['bits']}  {value_of(row)}" for row in half]
    columns = max(1, min(3, len(cells) // 4))
    height = -(-len(cells) // columns)
    width = max(map(len, cells)) + 3
    return ["".join(cells[i].ljust(width) for i in range(line, len(cells), height)).rstrip() for line in range(height)]


BINADE_HEAD = ("binade", "first", "last", "step", "values")
SPECIAL_HEAD = ("code", "bits", "means")


def small_text(d: dict[str, Any]) -> list[tuple[str, str]]:
    """(heading, body) of a small format in the terminal."""
    halves = "the negative half is the same with the sign bit set" if d["fields"]["sign"] else "there is no negative half"
    half = [row for row in d["codes"] if not row["negative"]]
    shown = "All codes" if len(half) <= 128 else "Some codes: the ends, and around 1"
    return [("", pairs(facts(d))), ("Number line", "\n".join(format_lines(d))), ("Where it ends", wrapped(end_of(d))),
            ("Binades", text_table(BINADE_HEAD, binade_rows(d))), ("Codes that are no plain numbers", text_table(SPECIAL_HEAD, special_rows(d))),
            (f"{shown} (code, {' '.join(n for n, b in d['fields'].items() if b)}, value); {halves}", "\n".join(code_grid(d))),
            ("Who uses it", wrapped(d["used"])), ("Often mixed up", wrapped(d["mixed_up"]))]


def wide_text(d: dict[str, Any]) -> list[tuple[str, str]]:
    return [("", pairs(facts(d))), ("How far it reaches, beside the others", "\n".join(reach_lines(d["reaches"], d["what"]))),
            ("A few numbers in it", text_table(SAMPLE_HEAD, sample_rows(d))),
            ("Who uses it", wrapped(d["used"])), ("Often mixed up", wrapped(d["mixed_up"]))]


SAMPLE_HEAD = ("number", "code", "sign exponent mantissa", "stored")


def sample_rows(d: dict[str, Any]) -> list[tuple[str, ...]]:
    digits = d["bits"] // 4
    return [(f"{s['value']:g}", f"0x{s['code']:0{digits}X}", s["bits"], f"{s['stored']:.10g}") for s in d["samples"]]


def container_text(d: dict[str, Any]) -> list[tuple[str, str]]:
    element = d["element"]
    values = [v for v in element["values"] if v >= 0]
    line = even_line(values, 0.0, max(values)) + "\n" + scale_of(even_labels(max(values)))
    return [("", pairs(container_facts(d))), (f"Values of one code ({element['name']}), the positive half, even axis", line),
            ("Stored as", wrapped(d["stored"])), ("Who multiplies", wrapped(d["rule"])),
            ("One group by hand", f"{wrapped(worked_words(d))}\n\n{text_table(WORKED_HEAD, worked_rows(d))}\n\n{worked_end(d)}"),
            ("Often mixed up", wrapped(d["mixed_up"]))]


def container_facts(d: dict[str, Any]) -> list[tuple[str, str]]:
    element, sizes = d["element"], d["sizes"]
    per = f"each {d['group']} codes of a row" if d["group"] else "each row"
    whole = sizes["code_bytes"] + sizes["scale_bytes"]
    rows = [("codes", f"{element['name']}, {element['bits']} bits, to {amount(element['max'])}"), ("scale", f"{d['scale']}, one for {per}"),
            ("bits for each weight", f"{d['bits_per_value']:.6g}"),
            (f"a weight {sizes['shape']}", (f"{sizes['code_bytes']:,} + {sizes['scale_bytes']:,} bytes of scales: "
                                            f"{whole / sizes['bf16_bytes'] * 100:.4g} % of BF16")),
            ("within a group", f"the largest is at most {amount(d['within_a_group'])} times the smallest that is not zero")]
    rows.append(("schemes", ", ".join(d["schemes"])))
    if "second_scale" in d:
        second = d["second_scale"]
        rows.append(("second scale", f"{second['dtype']}, one for the {second['per']}: amax / {amount(second['amax_divided_by'])}"))
    return rows


def worked_words(d: dict[str, Any]) -> str:
    w = d["worked"]
    return f"{w['count']} numbers, the largest magnitude is {w['amax']:g}. {w['how']}. The first {w['shown']}:"


def worked_end(d: dict[str, Any]) -> str:
    return f"Largest error in the group: {d['worked']['largest_error']:.4g}"


WORKED_HEAD = ("number", "code", "bits", "code's value", "times scale")


def worked_rows(d: dict[str, Any]) -> list[tuple[str, ...]]:
    w, digits = d["worked"], d["element"]["bits"] // 4
    return [(f"{v:g}", f"0x{c:0{digits}X}", b, f"{x:g}", f"{y:.6g}") for v, c, b, x, y in
            list(zip(w["values"], w["codes"], w["bits"], w["code_values"], w["decoded"], strict=True))[: w["shown"]]]


def pairs(rows: list[tuple[str, str]]) -> str:
    """Names and numbers in two columns; a long number goes on below itself."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(wrapped(told, indent=width, first=name.ljust(width)) for name, told in rows)


def tables(d: dict[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """(heading, head, rows) for Markdown and HTML: everything but lines of characters."""
    if d["kind"] == "wide-format":
        return [("A few numbers in it", SAMPLE_HEAD, sample_rows(d))]
    if d["kind"] == "container":
        return [("One group by hand", WORKED_HEAD, worked_rows(d))]
    codes = [(f"0x{row['code']:02X}", row["bits"], value_of(row), row["kind"]) for row in d["codes"]]
    return [("Binades", BINADE_HEAD, binade_rows(d)), ("Codes that are no plain numbers", SPECIAL_HEAD, special_rows(d)),
            ("All codes", ("code", "bits", "value", "kind"), codes)]


def markdown(d: dict[str, Any]) -> list[str]:
    rows = container_facts(d) if d["kind"] == "container" else facts(d)
    out = [markdown_table(("what", "how much"), rows)]
    if d["kind"] == "format":
        out.append("## Number line\n\n```text\n" + "\n".join(format_lines(d)) + "\n```")
    if d["kind"] == "wide-format":
        out.append("## How far it reaches\n\n```text\n" + "\n".join(reach_lines(d["reaches"], d["what"])) + "\n```")
    for heading, head, cells in tables(d):
        lead = f"{worked_words(d)}\n\n" if heading == "One group by hand" else ""
        out.append(f"## {heading}\n\n{lead}{markdown_table(head, cells)}" + (f"\n\n{worked_end(d)}" if lead else ""))
    return out + [f"## {heading}\n\n{body}" for heading, body in words(d)]


def words(d: dict[str, Any]) -> list[tuple[str, str]]:
    """Headings and sentences that every form has."""
    out = [("Where it ends", end_of(d))] if d["kind"] == "format" else []
    out += [("Stored as", d["stored"]), ("Who multiplies", d["rule"])] if d["kind"] == "container" else [("Who uses it", d["used"])]
    return [*out, ("Often mixed up", d["mixed_up"])]
