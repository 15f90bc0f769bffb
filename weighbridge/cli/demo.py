"""`weighbridge demo`: the whole walk on the trained checkpoint that comes with the package."""

from __future__ import annotations

import os
import shlex
import tempfile
from importlib.util import find_spec
from pathlib import Path

import weighbridge

CHECKPOINT = Path(weighbridge.__file__).parent / "demo" / "checkpoint"
SOURCE = "DEMO"  # a link to the checkpoint in the package
TENSOR = "layers.0.self_attn.q_proj"
PROMPT = "And it came to pass"
EXPERT = "layers.1.block_sparse_moe.experts.0.w1"


def demo(*, keep: Path | None = None) -> int:
    """All of it on a small trained MiniMax-M2: inspect, draw, check, convert, verify, trace, explain, run, compare, report, and what the wrong scales do.

    Pictures and the page stay only with --keep. Text needs `pip install 'weighbridge[run]'`; without it the walk has none.

    Parameters
    ----------
    keep
        Write the converted checkpoints, the pictures and the page into this folder and leave them there.
    """
    if keep is not None:
        from weighbridge.report.sink import talk
        from weighbridge.report.visible import visible

        keep.mkdir(parents=True, exist_ok=True)
        code = _inside(keep)
        if code == 0:
            talk(f"kept in {visible(str(keep))}: the checkpoints, the pictures demo.svg, demo-to-neuron.svg and block.svg, and the page report.html")
        return code
    with tempfile.TemporaryDirectory(prefix="weighbridge-demo-") as folder:
        return _inside(Path(folder))


def _inside(folder: Path) -> int:
    """Walk with `folder` as the current one, so that what is shown is what one would type there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        if not Path(SOURCE).exists():
            Path(SOURCE).symlink_to(CHECKPOINT)
        return _walk()
    finally:
        os.chdir(before)


def steps(src: str = SOURCE) -> list[tuple[str, list[str], int]]:
    """(what it asks, the command line that a user can type, its exit code). The pictures are those of the README and of docs/fp8."""
    walk = [
        ("What is in it?", ["inspect", src], 0),
        ("How is it built, and what is quantized in it?", ["draw", src], 0),
        ("The same as a picture.", ["draw", src, "-o", "demo.svg"], 0),
        ("Would AWS Neuron's loader take it as it is? (exit 1: no)", ["check", src, "--runtime", "neuron", "--select", "WB3,WB7"], 1),
        ("Would vLLM, cut eight ways? Its refusal, before the load.", ["check", src, "--runtime", "vllm", "--tp", "8", "--select", "WB5"], 1),
        ("What would the conversion for AWS Neuron cost?", ["convert", src, "--to", "neuron", "--dry-run"], 0),
        ("Convert, in the form that has been reported to run on a device.", ["convert", src, "neuron", "--to", "neuron"], 0),
        ("Would the loader take that?", ["check", "neuron", "--runtime", "neuron", "--select", "WB3,WB7", "--fail-on", "warning"], 0),
        ("The same weights? Attention was requantized, experts were not.", ["verify", src, "neuron"], 0),
        ("The other way to convert, without requantizing anything, in one picture.",
         ["draw", src, "--to", "neuron", "--attention", "exact", "-o", "demo-to-neuron.svg"], 0),
        ("Convert so.", ["convert", src, "neuron-exact", "--to", "neuron", "--attention", "exact"], 0),
        ("The same weights?", ["verify", src, "neuron-exact"], 0),
        ("To BF16 under the published names, and the proof.", ["convert", src, "bf16", "--to", "hf-bf16"], 0),
        ("The same weights?", ["verify", src, "bf16"], 0),
        ("The way of one tensor.", ["trace", src, TENSOR, "--to", "neuron"], 0),
        ("One block of it worked by hand, from its bytes, and as a picture.", ["explain", src, EXPERT], 0),
        ("", ["explain", src, EXPERT, "-o", "block.svg"], 0),
        ("One expert block, halved: equal values.", ["trace", src, EXPERT, "--to", "neuron"], 0),
        ("The same block under the published scripts' 448/240: rounded again.",
         ["trace", src, EXPERT, "--to", "neuron", "--scale-rule", "legacy-448-240"], 0),
        ("The same block under the first notes' reciprocal (refused without --allow): see the values.",
         ["trace", src, EXPERT, "--to", "neuron", "--scale-rule", "reciprocal", "--allow", "reciprocal"], 0),
        ("What verify says to a whole checkpoint made with the reciprocal (exit 3).",
         ["convert", src, "reciprocal", "--to", "neuron", "--scale-rule", "reciprocal", "--allow", "reciprocal"], 0),
        ("", ["verify", src, "reciprocal"], 3),
    ]
    if find_spec("tokenizers") is not None:
        walk += [
            ("Does it talk? From the FP8 bytes.", ["run", src, "-p", PROMPT, "--max-tokens", "40", "--temperature", "0"], 0),
            ("The same words from the exact conversion.", ["run", "neuron-exact", "-p", PROMPT, "--max-tokens", "40", "--temperature", "0"], 0),
            ("Where do two runs part? Not here: the exact conversion.", ["compare", src, "neuron-exact", "--prompt", PROMPT], 0),
            ("And with the reciprocal (exit 3).", ["compare", src, "reciprocal", "--prompt", PROMPT], 3),
        ]
    walk.append(("All that is known of it in one page: open it in a browser.",
                  ["report", src, "--runtime", "vllm,neuron", "--against", "neuron-exact", "-o", "report.html"], 0))
    return walk


def _walk() -> int:
    """The first step that fails ends the walk."""
    from weighbridge.cli import main
    from weighbridge.report import sink

    for says, command, expected in steps():
        shown = shlex.join(command)
        sink.put(f"\n{says}\n$ weighbridge {shown}\n\n" if says else f"\n$ weighbridge {shown}\n\n")
        code = main(command)
        if code != expected:
            sink.talk(f"the demo stopped: {shown} ended with {code}, {expected} was expected")
            return code or 1
    return 0
