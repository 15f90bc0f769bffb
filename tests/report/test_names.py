"""Names that want to steer whoever reads them: through every verb, every field of every document, and every form.

Two ways. A checkpoint whose folder, files, tensors, settings and lists are hostile goes through the command line; and each text of each document
that a verb made is replaced by a hostile one, one after the other, and rendered again.
"""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from weighbridge.cli import main
from weighbridge.report import sink
from weighbridge.report.check import machine
from weighbridge.report.compare import svg as compare_svg
from weighbridge.report.draw import flow_svg
from weighbridge.report.draw import html as draw_html
from weighbridge.report.draw import svg as draw_svg
from weighbridge.report.explain import tensor_text
from weighbridge.report.page.html import html as page_html
from weighbridge.testing.safetensors_writer import write_file
from weighbridge.testing.tiny import write_tiny

SIGNS = ("\x1b[31mR\x1b]0;t\x07\r\t\x7f\x9b5m\x85\u202e\u2066\u200b\u200f\ufeff\u2028\u2029\u00a0\u3164\U000e0041")
NAME = f"{SIGNS}\n::error::{SIGNS}##[error]x|`<b>y<!b>[l](z)**w** _v_ &lt;]]>``````\n# injected\n- i\n~~~\n<script>"
HOSTILE = NAME + "</b></script></title>\n::error file=a,line=1::p%0A"  # on a command line, and in a path, there is no NUL and no more than 255 bytes
TENSOR = HOSTILE + "\0"
FILE = (NAME.encode()[:180].decode(errors="ignore")).replace("/", "")
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
COLOUR = re.compile(r"\x1b\[[\d;]+m")
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
STARTS = ("``````", "::error::x", "- i", "1. i", "# h", "***", "<div>", "    x", "| x", "> x", "~~~")  # what a line may not begin with
Document = dict[str, Any]


def harmless(said: str, where: object = "") -> None:
    """No character that a terminal obeys or hides, no command for a CI runner."""
    found = {hex(ord(c)) for c in said if c != "\n" and unicodedata.category(c) in HIDDEN}
    assert not found, (where, found, said[:2000])
    assert not [line for line in said.split("\n") if line.lstrip().startswith("::") or "##[" in line], where


class Tags(HTMLParser):
    """The elements of a page that a browser would make."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, tuple(name for name, _ in attrs)))


def tags(page: str) -> set[tuple[str, tuple[str, ...]]]:
    reader = Tags()
    reader.feed(page)
    return set(reader.seen)


def shape(source: str) -> tuple[list[str], set[str]]:
    """Blocks of a Markdown source in their order, and the kinds of what is in their lines."""
    tokens = READER.parse(source)
    inner = {child.type for token in tokens for child in token.children or []}
    return [token.type for token in tokens], inner - {"text", "text_special", "softbreak"}


# Through the command line.


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MiniMax-M2 whose names are hostile where they may be free; one tensor too many, in a shard with a hostile name."""
    return planted(write_tiny(tmp_path_factory.mktemp("known") / (FILE + "\udcff"), **SMALL))


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = planted(write_tiny(tmp_path_factory.mktemp("unknown") / FILE, **SMALL), absent=True)
    change(folder / "config.json", {"model_type": TENSOR})
    return folder


SMALL = {"hidden": 128, "inter": 128, "heads": 2, "kv_heads": 2, "head_dim": 64, "experts": 2, "layers": 1, "vocab": 64}


def change(path: Path, keys: Document) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def planted(folder: Path, absent: bool = False) -> Path:
    shard = FILE + ".safetensors"
    write_file(folder / shard, {TENSOR: ("F32", (2, 2), bytes(16)), HOSTILE + ".weight": ("F8_E4M3", (4, 4), bytes(16))})
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"] |= {TENSOR: shard, HOSTILE + ".weight": shard} | ({"absent" + HOSTILE: "absent" + shard} if absent else {})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / ("note" + FILE + ".txt")).write_text("x")
    quantization = {"quant_method": "fp8", "fmt": HOSTILE, "activation_scheme": HOSTILE, "weight_block_size": [128, 128],
                    "modules_to_not_convert": ["lm_head", HOSTILE, "re:" + HOSTILE], "ignored_layers": [HOSTILE], "scale_fmt": HOSTILE}
    change(folder / "config.json", {"quantization_config": quantization, HOSTILE: HOSTILE, "hidden_act": HOSTILE, "architectures": [HOSTILE],
                                    "rope_scaling": {"type": HOSTILE, HOSTILE: 1}, "torch_dtype": HOSTILE})
    return folder


