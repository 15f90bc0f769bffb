"""Which modules transformers builds in FP8 under a skip list: its own quantizer against the view of `check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer  # noqa: E402

from tests.failures.tools import build, deepseek, llama, m2, qwen3_moe  # noqa: E402
from weighbridge.check.case import Case  # noqa: E402
from weighbridge.check.run import targets  # noqa: E402
from weighbridge.check.views import view_of
from weighbridge.checkpoint.source import open_checkpoint  # noqa: E402

LISTS = (None, [], ["lm_head"], ["gate", "lm_head"], ["model.layers.0.self_attn.o_proj", "mlp.experts"], ["block_sparse_moe"], ["model.layers.1"],
         ["model.layers.0.block_sparse_moe.experts", "lm_head"], ["self_attn"], ["_proj"])


@pytest.mark.parametrize("skip", LISTS, ids=str)
@pytest.mark.parametrize("make", [m2, llama, qwen3_moe, deepseek], ids=lambda make: make.__name__)
def test_the_view_is_what_the_quantizer_builds(make: Callable, skip: list[str] | None, tmp_path: Path) -> None:
    tensors, config = make()
    claim = {key: value for key, value in config["quantization_config"].items() if key != "modules_to_not_convert"}
    if skip is not None:
        claim["modules_to_not_convert"] = skip
    folder = build(tmp_path / "m", tensors, {**config, "quantization_config": claim})
    case = Case(open_checkpoint(folder), targets(["transformers"]), scale_bytes="none")
    ours = {built.path for built in view_of(case, case.targets[0]).candidates if not built.skipped}

    settings = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(settings, "quantization_config"):
        del settings.quantization_config
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(settings)
    quantization = transformers.FineGrainedFP8Config(**{key: value for key, value in claim.items() if key != "quant_method"})
    FineGrainedFP8HfQuantizer(quantization, pre_quantized=True)._process_model_before_weight_loading(model)
    assert ours == {name for name, module in model.named_modules() if type(module).__name__.startswith("FP8")}
