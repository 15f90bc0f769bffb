"""`draw` for people: a tree with aligned columns, and the sums below it. Markdown is in `draw_markdown`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weighbridge.report.units import count, size
from weighbridge.report.visible import visible

Node = dict[str, Any]
WIDTH = 120
_UNIT = re.compile(r"(?<=\d) (?=(?:[kMBT]|[kMGTP]B|bytes|tokens)\b|%)")
LONGEST_AXES = 34  # characters, where the table is too wide
LONGEST_RANGE = 20  # characters of a folded name
# Colours of a terminal by kind of encoding: quantized kinds are bright, plain floats are not.
PAINT = {"fp8": "\x1b[94m", "fp4": "\x1b[95m", "int8": "\x1b[96m", "int4": "\x1b[92m", "coded": "\x1b[91m", "bf16": "\x1b[33m", "f16": "\x1b[33m"}
PLAIN = "\x1b[0m"
HEAD = ("", "shape", "encoding", "count", "params", "bytes")
RANK_HEAD = ("", "on one rank", "how", "encoding", "count", "bytes")
RIGHT = {"count", "params", "bytes", "tensors"}
FLOW_HEAD = ("from", "step", "to", "tensors", "bytes", "")


def text(document: dict[str, Any], colour: bool = False) -> str:
    """The tree, one line for each node, and the sums below it; with a flow, its bands instead of the tree."""
    if document["flow"] is not None:
        return "\n\n".join([title(document), *flow(document["flow"], aligned, lambda pairs: "\n".join(_pairs(pairs)))])
    nodes = [node for node, _ in lines(document)]
    table = next((t for t in (_tree(document, squeeze) for squeeze in (0, 1)) if max(map(len, t)) <= WIDTH), None) or _tree(document, 2)
    if colour:
        place = table[0].index("encoding")
        table = [*table[:2], *(_painted(line, node, place) for line, node in zip(table[2:], nodes, strict=True))]
    blocks = [title(document), "\n".join(table)]
    for pairs in (problems(nodes), rank_sums(document), sums(document)):
        blocks += ["\n".join(_pairs(pairs))] if pairs else []
    return "\n\n".join(blocks)


def title(document: dict[str, Any]) -> str:
    """Where it is from, its sizes, and what its layers compute where that is known."""
    name = visible(f"{document['source']}: {document['model_type'] or 'no model_type'}")
    return "\n".join([name, *([words] if (words := ", ".join(_sizes(document["sizes"]))) else []), *_decoder(document["decoder"], document["sizes"])])


def _sizes(sizes: dict[str, Any]) -> Iterator[str]:
    if sizes["layers"]:
        yield count(sizes["layers"], "layer")
    if sizes["hidden"]:
        yield f"hidden {sizes['hidden']:,}"
    if sizes["heads"]:
        kv = "latent keys and values" if sizes["kv_lora"] else f"{sizes['kv_heads']} for keys and values"
        yield f"{sizes['heads']} heads of {sizes['head_dim']} ({kv})"
    if sizes["experts"]:
        yield f"{sizes['experts']} experts" + (f" ({sizes['top_k']} for each token)" if sizes["top_k"] else "")
    if sizes["vocab"]:
        yield f"vocabulary {sizes['vocab']:,}"


def _decoder(decoder: dict[str, Any] | None, sizes: dict[str, Any]) -> list[str]:
    if decoder is None:
        return []
    rope = decoder["rope"]
    kind = "" if rope["kind"] == "default" else f", {rope['kind']}"
    words = [f"rotary on {rope['dims']} of {sizes['head_dim']} values (theta {rope['theta']:,.0f}{kind})"]
    words += {"whole": ["RMSNorm over all of q and of k"], "head": ["RMSNorm on each head of q and k"]}.get(decoder["qk_norm"], [])
    if decoder["score"]:
        words.append(f"router by {decoder['score']}" + (" with a bias" if decoder["bias"] else ""))
    words += [f"layers {first}-{last} see {window:,} tokens" for first, last, window in decoder["windows"][:2]]
    words += [f"{len(decoder['windows']) - 2} more runs of windows"] if len(decoder["windows"]) > 2 else []
    return [visible(", ".join(words) + (", tied head" if decoder["tied"] else ""))]


# The tree.

def lines(root: Node) -> Iterator[tuple[Node, tuple[str, tuple[bool, ...]]]]:
    """Each node that has a line, with its label and, for each level, whether more follows there. A chain of single children is one line."""
    yield root, (short_name(root["name"]), ())
    waiting = [(child, (i < len(root["children"]) - 1,)) for i, child in enumerate(root["children"])][::-1]
    while waiting:
        node, more = waiting.pop()
        label = short_name(node["name"]) + (" (draft)" if node.get("draft") else "")
        while len(node["children"]) == 1 and node["count"] == 1:
            node = node["children"][0]
            label += " " + short_name(node["name"])
        yield node, (label + (" !" if node["problem"] else ""), more)
        waiting += [(child, (*more, i < len(node["children"]) - 1)) for i, child in enumerate(node["children"])][::-1]


def short_name(name: str) -> str:
    """A node's name without control characters; a long list of ranges is cut."""
    if len(name) > LONGEST_RANGE and not name.strip("0123456789,-"):
        return name[: name.rindex(",", 0, LONGEST_RANGE - 1) + 1] + "…" if "," in name[: LONGEST_RANGE - 1] else name
    return visible(name[:60] + ("…" if len(name) > 60 else "")) or '""'


