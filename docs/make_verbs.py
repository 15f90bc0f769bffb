"""Makes docs/verbs/: one page per verb, with its flags as the signature has them and the output of commands that ran on the demo checkpoint.

`python docs/make_site.py` calls it. A test holds that the pages are up to date.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from shown import Stage

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "verbs"
HEAD = "<!-- Made by docs/make_site.py from the commands that it shows. -->\n\n"
EXPERT, Q = "layers.1.block_sparse_moe.experts.0.w1", "layers.0.self_attn.q_proj"


class Example(NamedTuple):
    """One command with the sentence before it. `code` is the exit code that it must have, `most` the lines that are shown (0: all)."""

    says: str
    command: str
    code: int = 0
    most: int = 0


class Verb(NamedTuple):
    """`python` is the same question in Python, `pictures` are files of docs/fp8/ with their words. `loose`: numbers depend on the order of additions, so the
    page is held by its structure."""

    says: str
    examples: tuple[Example, ...]
    python: str
    see: str
    loose: bool = False
    pictures: tuple[tuple[str, str], ...] = ()


EXACT = Example("First a conversion, to have a second checkpoint:", "weighbridge convert DEMO OUT --to neuron --attention exact", most=4)

VERBS: dict[str, Verb] = {
    "inspect": Verb(
        "Reads headers and `config.json`, never weights. One row for each role: how it is stored, how many there are, and their bytes with their scales. "
        "Under it stands what the config claims, and where the files differ from that.",
        (Example("The whole checkpoint:", "weighbridge inspect DEMO"),
         Example("Single tensors by a shell pattern:", "weighbridge inspect DEMO --tensors '*layers.1.self_attn*'"),
         Example("For a script:", "weighbridge inspect DEMO --format json", most=12)),
        'wb.open("MiniMax-M2").inspect()["parameters"]',
        "[the guide to block FP8](../fp8/README.md), [JSON documents](../schema.md)"),
    "check": Verb(
        "Rules over files, claim and scale bytes; with `--runtime` also over what that reader builds, names, skips and cuts. Each finding has a code, a place, the "
        "numbers that disagree, what follows, and the change that mends it. With `--try` the reader itself answers, too, where it is installed "
        "([ask the reader itself](../check.md#ask-the-reader-itself)).",
        (Example("The checkpoint against itself:", "weighbridge check DEMO"),
         Example("Against AWS Neuron's loader:", "weighbridge check DEMO --runtime neuron --select WB6,WB7", 1),
         Example("Against vLLM, cut eight ways:", "weighbridge check DEMO --runtime vllm --tp 8 --select WB502", 1),
         Example("The command line that you have, after `--`:", "weighbridge check DEMO --select WB502 -- vllm serve DEMO -tp 8", 1, 6)),
        'wb.open("MiniMax-M2").check("vllm", tp=8)["findings"]',
        "[check: before the load](../check.md), [all rules](../rules.md), [the collection of failures](../failures.md)"),
    "convert": Verb(
        "Resolves two layouts against the headers of one checkpoint, refuses with all findings before the first write, and then moves bytes in bounded memory. "
        "Killed at any moment, the same command goes on; over a finished folder it says that there is nothing to do only after a look at every file and at the source, and makes anew "
        "what was lost.",
        (Example("Where can these weights go? Without `--to` each layout is listed with its readers, bytes, and what it loses: `exact`, or the error of the plan's own steps on "
                 "bands of real rows, in dB.", "weighbridge convert DEMO"),
         Example("A reader in the place of a layout: it takes what loses least among those that this reader loads on this device.",
                 "weighbridge convert DEMO --for vllm --device h100 --dry-run"),
         Example("An option that a layout does not take is refused, with the layouts that take it:", "weighbridge convert DEMO OUT --to hf-bf16 --group 64", 2),
         Example("To BF16, with the scales beside it in `weighbridge-scales.kept` (no reader takes that name for a shard). A weight that training changed meanwhile gets new "
                 "scales on the way back; all others get their bytes back.", "weighbridge convert DEMO PLAIN --to hf-bf16 --keep-scales", most=8),
         Example("", "weighbridge convert PLAIN AGAIN --to hf-fp8", most=8),
         Example("", "weighbridge verify DEMO AGAIN"),
         Example("What would it cost? Nothing is written:", "weighbridge convert DEMO --to neuron --attention exact --dry-run"),
         Example("Do it:", "weighbridge convert DEMO OUT --to neuron --attention exact"),
         Example("And back to the published layout:", "weighbridge convert OUT BACK --to hf-fp8", most=6)),
        'wb.open("MiniMax-M2").convert("M2-neuron", "neuron", attention="exact", tp=64)',
        "[what NxD Inference loads](../neuron.md), [verify](verify.md), [how a conversion runs](../architecture.md)"),
    "verify": Verb(
        "Decodes every stored weight of A and every copy of it in B, and compares. The bound of each weight follows from the encodings on its way, never from what a file says of itself; "
        "exit 3 when one is outside. Where a manifest says that this tool made one side of the other, the conversion is repeated in memory and must give the same bytes, so that "
        "a flipped bit shows which a rounding could have made. Numbers of ranks and padding are looked at, too; what was not compared is named. Weights in a form that is not read are "
        "compared byte for byte: equal bytes are equal, anything else is exit 2 with the reason.",
        (EXACT,
         Example("The proof:", "weighbridge verify DEMO OUT"),
         Example("One folder alone: are all its files as `convert` wrote them? Any flipped bit, cut or lost file is named, with exit 3:", "weighbridge verify OUT"),
         Example("The same for the published scripts' 448/240, which rounds nine codes in ten again:",
                 "weighbridge convert DEMO LEGACY --to neuron --attention exact --scale-rule legacy-448-240", most=7),
         Example("", "weighbridge verify DEMO LEGACY"),
         Example("And for the first notes' reciprocal, which has to be allowed by name:",
                 "weighbridge convert DEMO WRONG --to neuron --scale-rule reciprocal --allow reciprocal", most=4),
         Example("", "weighbridge verify DEMO WRONG", 3)),
        'assert wb.open("MiniMax-M2").verify("M2-neuron")["ok"]',
        "[convert](convert.md), [how a proof works](../architecture.md)"),
    "trace": Verb(
        "The plan of `convert` for one tensor, with the indices filled in: names, steps, the place in the destination, and eight values before and after.",
        (Example("An expert, halved:", f"weighbridge trace DEMO {EXPERT} --to neuron"),
         Example("Attention, requantized to one scale per row:", f"weighbridge trace DEMO {Q} --to neuron")),
        'wb.open("MiniMax-M2").trace("layers.0.self_attn.q_proj", "neuron")["steps"]',
        "[convert](convert.md)"),
    "run": Verb(
        "The forward pass over the stored bytes, decoded inside the matrix product. With `--max-memory` experts are read when they are chosen. stdout is the text; "
        "stderr says what is read and how fast it went.",
        (Example("From the FP8 bytes:", 'weighbridge run DEMO -p "And it came to pass" --max-tokens 24 --temperature 0'),
         EXACT,
         Example("The same words, from the converted bytes, read as the device reads them:",
                 'weighbridge run OUT -p "And it came to pass" --max-tokens 24 --temperature 0 --numerics neuron --tp 1'),
         Example("Without the conversion the device would have NaN:", 'weighbridge run DEMO -p "And it came to pass" --numerics neuron --tp 1', 2)),
        'for piece in wb.load("M2-neuron", max_memory=8_000_000_000).generate("The capital of France is"):\n    print(piece.text, end="")',
        "[bring-up](../bring-up.md), [compare](compare.md)"),
    "compare": Verb(
        "Feeds both sides the same tokens, compares the output and each stage of each layer, and names the first stage that is out of tolerance. Either side may be "
        "recorded activations. (Small errors depend on the order of additions: yours may differ in their last digits.)",
        (EXACT, Example("Where do they part? Nowhere:", 'weighbridge compare DEMO OUT --prompt "And it came to pass"'),
         Example("With the reciprocal:", "weighbridge convert DEMO WRONG --to neuron --scale-rule reciprocal --allow reciprocal", most=4),
         Example("", 'weighbridge compare DEMO WRONG --prompt "And it came to pass"', 3)),
        'wb.load("MiniMax-M2").capture([1, 2, 3])',
        "[bring-up](../bring-up.md), with a table of symptoms", loose=True),
    "explain": Verb(
        "A rule, a number format, a term, a reader's way of matching a skip list, or one real tensor worked by hand: every number of that comes from the file. "
        "`--html` makes a page of it, `-o FILE.svg` the picture alone.",
        (Example("A number format:", "weighbridge explain e4m3fn"),
         Example("A term:", "weighbridge explain weight_scale_inv"),
         Example("One tensor, worked by hand:", f"weighbridge explain DEMO {EXPERT}"),
         Example("A rule:", "weighbridge explain WB502"),
         Example("How each reader matches a skip list:", "weighbridge explain skip-list")),
        "", "[the guide to block FP8](../fp8/README.md), [all rules](../rules.md), [skip lists](../skip-lists.md)",
        pictures=(("e4m3fn.svg", "The picture of e4m3fn"), ("block.svg", "The picture of one tensor"))),
    "draw": Verb(
        "The architecture as a tree: axes, counts, encodings, parameters and bytes; layers that are alike are folded into one. `-o FILE` chooses the form by its ending "
        "(text, Markdown, SVG, HTML, JSON). With `--runtime` it shows what one rank holds, with `--to` the whole conversion.",
        (Example("The model:", "weighbridge draw DEMO"),
         Example("The conversion for Neuron:", "weighbridge draw DEMO --to neuron --attention exact")),
        'wb.open("MiniMax-M2").draw()', "[the guide to block FP8](../fp8/README.md), with a picture of MiniMax-M2",
        pictures=(("demo.svg", "The demo checkpoint, drawn"), ("demo-to-neuron.svg", "Its conversion for Neuron, drawn"))),
    "report": Verb(
        "One self-contained file: no network, opens by a double click. It holds what `inspect`, `check`, `verify` and `draw` know: a map of layers and modules, findings with "
        "their fixes, scale statistics, memory of a rank as you move TP and EP, and search over all tensors.",
        (Example("The checkpoint; the page is `report.html`:", "weighbridge report DEMO -o report.html"),
         Example("With what a reader would say, cut eight ways:", "weighbridge report DEMO --runtime vllm --tp 8 -o vllm.html"),
         Example("With the proof against a conversion:", "weighbridge convert DEMO OUT --to neuron --attention exact", most=2),
         Example("", "weighbridge report DEMO --against OUT -o proof.html")),
        "", "[check](check.md), [draw](draw.md)"),
    "demo": Verb("The whole walk over all verbs, on the checkpoint that comes with the package. Its output is [a page of its own](../demo.md).", (), "", "[the demo](../demo.md)"),
}

def present() -> list[str]:
    from weighbridge.cli import present as there

    return there()


def page(verb: str) -> str:
    """The page of one verb. Its commands run in order, in a folder of their own."""
    from weighbridge.cli import VERBS as SAYS

    told, function = VERBS[verb], getattr(import_module(f"weighbridge.cli.{verb}"), verb)
    parts = [f"{HEAD}# {verb}\n\n**{SAYS[verb]}**\n\n{told.says}\n", f"```sh\n{usage(verb, function)}\n```\n"]
    with Stage() as stage:
        for example in told.examples:
            parts.append((f"{example.says}\n\n" if example.says else "") + stage.fence(example.command, example.code, example.most) + "\n")
    parts += [f"![{words}](../fp8/{file})\n" for file, words in told.pictures]
    rows = flags(function)
    if rows:
        parts.append("## Arguments and flags\n\n| | values | what it says |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    if told.python:
        parts.append(f"## In Python\n\n```python\nimport weighbridge as wb\n\n{told.python}\n```\n")
    parts.append(f"See also: {told.see}.\n")
    return "\n".join(parts)


def index() -> str:
    """The list of verbs."""
    from weighbridge.cli import VERBS as SAYS

    rows = "\n".join(f"| [{verb}]({verb}.md) | {SAYS[verb]} |" for verb in present())
    return (f"{HEAD}# The verbs\n\nOne command, `weighbridge`. Each verb asks one question. `DEMO` on these pages is the checkpoint that comes with the package; "
            "your own takes its place: a folder, `org/name[@rev]`, `hf://…`, `https://…` or `s3://…`.\n\n"
            f"| verb | the question |\n| --- | --- |\n{rows}\n\n"
            "Exit codes: 0 clean; 1 findings (`check` at `--fail-on`, `convert --dry-run`); 2 usage, input or I/O; 3 `verify` or `compare` out of bound; "
            "101 internal error. `--format json` gives [documents](../schema.md) for scripts. The summary line of `convert` is shown without its times.\n")


def usage(verb: str, function: Any) -> str:
    """`weighbridge verify A B [flags]`."""
    words = ["weighbridge", verb]
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            words.append(name.upper() if parameter.default is parameter.empty else f"[{name.upper()}]")
    return " ".join([*words, "[flags]"])


def flags(function: Any) -> list[str]:
    """One row per argument and flag, from the signature and the docstring: what `--help` says, too."""
    from weighbridge.cli import SHORT

    hints, said, rows = get_type_hints(function, include_extras=True), parameters(function), []
    for name, parameter in inspect.signature(function).parameters.items():
        flag = parameter.kind is parameter.KEYWORD_ONLY
        shown = f"`--{name.strip('_').replace('_', '-')}`" + (f", `{SHORT[name]}`" if name in SHORT else "") if flag else f"`{name.upper()}`"
        default = parameter.default
        tail = f" (default: {default})" if flag and default not in (parameter.empty, None, 0, False) else ""
        rows.append(f"| {shown} | {values(hints[name]) if flag else ''}{tail} | {said.get(name, '').replace('|', chr(92) + '|')} |")
    return rows


def values(hint: Any) -> str:
    """The values that a flag takes, in words."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        return values(next(one for one in get_args(hint) if one is not type(None)))
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) is list:
        return f"{values(get_args(hint)[0])}, may be repeated"
    return {bool: "", int: "a number", float: "a number", Path: "a path"}.get(hint, "text")


def parameters(function: Any) -> dict[str, str]:
    """{name: text} of the section Parameters of a docstring."""
    body = inspect.getdoc(function).partition("Parameters\n----------\n")[2]
    found, name = {}, ""
    for line in body.splitlines():
        if re.match(r"^\w+$", line):
            name = line
        elif name and line.strip():
            found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return found


def pages() -> dict[str, str]:
    """{file below docs/: text} of all verbs that are here."""
    return {"verbs/index.md": index(), **{f"verbs/{verb}.md": page(verb) for verb in present()}}


def structure(text: str) -> str:
    """`text` without numbers, bars and rulers: what must be equal where the last digits may differ."""
    words = re.sub(r"[-+]?\d[\d.,]*(?:e[-+]\d+)?", "#", re.sub(r"[▏▎▍▌▋▊▉█]+|-{3,}", "", text))
    return "\n".join(" ".join(line.split()) for line in words.splitlines())
