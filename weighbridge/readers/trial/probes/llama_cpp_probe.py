"""llama.cpp's converter: its own reading of config and files, and its way of every tensor to a GGUF name and type, with lazy tensors.

Read in llama.cpp's convert_hf_to_gguf.py and conversion/base.py as llama-cpp-python 0.3.36 ships them. The vocabulary and the file are not written.
"""

from __future__ import annotations

from pathlib import Path

from common import Probe, ReaderRefusal

probe = Probe()
with probe.stage("import"):
    import convert_hf_to_gguf  # noqa: F401 it puts gguf-py beside it on the path
    import gguf
    import torch
    from conversion import ModelType, get_model_class
    from conversion.base import ModelBase, get_model_architecture

probe.write(stand_ins=["tensors are lazy: names, shapes and types are looked at, values are not", "the vocabulary is not written"])
with torch.inference_mode():
    with probe.stage("configuration"):
        settings = ModelBase.load_hparams(Path(probe.folder), False)
        architecture = get_model_architecture(settings, ModelType.TEXT)
    with probe.stage("construction"):
        try:
            chosen = get_model_class(architecture, mmproj=False)
        except NotImplementedError as error:  # its word for "this converter has no such model"
            raise ReaderRefusal(f"Model {architecture} is not supported ({error})") from error
        model = chosen(Path(probe.folder), gguf.LlamaFileType.MOSTLY_BF16, Path("out.gguf"), dry_run=True)
    with probe.stage("weights"):
        model.prepare_tensors()
probe.finish()