def _tree(document: dict[str, Any], squeeze: int) -> list[str]:
    """Lines of the table: head, rule, and one for each node. What is too wide is squeezed: 1 draws levels narrower and `gate.bias` below `gate`
    as `.bias`; 2 leaves the names of axes away where they are long.
    """
    pad, rank, before = ("" if squeeze else "─"), document["rank"] is not None, ""
    rows = []
    for node, (label, more) in lines(document):
        stem = "".join("│ " + " " * len(pad) if m else "  " + " " * len(pad) for m in more[:-1])
        short = label.removeprefix(before) if squeeze and label.startswith(before + ".") else label
        before = before if short != label else label
        axes, *rest = row(node, rank)
        rows.append((f"{stem}{'├' if more[-1] else '└'}{pad} {short}" if more else label,
                     shape(node["shape"]) if squeeze > 1 and len(axes) > LONGEST_AXES and not rank else axes, *rest))
    return aligned(RANK_HEAD if rank else HEAD, rows).split("\n")


def row(node: Node, rank: bool) -> tuple[str, ...]:
    """The cells of a node behind its name. The root's own share of a rank is the sum of its weights."""
    encoding, times = short_encoding(node["encoding"]), f"{node['count']:,}" if node["count"] > 1 else ""
    if not rank:
        return _axes(node), encoding, times, many(node["parameters"]), size(node["bytes"])
    held = node["rank"] if "how" in node["rank"] else {"shape": None, "bytes": node["rank"]["weights"], "how": None}
    how = (held["how"] or "").replace(" along out", "").replace(" along in", "")
    return shape(held["shape"]), "" if node["children"] else how, encoding, times, size(held["bytes"])


def _painted(line: str, node: Node, place: int) -> str:
    paint = PAINT.get(node["encoding"]["kind"]) if node["encoding"] else None
    width = len(short_encoding(node["encoding"]))
    return f"{line[:place]}{paint}{line[place : place + width]}{PLAIN}{line[place + width :]}" if paint else line


def _axes(node: Node) -> str:
    if node["shape"] is None or node["axes"] is None or len(node["axes"]) != len(node["shape"]):
        return shape(node["shape"])
    return " x ".join(f"{number} {axis}" for number, axis in zip(node["shape"], node["axes"], strict=True))


def shape(sizes: list[int] | None) -> str:
    """`6144 x 3072`; empty for a node that is no single weight."""
    return "" if sizes is None else " x ".join(map(str, sizes)) or "scalar"


def short_encoding(encoding: dict[str, Any] | None) -> str:
    """`F8_E4M3 128x128 F32`: dtype of the codes, which values share a scale, dtype of the scales."""
    if encoding is None:
        return ""
    packed = encoding["dtype"] in ("U8", "I8", "I32", "U32") and 0 < encoding.get("bits", 8) < 8
    words = [f"{encoding['bits']}-bit {encoding['dtype']}" if packed else encoding["dtype"]]
    if encoding["strategy"] in ("block", "group") and encoding["block"]:
        words.append("x".join(map(str, encoding["block"])))
    elif encoding["strategy"] != "none":
        words.append(encoding["strategy"])
    return visible(" ".join([*words, *([encoding["scale_dtype"]] if encoding["scale_dtype"] else [])]))


def many(number: int) -> str:
    """A count as `228.69 B`: thousands, millions, billions."""
    value, step = float(number), 0
    while value >= 999.995 and step < 4:
        value, step = value / 1000, step + 1
    return f"{number:,}" if step == 0 else f"{value:.2f} {'kMBT'[step - 1]}"


# Sums. Each line is (what, text); a line without `what` goes on with the one above.

Pairs = list[tuple[str, str]]


def problems(nodes: Sequence[Node]) -> Pairs:
    """Weights whose headers do not agree; they are marked with `!` in the tree."""
    return [("!", visible(f"{node['path']}: {node['problem']}")) for node in nodes if node["problem"]]