RUNTIMES = "transformers,vllm,sglang,neuron,tensorrt-llm,llama.cpp"
LINES: list[tuple[str, ...]] = [
    ("inspect", "SRC"), ("inspect", "SRC", "--tensors"), ("inspect", "SRC", "--tensors", HOSTILE),
    ("check", "SRC"), ("check", "SRC", "--runtime", RUNTIMES, "--tp", "2"), ("check", "SRC", "--", "vllm", "serve", HOSTILE, "--" + NAME, "-tp", "2"),
    ("convert", "SRC", "--to", "neuron", "--dry-run"), ("convert", "SRC", "--to", "hf-bf16", "--dry-run", "--allow", "surplus-tensor"),
    ("convert", "SRC", "OUT", "--to", "hf-bf16"), ("verify", "SRC", "SRC"), ("trace", "SRC", HOSTILE, "--to", "neuron"),
    ("explain", "SRC", HOSTILE + ".weight"), ("explain", "SRC", HOSTILE), ("explain", "SRC", "none" + HOSTILE), ("explain", HOSTILE),
    ("draw", "SRC"), ("draw", "SRC", "--runtime", "neuron", "--tp", "2"), ("draw", "SRC", "--to", "neuron"),
    ("run", "SRC", "-p", HOSTILE), ("compare", "SRC", "SRC", "--prompt", HOSTILE),
    ("report", "SRC", "-o", "-"), ("report", "SRC", "--runtime", RUNTIMES, "-o", "-"),
    # What the command line itself refuses.
    (HOSTILE,), ("inspect", HOSTILE), ("inspect", "SRC", "--" + HOSTILE), ("inspect", "SRC", HOSTILE), ("check", "SRC", "--tp", HOSTILE),
    ("check", "SRC", "--runtime", HOSTILE), ("check", "SRC", "--scales", HOSTILE), ("check", "SRC", "--config", NAME), ("check", "SRC", "--device-memory", HOSTILE),
    ("convert", "SRC", "--to", HOSTILE, "--dry-run"), ("convert", "SRC", "--to", "neuron", "--block", HOSTILE, "--dry-run"),
    ("inspect", "https://" + HOSTILE), ("inspect", HOSTILE + "://x"), ("inspect", "SRC", "-o", "OUT/none" + FILE + "/x"),
]


@pytest.mark.parametrize("debug", ["0", "1"])
@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line[:1]).encode("ascii", "ignore").decode()[:12])
def test_every_verb(line: tuple[str, ...], debug: str, known: Path, unknown: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes],
                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_DEBUG", debug)
    forms = {"report": ("html", "json"), "run": ("text", "json"), "check": ("text", "markdown", "json", "sarif", "github")}.get(
        line[0], ("text", "markdown", "json"))
    for folder in (known, unknown) if "SRC" in line else (known,):
        words = [str(folder) if word == "SRC" else word.replace("OUT", str(tmp_path)) for word in line]
        for form in forms if debug == "0" else forms[:1]:
            place = words.index("--") if "--" in words else len(words)
            code = main([*words[:place], "--format", form, *words[place:]])
            out, err = (data.decode() for data in capfdbinary.readouterr())
            assert code in (0, 1, 2, 3) and (out or err), (code, err)
            harmless(err)
            judged(form, out)


def judged(form: str, out: str) -> None:
    if form == "github" and out:
        lines = out.rstrip("\n").split("\n")
        assert all(re.fullmatch(r"::(error|warning|notice) file=[^:,]*,title=[^:,]*::.*", line) for line in lines if line), out
        out = "\n".join(line[2:] for line in lines)
    if out:
        harmless(out.replace("\u200d", "") if form == "html" else out)
    assert form not in ("text", "markdown") or "\n# injected" not in out
    if form in ("json", "sarif") and out:
        said = json.loads(out)
        assert form == "json" or said["version"] == "2.1.0"
    if form == "html":
        assert ("b", ()) not in tags(out.replace("<dd><b>", "").replace("</dt>", "")) or "<b>y" not in out


