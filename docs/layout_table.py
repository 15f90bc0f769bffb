"""What docs/layouts.md says: the rows of weighbridge/layouts/rows.py as tables. docs/make_pages.py writes it."""

from __future__ import annotations

HEAD = """# Layouts

A layout is how a checkpoint is stored for its readers: names, number format, and the configuration that says so. `weighbridge convert SRC DST --to ct-int4` writes one of these.
Each output has the claim that its readers look for, with a list of what stays unquantized that is matched as each of them matches ([skip lists](skip-lists.md)).
"""

READERS_HEAD = """## Who loads what

**yes** and **no** were read in the reader's source, or seen; *yes* with a number has a condition below. A dash means that nobody looked, not that it fails. A reader must know the model's class in any case.
"""

SHAPES = """## What fits

* A scale per block takes any matrix: the last block is cut. Readers may want more: their conditions stand above.
* A scale per group (INT4, MXFP4, MXFP8, NVFP4, GPTQ, AWQ) wants input channels in whole groups.
* GPTQ packs eight input channels into a word, AWQ eight output channels; both pack zero points along the output channels. Those channels come in eights.
* `hf-mxfp4` holds experts that are stacked in one tensor of three axes. All others hold matrices.

A matrix that does not fit stays unquantized, and is listed.

"""


def layouts_page() -> str:
    """The page; the same rows give the same bytes."""
    from weighbridge.layouts.rows import READERS, ROWS

    lines = [HEAD, "| layout | what it is | options | defaults | activations |", "| --- | --- | --- | --- | --- |"]
    for row in ROWS.values():
        defaults = ", ".join(text for text in (f"block {row.block[0]}x{row.block[1]}" if row.block else "", f"group {row.group}" if row.group else "",
                                               f"{row.scale_dtype} scales" if row.scale_dtype else "") if text)
        options = ", ".join(f"`{option}`" for option in row.options)
        lines.append(f"| `{row.name}` | {row.says} | {options} | {defaults} | {', '.join(row.activations)} |")
    lines += ["", READERS_HEAD, "| layout | " + " | ".join(READERS) + " |", "| --- " * (len(READERS) + 1) + "|"]
    notes: dict[str, int] = {}
    for row in ROWS.values():
        lines.append(f"| `{row.name}` | " + " | ".join(_cell(row.reader(reader), notes) for reader in READERS) + " |")
    lines += ["", *(f"{number}. {note}" for note, number in notes.items()), "", SHAPES.rstrip(), "", "## Sources", ""]
    sources: dict[str, list[str]] = {}
    for row in ROWS.values():
        for known in row.readers:
            if row.name not in sources.setdefault(known.source, []):
                sources[known.source].append(row.name)
    lines += [f"* {source}: {', '.join(f'`{name}`' for name in names)}" for source, names in sorted(sources.items())]
    return "\n".join(lines).rstrip() + "\n"


def _cell(known: object, notes: dict[str, int]) -> str:
    if known is None:
        return "–"
    reader, loads, condition = known.reader, known.loads, known.condition  # type: ignore[attr-defined]
    if not condition:
        return loads
    note = f"{reader}: {condition}."
    return f"{loads} ({notes.setdefault(note, len(notes) + 1)})"
