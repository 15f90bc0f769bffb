"""Makes docs/fp8/: the guide in two languages and its pictures. `python docs/make_site.py` calls it; tests hold that pages and pictures are what the tool says now.

The text is in README.in and README.zh.in. `{{name}}` is a number of guide_numbers.py, `{{$ weighbridge …}}` a command on the demo checkpoint with its output
(`{{$1 …}}`: with exit code 1), `{{skip}}` the table of skip lists. No other number stands in the text: a test holds that, too.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import guide_numbers
from shown import Stage

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "fp8"
PAGES = {"fp8/README.md": "README.in", "fp8/README.zh.md": "README.zh.in"}
HEAD = "<!-- Made by docs/make_site.py from {source}: every number is computed. -->\n\n"
PLACE = re.compile(r"\{\{(\$\d? )?([^{}]+)\}\}")

# File of docs/fp8/ -> the command that draws it (`MiniMax-M2` is a full-size replica of MiniMax-M2 without weights).
PICTURES = {
    "e4m3fn.svg": "weighbridge explain e4m3fn",
    "block-quantization.svg": "weighbridge explain block-quantization",
    "240-vs-448.svg": "weighbridge explain 240-vs-448",
    "weight_scale_inv.svg": "weighbridge explain weight_scale_inv",
    "block.svg": f"weighbridge explain DEMO {guide_numbers.EXPERT}",
    "demo.svg": "weighbridge draw DEMO",
    "demo-to-neuron.svg": "weighbridge draw DEMO --to neuron --attention exact",
    "m2.svg": "weighbridge draw MiniMax-M2",
}

# Modules of layer 0 as the published files name them, and (last) the experts as NxD Inference does.
MODULES = {"router": "model.layers.0.block_sparse_moe.gate", "experts": "model.layers.0.block_sparse_moe.experts.0.w1", "attention": "model.layers.0.self_attn.q_proj",
           "lm_head": "lm_head"}
NEURON = {**MODULES, "experts": "layers.0.block_sparse_moe.expert_mlps.mlp_op.gate_up_proj", "attention": "layers.0.self_attn.qkv_proj.q_proj"}
ENTRIES, READERS = ("gate", "self_attn", "lm_head"), ("transformers", "vllm-fp8", "sglang", "neuron")


@contextmanager
def replica() -> Iterator[Path]:
    """A full-size MiniMax-M2: all names, shapes and dtypes, no weights, no scales."""
    from weighbridge.testing.replica import write_replica

    with tempfile.TemporaryDirectory(prefix="weighbridge-m2-") as folder:
        yield write_replica(Path(folder) / "M2", scales="zero")


@cache
def computed() -> dict[str, str]:
    """All numbers, once for a process."""
    with replica() as folder:
        return guide_numbers.numbers(folder)


def pages() -> dict[str, str]:
    """{file below docs/: text} of both languages."""
    with Stage() as stage:
        return {name: HEAD.format(source=source) + _filled((FOLDER / source).read_text(encoding="utf-8"), stage) for name, source in PAGES.items()}


def _filled(template: str, stage: Stage) -> str:
    """The text with every place filled. Raises KeyError for a number that is not computed."""
    def fill(match: re.Match[str]) -> str:
        if match[1]:
            return stage.fence(match[2], int(match[1].strip("$ ") or 0))
        return skip_table() if match[2] == "skip" else computed()[match[2]]

    return PLACE.sub(fill, template)


def skip_table() -> str:
    """What each entry names in each reader, of MiniMax-M2's modules."""
    from weighbridge.runtimes.skip import resolve

    def cell(entry: str, reader: str) -> str:
        named = NEURON if reader == "neuron" else MODULES
        hit = resolve([entry], named.values(), reader).matched.get(entry, ())
        return ", ".join(word for word, path in named.items() if path in hit) or "-"

    rows = [f"| `{entry}` | " + " | ".join(cell(entry, reader) for reader in READERS) + " |" for entry in ENTRIES]
    return "\n".join(["| | " + " | ".join(READERS) + " |", "| --- " * (len(READERS) + 1) + "|", *rows])


def pictures() -> dict[str, str]:
    """{file below docs/: SVG} of all pictures, drawn now."""
    drawn = {}
    with replica() as m2, Stage() as stage:
        Path("MiniMax-M2").symlink_to(m2)
        for name, command in PICTURES.items():
            stage.run(f"{command} -o {name}")
            drawn[f"fp8/{name}"] = Path(name).read_text(encoding="utf-8")
    return drawn