def test_json_holds_the_true_names(known: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["inspect", str(known), "--tensors", "--format", "json"]) == 0
    listed = json.loads(capfdbinary.readouterr().out)["list"]
    assert {TENSOR, HOSTILE + ".weight"} <= {row["name"] for row in listed}
    assert {row["file"] for row in listed} >= {FILE + ".safetensors"}
    assert main(["inspect", str(known), "--format", "json"]) == 0
    assert Path(json.loads(capfdbinary.readouterr().out)["source"]).name == known.name


# Through every field of every document.


class Made:
    """A document that a verb made, with what renders it for people, and the other forms of it."""

    def __init__(self, document: Document, text: Callable[[Document], str], markdown: Callable[[Document], str] | None) -> None:
        self.document, self.text, self.markdown = document, text, markdown

    def pictures(self) -> list[Callable[[Document], str]]:
        schema = self.document["schema"]
        if schema == "weighbridge.draw/1":
            return [flow_svg.svg if self.document["flow"] else draw_svg.svg, draw_html.html]
        return {"weighbridge.tensor/1": [tensor_text.svg, tensor_text.html], "weighbridge.report/1": [page_html],
                "weighbridge.compare/1": [compare_svg.svg]}.get(schema, [])


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """From runs on friendly folders, so that every part of a document is there."""
    base = tmp_path_factory.mktemp("documents")
    src = str(write_tiny(base / "good", **SMALL))
    bad = write_tiny(base / "bad", **SMALL, seed=1)
    change(bad / "config.json", {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
                                                         "modules_to_not_convert": ["lm_head", "self_attn"]}})
    demo = str(Path(sink.__file__).parents[1] / "demo" / "checkpoint")
    kept: dict[str, Made] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sink, "save_or_put", lambda body, output: None)
        emit = sink.emit
        name = ""

        def recorded(document: Document, text: Any, markdown: Any = None, *rest: Any, **more: Any) -> None:
            kept[name] = Made(json.loads(sink.to_json(document)), text, markdown)
            emit(document, text, markdown, *rest, **more)

        patch.setattr(sink, "emit", recorded)
        tensor = "model.layers.0.block_sparse_moe.experts.0.w1.weight"
        for name, words in {
            "inspect": ("inspect", str(bad)), "list": ("inspect", src, "--tensors"), "check": ("check", str(bad), "--runtime", RUNTIMES, "--tp", "3"),
            "plan": ("convert", src, "--to", "neuron", "--dry-run"), "refused": ("convert", src, "--to", "neuron", "--dry-run", "--tp", "64", "--shards"),
            "convert": ("convert", src, str(base / "out"), "--to", "neuron"),
            "verify": ("verify", src, str(base / "out")), "wrong": ("verify", src, str(bad)), "trace": ("trace", src, tensor, "--to", "neuron"),
            "tensor": ("explain", src, tensor), "draw": ("draw", src), "rank": ("draw", src, "--runtime", "neuron", "--tp", "2"),
            "flow": ("draw", src, "--to", "neuron"), "compare": ("compare", demo, demo, "--b-numerics", "neuron", "--ids", "1,2,3", "--layers", "2"),
        }.items():
            main(list(words))
        page = base / "report.json"
        patch.undo()
    main(["report", str(bad), "--runtime", RUNTIMES, "--against", src, "--format", "json", "-o", str(page)])
    report = json.loads(page.read_text())
    kept["report"] = Made(report, lambda d: "", None)
    return kept


NAMES = ("inspect", "list", "check", "plan", "refused", "convert", "verify", "wrong", "trace", "tensor", "draw", "rank", "flow", "compare", "report")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each text."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list | tuple):
        for key in range(len(value)):
            yield from places(value[key], (*path, key))


def chosen(document: Document, most: int) -> Iterator[tuple[Any, ...]]:
    """Of ways that differ only in the numbers of entries of lists the first `most`: entries are alike."""
    alike: Counter[tuple[Any, ...]] = Counter()
    for path in places(document):
        pattern = tuple("#" if isinstance(key, int) else key for key in path)
        alike[pattern] += 1
        if alike[pattern] <= most and path != ("schema",):
            yield path


def rendered(document: Document, made: Made, form: str, monkeypatch: pytest.MonkeyPatch) -> str:
    bodies: list[str] = []
    monkeypatch.setattr(sink, "save_or_put", lambda body, output: bodies.append(body))
    sink.emit(document, made.text, made.markdown, form)
    return bodies[0]


KNOWN_WORD = (KeyError, ValueError, StopIteration)  # a word of ours that is looked up: it cannot come from outside


