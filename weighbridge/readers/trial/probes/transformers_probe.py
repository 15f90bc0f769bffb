"""transformers: `from_pretrained` on torch's meta device, by the headers alone: missing, unexpected and mismatched keys are its own."""

from __future__ import annotations

from typing import Any

from common import Probe

probe = Probe()
with probe.stage("import"):
    import headers
    import stand_ins
    import torch
    import transformers

    without_vision = stand_ins.torchvision()
    from transformers import modeling_utils

probe.write(version=transformers.__version__, stand_ins=[headers.TEXT, *without_vision])
transformers.utils.logging.set_verbosity_error()
modeling_utils.safe_open = headers.safe_open
_report = modeling_utils.log_state_dict_report


def _note(*arguments: Any, **named: Any) -> Any:
    """The report of a load, kept: its exception says no more than that there is one."""
    info = named["loading_info"]
    errors = {str(key): str(value) for key, value in (getattr(info, "conversion_errors", None) or {}).items()}
    sizes = [str(one) for one in sorted(info.mismatched_keys, key=str)]
    probe.write(unfilled=sorted(map(str, info.missing_keys)), ignored=sorted(map(str, info.unexpected_keys)))
    try:
        return _report(*arguments, **named)
    except Exception as error:
        told = [f"{key}: {' '.join(value.split())[-400:]}" for key, value in errors.items()] + [f"sizes differ: {text}" for text in sizes]
        if told:
            more = f" (and {len(told) - 5} more)" if len(told) > 5 else ""
            raise RuntimeError(f"{error} {'; '.join(told[:5])}{more}") from error
        raise


modeling_utils.log_state_dict_report = _note

with probe.stage("configuration"):
    config = transformers.AutoConfig.from_pretrained(probe.folder, trust_remote_code=False, local_files_only=True)

with probe.stage("construction"):
    # The class that the config names where it is one for this config; else what the auto classes take for it.
    named = [getattr(transformers, name, None) for name in (config.architectures or []) if isinstance(name, str)]
    fitting = [one for one in named if isinstance(one, type) and issubclass(one, transformers.PreTrainedModel) and one.config_class is type(config)]
    autos = [transformers.AutoModelForCausalLM, transformers.AutoModelForImageTextToText]
    chosen = next((one for one in autos if type(config) in one._model_mapping), autos[0])
    chosen = fitting[0] if fitting else chosen

with probe.stage("weights"), torch.no_grad():
    chosen.from_pretrained(probe.folder, config=config, trust_remote_code=False, local_files_only=True, use_safetensors=True, dtype="auto",
                           device_map={"": "meta"})
probe.finish()
