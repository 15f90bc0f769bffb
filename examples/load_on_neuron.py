"""Load a checkpoint that `weighbridge convert SRC DST --to neuron` wrote, on a Trainium2 instance, and let it generate.

    python examples/load_on_neuron.py DST --port PORT/src --compiled COMPILED --prompt "The capital of France is"

NOT RUN ON A DEVICE. Written against NxD Inference 2.29 and the contrib port of MiniMax-M2 (whose folder `src` is PORT/src), from their
source: `MoENeuronConfig` (models/config.py), `MiniMaxM2InferenceConfig` and `NeuronMiniMaxM2ForCausalLM` (modeling_minimax_m2.py).

Every setting comes from DST/neuron_config.json, which holds what this checkpoint needs. Change it there, and let
`weighbridge check DST --runtime neuron` look at it again before the hour of compiling.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder that convert wrote")
    parser.add_argument("--port", type=Path, required=True, help="folder with the port's modeling_minimax_m2.py")
    parser.add_argument("--compiled", type=Path, required=True, help="folder for the compiled model; used again when it is there")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--max-tokens", type=int, default=64)
    args = parser.parse_args()

    settings, environment = read_settings(args.checkpoint)
    # The library sets neither variable, and both are read when torch_neuronx is imported: so before the imports below.
    os.environ.update(environment)
    sys.path.insert(0, str(args.port))
    generate(args, settings)


def read_settings(checkpoint: Path) -> tuple[dict, dict[str, str]]:
    """Settings of MoENeuronConfig and environment variables, from the neuron_config.json of a converted checkpoint."""
    settings = json.loads((checkpoint / "neuron_config.json").read_text(encoding="utf-8"))
    environment = settings.pop("env")
    # The file says ".", the folder it lies in. NxDI reads this path instead of the model's (application_base.py).
    settings["quantized_checkpoints_path"] = str(checkpoint / settings["quantized_checkpoints_path"])
    return settings, environment


def generate(args: argparse.Namespace, settings: dict) -> None:
    import torch
    from modeling_minimax_m2 import MiniMaxM2InferenceConfig, NeuronMiniMaxM2ForCausalLM
    from neuronx_distributed_inference.models.config import MoENeuronConfig
    from neuronx_distributed_inference.utils.hf_adapter import HuggingFaceGenerationAdapter, load_pretrained_config
    from transformers import AutoTokenizer, GenerationConfig

    settings["torch_dtype"] = getattr(torch, settings["torch_dtype"])
    source = str(args.checkpoint)
    config = MiniMaxM2InferenceConfig(MoENeuronConfig(**settings), load_config=load_pretrained_config(source))
    model = NeuronMiniMaxM2ForCausalLM(source, config)
    if not (args.compiled / "model.pt").exists():
        model.compile(str(args.compiled))
    model.load(str(args.compiled))

    tokenizer = AutoTokenizer.from_pretrained(source, padding_side="right")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    # Token generation is compiled for this many sequences: with experts dealt out to ranks, a smaller batch is refused.
    inputs = tokenizer([args.prompt] * settings["batch_size"], return_tensors="pt", padding=True)
    greedy = GenerationConfig.from_pretrained(source, do_sample=False, max_new_tokens=args.max_tokens, pad_token_id=tokenizer.pad_token_id)
    output = HuggingFaceGenerationAdapter(model).generate(inputs.input_ids, attention_mask=inputs.attention_mask, generation_config=greedy)
    print(tokenizer.decode(output[0], skip_special_tokens=True))


if __name__ == "__main__":
    main()