@pytest.mark.parametrize("name", NAMES)
def test_every_field(name: str, documents: dict[str, Made], monkeypatch: pytest.MonkeyPatch) -> None:
    made = documents[name]
    paths = list(chosen(made.document, 2))
    bad = placed(made.document, paths, HOSTILE)
    body = rendered(bad, made, "json", monkeypatch)
    harmless(body)
    assert json.loads(body) == json.loads(json.dumps(bad)) | {"version": json.loads(body)["version"]}
    forms: list[Callable[[Document], str]] = [lambda d: rendered(d, made, "text", monkeypatch)]
    forms += [lambda d: rendered(d, made, "markdown", monkeypatch)] if made.markdown else []
    for place, form in enumerate((*(forms if name != "report" else []), *made.pictures())):
        lined = name != "report" and place < len(forms)
        for text in (HOSTILE, *STARTS) if lined else (HOSTILE,):
            shown, own = each(made.document, paths, form, text, lambda bad, good, where: compared(bad, good, where, lined, lined and place == 1))
        assert shown, "no text of this document is shown in this form"
        assert len(own) < len(paths) / 2, own


def each(document: Document, paths: list[tuple[Any, ...]], form: Callable[[Document], str], text: str,
         compare: Callable[[str, str, object], None]) -> tuple[int, list[tuple[Any, ...]]]:
    """Render with hostile texts in all `paths` at once; where one of them is a word of ours that is looked up, in both halves of them.

    Returns how many renderings showed them, and the places of words of ours.
    """
    try:
        bad, good = (form(placed(document, paths, text)) for text in (text, "plain words"))
    except KNOWN_WORD:
        if len(paths) == 1:
            return 0, paths
        halves = [each(document, half, form, text, compare) for half in (paths[: len(paths) // 2], paths[len(paths) // 2 :])]
        return sum(shown for shown, _ in halves), [path for _, own in halves for path in own]
    compare(bad, good, paths)
    return int(bad != good), []


def compared(bad: str, good: str, where: object, lined: bool, is_markdown: bool) -> None:
    assert not lined or "\n# injected" not in bad, where
    harmless(bad if lined else bad.replace("\u00a0", " "), where)
    if is_markdown:
        assert shape(bad)[0] == shape(good)[0], (where, bad)
        assert shape(bad)[1] <= shape(good)[1], (where, bad)
    if bad.startswith("<svg"):
        ElementTree.fromstring(bad)
    if not lined:
        assert tags(bad) <= tags(good), (where, tags(bad) - tags(good))


def placed(document: Document, paths: list[tuple[Any, ...]], text: str) -> Document:
    made = copy.deepcopy(document)
    for *way, last in paths:
        held: Any = made
        for key in way:
            held = held[key]
        held[last] = text
    return made


def test_check_for_machines(documents: dict[str, Made]) -> None:
    document = documents["check"].document
    pages = {f["code"]: ("name", "page") for f in document["findings"]} | {HOSTILE: ("name", "page")}
    for path in chosen(document, 3):
        bad = placed(document, [path], HOSTILE)
        try:
            judged("github", machine.github(bad))
            form = machine.sarif(bad, pages)
        except KNOWN_WORD:
            continue
        for result in form["runs"][0]["results"]:
            assert re.fullmatch(r"[\w./%~-]+", result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
            assert not re.search(r"\[[^\]]*\]\(", result["message"]["text"])
            harmless(result["message"]["text"].replace("##[", ""))


def test_colour_is_ours_alone(documents: dict[str, Made], monkeypatch: pytest.MonkeyPatch) -> None:
    """With colour on, a name adds no sequence: what is left of them is as many as without it."""
    from weighbridge.report.check import text as check_text
    from weighbridge.report.draw import text as draw_text

    bodies: list[str] = []
    monkeypatch.setattr(sink, "save_or_put", lambda body, output: bodies.append(body))
    for name, render in (("check", check_text.text), ("draw", draw_text.text)):
        document = documents[name].document
        for path in chosen(document, 2):
            try:
                for text in ("plain words", HOSTILE):
                    sink.emit(placed(document, [path], text), lambda d, render=render: render(d, True), colour=True)
            except KNOWN_WORD:
                continue
            friendly, body = bodies[-2:]
            assert COLOUR.findall(body) == COLOUR.findall(friendly) and COLOUR.findall(body)
            harmless(COLOUR.sub("", body))
