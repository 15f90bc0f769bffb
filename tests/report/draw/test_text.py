"""The tree as text and Markdown: aligned, narrow enough, and safe whatever the names are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.drawing.walk import drawn
from tests.failures.tools import build, llama, m2
from tests.inspection import tables
from weighbridge.api import Model
from weighbridge.report.draw import text as draw_text
from weighbridge.report.draw.markdown import escaped, label, markdown, mermaid
from weighbridge.testing.replica import write_replica
from weighbridge.testing.tiny import EVEN, write_tiny

HOSTILE = ['"]; click n1 "javascript:alert(1)"', "</script><img src=x onerror=alert(1)>", "a|b", "`code`", "\x1b[31mred", "x\n```\n# title", "end", "[link](https://x)",
           "#quot;", "\u202egnp.exe", "*bold*"]


@pytest.fixture(scope="module")
def m2_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return draw_text.text(drawn(write_replica(tmp_path_factory.mktemp("m2") / "r", scales="zero")))


def test_m2_as_a_reader_sees_it(m2_text: str) -> None:
    lines = m2_text.split("\n")
    assert max(map(len, lines)) <= 120 and "\x1b" not in m2_text and m2_text == "\n".join(line.rstrip() for line in lines)
    for line in ("├─ layers 0-61                                                                                  62  227.46 B  227.66 GB",
                 "│  │  ├─ q_proj                   6144 heads*head_dim x 3072 hidden     F8_E4M3 128x128 F32           1.17 B    1.17 GB",
                 "│     └─ experts 0-255                                                  F8_E4M3 128x128 F32    256  224.68 B  224.74 GB",
                 "└─ lm_head                        200064 vocab x 3072 hidden            BF16                        614.60 M    1.23 GB",
                 "total      228,689,764,864 parameters in 230,121,630,720 bytes (230.12 GB)",
                 "per token  10,415,959,552 parameters (4.55 %), 11.18 GB of weights: 8 of 256 experts, one row of the embedding",
                 "cache      253,952 bytes per token (126,976 values in BF16)",
                 "           49.93 GB for one sequence of 196,608 tokens, the longest that the config names"):
        assert line in lines, line
    assert sum(line.startswith(("├", "│", "└")) for line in lines) == 20  # one line for each part, 96,103 tensors


@pytest.mark.parametrize("model", sorted(tables.TABLES))
def test_every_model_fits_120_columns(model: str, tmp_path: Path) -> None:
    document = drawn(tables.write(model, tmp_path / "c", experts=2))
    lines = draw_text.text(document).split("\n")[1:]  # the first has the folder's name
    assert max(map(len, lines)) <= 120, max(lines, key=len)
    assert markdown(document)


def test_columns_stand_below_their_heads(m2_text: str) -> None:
    head, rule, *rows = m2_text.split("\n\n")[1].split("\n")
    ends = [match.end() for match in re.finditer("-+", rule)]
    for row in rows:
        assert all(row[end : end + 2].strip() == "" for end in ends), row
    assert len(ends) == 6 and head.endswith("bytes")


def test_colours_paint_encodings_alone(tmp_path: Path) -> None:
    document = drawn(build(tmp_path / "m", *m2()))
    plain, painted = draw_text.text(document), draw_text.text(document, colour=True)
    assert re.sub(r"\x1b\[\d+m", "", painted) == plain and plain != painted
    assert "\x1b[94mF8_E4M3 128x128 F32\x1b[0m" in painted and "\x1b[33mBF16\x1b[0m" in painted


def test_a_rank_in_words(tmp_path: Path) -> None:
    folder = write_replica(tmp_path / "r", scales="zero")
    text = draw_text.text(drawn(folder, "neuron", tp=64, moe_ep=64))
    assert max(map(len, text.split("\n"))) <= 120
    assert re.search(r"q_proj +128 x 3072 +48 heads padded to 64, cut 64 ways +F8_E4M3", text)
    assert re.search(r"^faults +none: every part can be cut so$", text, re.MULTILINE)
    assert "1.67 % of the files" in text and "weighbridge check" in text
    told = draw_text.text(drawn(folder, "vllm", tp=8))
    assert told.count("\nfault ") == 3 and "block_n = 128" in told
    assert "| `w1` |" in markdown(drawn(folder, "vllm", tp=8)).replace("&emsp;", "")


def test_problems_are_marked_and_told(tmp_path: Path) -> None:
    tensors, config = m2(layers=2)
    tensors["model.layers.1.self_attn.q_proj.weight_scale_inv"] = ("F32", (3, 3))
    text = draw_text.text(drawn(build(tmp_path / "m", tensors, config)))
    assert "q_proj ! " in text and "!  model.layers.1.self_attn.q_proj: weight_scale_inv is [3, 3]" in text
    assert text.count(" ! ") == 1


def test_a_conversion_is_a_table_of_bands(tmp_path: Path) -> None:
    document = Model(write_tiny(tmp_path / "src", **EVEN)).draw(to="neuron")
    text = draw_text.text(document)
    assert max(map(len, text.split("\n")[1:])) <= 120
    assert re.search(r"experts\.gate F8_E4M3 128x128 F32 +halve +mlp_op\.gate_up_proj F8_E4M3 128x128 F32 +16 +\S+ MB +lossy, turned", text)
    assert re.search(r"^halve +codes halved", text, re.MULTILINE)
    assert "| from | step | to | tensors | bytes |" in markdown(document)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    tensors, config = llama(layers=1)
    for number, name in enumerate(HOSTILE):
        tensors[f"{name}.{name}.weight"] = ("BF16", (4, number + 1))
    document = drawn(build(tmp_path / "m", tensors, {**config, "model_type": HOSTILE[0]}))
    text, page = draw_text.text(document), markdown(document)
    assert {c for c in text if not c.isprintable()} == {"\n"}
    assert {c for c in page if not c.isprintable()} == {"\n"}
    chart = re.search(r"```mermaid\n(.*?)\n```", page, re.DOTALL)
    assert chart
    for line in chart[1].split("\n")[1:]:
        assert re.fullmatch(r'\s*(subgraph n\d+\["[^"\[\]{}<>|`\\]*(<br/>[^"\[\]{}<>|`\\]*)*"\]|n\d+\["[^"\[\]{}<>|`\\]*(<br/>[^"\[\]{}<>|`\\]*)*"\](:::\w+)?'
                            r"|n\d+ --> n\d+|end|direction LR|classDef \w+ fill:#\w+,stroke:#\w+,color:#\w+)", line), line
    rest = page.replace(chart[0], "")
    assert "<" not in re.sub(r"`[^`\n]*`", "", rest) and "```" not in rest
    table = [line for line in rest.split("\n") if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {7}
    assert len([line for line in page.split("\n") if line.startswith("#")]) == 1


def test_labels_and_escapes() -> None:
    assert label('a"b', "", "c<d>") == "a#34;b<br/>c#60;d#62;"
    assert label("heads*head_dim x 3072, FP8 (E4M3)") == "heads#42;head_dim x 3072, FP8 (E4M3)"
    assert escaped("a*b_c <d> `e` [f](g) #h") == "a\\*b_c &lt;d&gt; \\`e\\` \\[f\\](g) \\#h"


def test_the_chart_goes_through_the_model(tmp_path: Path) -> None:
    chart = mermaid(drawn(tables.write("deepseek-r1", tmp_path / "c", experts=2)))
    ids = dict(re.findall(r'(n\d+)\["([^"<]*?)(?: \([\d.]+ .*?)?[<"]', chart))
    edges = {(ids[a], ids[b]) for a, b in re.findall(r"(n\d+) --> (n\d+)", chart)}
    assert {("embed_tokens", "layers 0-2"), ("layers 0-2", "layers 3-60"), ("layers 3-60", "norm"), ("norm", "lm_head"), ("layers 3-60", "layer 61 (draft)"),
            ("gate", "experts 0-1"), ("post_attention_layernorm", "shared_experts")} <= edges
    assert ("layer 61 (draft)", "norm") not in edges
    assert chart.count("subgraph") == chart.count("\n  end") == 3
    towers = mermaid(drawn(tables.write("mimo-v2.5", tmp_path / "m", experts=2)))
    ids = dict(re.findall(r'(n\d+)\["([^"<]*?)(?: \([\d.]+ .*?)?[<"]', towers))
    edges = {(ids[a], ids[b]) for a, b in re.findall(r"(n\d+) --> (n\d+)", towers)}
    assert {("visual", "layer 0"), ("embed_tokens", "layer 0"), ("audio_encoder", "layer 0")} <= edges and ("embed_tokens", "visual") not in edges


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (1000, "1.00 k"), (999_994, "999.99 k"), (999_996, "1.00 M"), (228_689_764_864, "228.69 B"),
                                              (10**15, "1000.00 T")])
def test_many(number: int, text: str) -> None:
    assert draw_text.many(number) == text


@pytest.mark.parametrize(("name", "shown"), [("0-61", "0-61"), ("1-4,6-10,12-16,18-22,24-28", "1-4,6-10,12-16,…"), ("", '""'), ("a\nb", "a\\nb"), ("x" * 80, "x" * 60 + "…")])
def test_short_names(name: str, shown: str) -> None:
    assert draw_text.short_name(name) == shown
