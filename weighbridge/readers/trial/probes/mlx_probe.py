"""mlx-lm: `load_model` with arrays that are never evaluated: its own names, classes, quantization of modules and strict comparison."""

from __future__ import annotations

import re
from pathlib import Path

from common import Probe

probe = Probe()
with probe.stage("import"):
    import mlx_lm
    from mlx_lm import utils

probe.write(version=str(getattr(mlx_lm, "__version__", "")), stand_ins=["arrays are lazy and never evaluated: names and shapes are looked at, values are not"])
with probe.stage("weights"):
    try:
        utils.load_model(Path(probe.folder), lazy=True, strict=True, trust_remote_code=False)
    except ValueError as error:
        # mlx.nn.Module.load_weights says both lists in its text: "Missing N parameters: \na,\nb." and "Received N parameters not in model: \na,\nb."
        text = str(error)
        for key, start in (("unfilled", r"Missing \d+ parameters:"), ("ignored", r"Received \d+ parameters not in model:")):
            found = re.search(start + r"\s*((?:[^\s,]+,\s*)*[^\s,]+)", text)
            if found:
                probe.answer[key] = [name.strip().rstrip(".") for name in found[1].split(",")]
        lines = text.splitlines()
        error.args = ("\n".join(lines[:4]) + (f"\n… ({len(lines):,} lines)" if len(lines) > 4 else ""),)
        raise
probe.finish()