def sums(document: dict[str, Any]) -> Pairs:
    """The whole, what a token meets, and what it leaves in the cache."""
    active, cache = document["active"], document["cache"]
    out = [("total", f"{document['parameters']:,} parameters in {document['bytes']:,} bytes ({size(document['bytes'])})"),
           ("per token", f"{active['parameters']:,} parameters ({100 * active['share']:.2f} %), {size(active['bytes'])} of weights"
            + (f": {active['says']}" if active["says"] else "")),
           ("", ", ".join(f"{part['name']} {many(part['active'])}" for part in active["parts"] if part["active"]))]
    if not cache:
        return out
    windowed, layers = sum(n for _, n in cache["windowed"]), cache["full_layers"] + sum(n for _, n in cache["windowed"])
    out.append(("cache", f"{cache['bytes_per_token']:,} bytes per token ({cache['values_per_token']:,} values in {cache['dtype']})"))
    if windowed:
        kept = ", ".join(f"{window:,}" for window, _ in cache["windowed"])
        out.append(("", f"{windowed} of {layers} layers keep only the last {kept} tokens"))
    if cache["context"]:
        out.append(("", f"{size(cache['bytes_at_context'])} for one sequence of {cache['context']:,} tokens, the longest that the config names"))
    return out


def rank_sums(document: dict[str, Any]) -> Pairs:
    """What one rank holds, and what does not work."""
    rank = document["rank"]
    if rank is None:
        return []
    degrees = f"TP {rank['tp']}" + (f", expert TP {rank['moe_tp']}, EP {rank['moe_ep']}" if document["sizes"]["experts"] else "")
    share = 100 * rank["weights"] / document["bytes"] if document["bytes"] else 0
    parts = ", ".join(f"{name} {size(rank[name])}" for name in ("attention", "experts", "rest"))
    out = [("rank", f"{rank['runtime']}, {degrees}: {rank['note']}"),
           ("weights", f"{rank['weights']:,} bytes ({size(rank['weights'])}, {share:.2f} % of the files): {parts}"),
           ("cache", f"{rank['cache_bytes_per_token']:,} bytes per token")]
    return out + ([("fault", visible(fault)) for fault in rank["faults"]] or [("faults", "none: every part can be cut so")])


def _pairs(pairs: Pairs) -> list[str]:
    wide = max(len(name) for name, _ in pairs)
    out: list[str] = []
    for name, value in pairs:
        held = _UNIT.sub("\u00a0", value)  # a number stays with its unit
        wrapped = textwrap.wrap(held, WIDTH, initial_indent=name.ljust(wide) + "  ", subsequent_indent=" " * (wide + 2), break_long_words=False,
                                break_on_hyphens=False)
        out += [line.replace("\u00a0", " ") for line in wrapped]
    return out


# The conversion.

def flow(told: dict[str, Any], table: Callable[..., str], pairs: Callable[[Pairs], str]) -> list[str]:
    """Blocks: what is read and written, the bands as a table, what each step does, and what is dropped. `table` makes a table of head and rows,
    `pairs` a list of words with what is said of them.
    """
    rows = []
    for band in told["bands"]:
        source, target = told["source"][band["from"]], told["destination"][band["to"]]
        marks = [word for word in ("lossy", "turned") if band[word]]
        rows.append((f"{visible(source['name'])} {short_encoding(source['encoding'])}", visible(band["step"]),
                     f"{_last_words(target['name'])} {short_encoding(target['encoding'])}", f"{band['tensors']:,}", size(band["bytes_written"]),
                     ", ".join(marks)))
    says = {band["step"]: f"{band['says']} ({band['bound']})" for band in told["bands"]}
    blocks = [visible(f"to {told['to']}: {size(told['bytes_read'])} read, {size(told['bytes_written'])} written"), table(FLOW_HEAD, rows)]
    blocks += [pairs([(visible(step), visible(words)) for step, words in says.items()])] if says else []
    dropped = [("dropped", visible(f"{d['name']} ({d['tensors']:,}): {d['reason']}")) for d in told["dropped"]]
    return blocks + ([pairs(dropped)] if dropped else [])


def _last_words(name: str) -> str:
    """A folded name without the layer: its last two words."""
    return visible(".".join(name.rsplit(".", 2)[-2:]).removeprefix("*.") if "*" in name else name)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart below a rule; numbers (by the head's word) stand right."""
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if h in RIGHT else c.ljust(w) for c, w, h in zip(cells, widths, head, strict=True)).rstrip()

    return "\n".join([line(head), "  ".join("-" * w for w in widths if w), *map(line, rows)])
