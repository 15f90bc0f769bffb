"""What `convert` writes is loaded by those who read it: the same weights bit for bit, and the logits that `run` has from the same files.

Weights are compared as the reader has them after loading; a reader that keeps BF16 is compared in BF16. Logits are compared in float32.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

import weighbridge as wb
from tests.engine.faults import DEMO
from tests.engine.families import VOCAB, all_logits, config_of, engine, gap, greedy, source, write_model
from tests.oracles import layout_readers as readers
from weighbridge.engine.weights import Weights
from weighbridge.layouts.rows import ROWS
from weighbridge.plan.reader import Reader
from weighbridge.testing.safetensors_writer import write_file

transformers.utils.logging.set_verbosity_error()
torch.set_num_threads(2)
IDS = np.random.default_rng(7).integers(3, VOCAB, 40)
TOLERANCE = 1e-4  # of the largest logit
SIZES = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
         "torch_dtype": "bfloat16"}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "rotary_dim": 32,
           "attn_type_list": [1, 1]}
LATENT = {"model_type": "deepseek_v3", "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "n_shared_experts": 1,
          "q_lora_rank": 128, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 64, "first_k_dense_replace": 1,
          "n_group": 2, "topk_group": 1, "num_key_value_heads": 4, "head_dim": 32}
RUN = ("llama", "qwen3", "qwen3_moe", "mixtral", "minimax_m2", "demo")  # what the engine runs
SMOLLM2 = os.environ.get("WEIGHBRIDGE_SMOLLM2")  # a folder that examples/smollm2.py wrote: real weights, if they are here
REAL = ("smollm2",) if SMOLLM2 else ()
RUN, MODELS = (*RUN, *REAL), (*RUN, *REAL, "deepseek_v3")
# Layouts whose rows have a method, but for the two that have tests of their own; `+zeros` is `--zero-points`.
LIBRARY = [name for name, row in ROWS.items() if row.family in readers.READERS and name != "modelopt-fp8"]
LIBRARY.insert(LIBRARY.index("ct-int4"), "ct-int4+zeros")
PLAIN = ("hf-bf16", "hf-f16", "hf-fp8")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Models and their conversions by name, each made once."""
    root = tmp_path_factory.mktemp("loads")

    @cache
    def made(model: str, layout: str = "") -> Path:
        if not layout:
            if model == "demo":
                return Path(DEMO)
            if model == "smollm2":
                return Path(SMOLLM2)
            config = config_of(model) | SIZES | EXPERTS if model in RUN else config_of("llama") | SIZES | LATENT
            return write_model(root / model, config)
        name, zeros, _ = layout.partition("+")
        options = {"zero_points": True} if zeros else {}
        if model == "smollm2" and "--group" in ROWS[name].options:
            options["group"] = 64  # 576 columns are 4.5 groups of 128
        if model == "smollm2" and "--block" in ROWS[name].options:
            options["block"] = (64, 64)
        if model == "demo" and name.endswith("mxfp8"):
            options["inexact"] = True  # its scales are no powers of two
        if model == "deepseek_v3" and name == "hf-fp8":
            options["block"] = (32, 32)  # 160 rows of kv_a: see test_transformers_decodes_short_blocks_wrong
        wb.open(made(model)).convert(root / f"{model}-{layout}", name, **options)
        return root / f"{model}-{layout}"

    return made


def decoded(folder: Path) -> readers.State:
    """Every weight as our codec decodes it, float32, under its published name."""
    bound = source(folder)
    weights, state = Weights(bound, Reader(bound)), {}
    for weight in bound.inventory.weights.values():
        value = weights.vector(weight.name) if weight.vector else weights.linear(weight.name).rows(np.arange(weight.shape[0]))
        state[weight.published] = torch.from_numpy(np.ascontiguousarray(value))
    return state


def loaded(folder: Path, **options):
    """The model as transformers loads it. Nothing may be missing, nothing left over."""
    model, said = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **options)
    assert not said["missing_keys"] and not said["unexpected_keys"] and not said["mismatched_keys"]
    return model.eval()


def from_state(folder: Path, state: readers.State, work: Path):
    """The model that transformers makes of plain values, in float32."""
    config = {k: v for k, v in json.loads((folder / "config.json").read_text()).items() if k != "quantization_config"}
    work.mkdir(parents=True)
    write_file(work / "model.safetensors", {n: ("F32", tuple(v.shape), v.float().contiguous().numpy().tobytes()) for n, v in state.items()})
    (work / "config.json").write_text(json.dumps(config))
    return loaded(work)


@torch.no_grad()
def logits(model, ids=IDS) -> np.ndarray:
    return model.float()(torch.tensor(np.asarray(ids))[None], use_cache=False).logits[0].numpy()


def require_same_run(folder: Path, model, tolerance: float = TOLERANCE, tokens: int = 8) -> None:
    """The engine's logits on the files, and some greedy tokens, are those of the reader's model."""
    ours = engine(folder)
    assert gap(all_logits(ours, IDS), logits(model)) < tolerance
    ids = list(map(int, IDS[:8]))
    for _ in range(tokens):
        ids.append(int(logits(model, ids)[-1].argmax()))
    assert greedy(ours, ids[:8], tokens) == ids[8:]


def require_same_parameters(model, other) -> None:
    """Bit for bit, in the dtype in which `model` has them."""
    theirs, ours = dict(model.named_parameters()), dict(other.named_parameters())
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert torch.equal(value, ours[name].to(value.dtype)), name


def library(folder: Path, wide: bool = False) -> readers.State:
    method = readers.claim(folder)["quant_method"]
    return readers.compressed_tensors(folder, wide) if method == "compressed-tensors" else readers.READERS[method](folder)


# The formats' own libraries

@pytest.mark.parametrize("layout", LIBRARY)
@pytest.mark.parametrize("model", MODELS)
def test_the_library_of_a_layout_reads_the_same_weights(model: str, layout: str, checkpoints) -> None:
    folder = checkpoints(model, layout)
    theirs, ours = library(folder), decoded(folder)
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        assert torch.equal(value.reshape(ours[name].shape), ours[name].to(value.dtype)), name
    if model == "llama":
        before = decoded(checkpoints(model))
        assert sum(not torch.equal(before[name], ours[name]) for name in ours) == 14, "seven matrices of each layer are quantized"


@pytest.mark.parametrize("layout", LIBRARY)
@pytest.mark.parametrize("model", ["llama", "qwen3_moe", "demo", *REAL])
def test_logits_are_those_of_the_weights_that_the_library_reads(model: str, layout: str, checkpoints, tmp_path) -> None:
    """compressed-tensors decodes NVFP4 in BF16, whatever it is given: there the logits are near, not equal."""
    folder = checkpoints(model, layout)
    theirs = from_state(folder, library(folder, wide=True), tmp_path / "plain")
    if layout == "ct-nvfp4":
        assert gap(all_logits(engine(folder), IDS), logits(theirs)) < 0.1
    else:
        require_same_run(folder, theirs, tokens=2 if model == "demo" else 8)


# transformers

def dequantized(folder: Path) -> dict:
    """What `from_pretrained` needs to load it as plain values on a CPU."""
    method = readers.claim(folder).get("quant_method")
    configs = {"fp8": transformers.FineGrainedFP8Config, "mxfp4": transformers.Mxfp4Config,
               "compressed-tensors": transformers.CompressedTensorsConfig}
    return {"quantization_config": configs[method](dequantize=True)} if method else {}


@pytest.mark.parametrize("layout", PLAIN)
@pytest.mark.parametrize("model", MODELS)
def test_transformers_loads_its_own_methods(model: str, layout: str, checkpoints, tmp_path) -> None:
    folder = checkpoints(model, layout)
    theirs = loaded(folder, **dequantized(folder))
    require_same_parameters(theirs, from_state(folder, decoded(folder), tmp_path / "plain"))
    if model in RUN:
        require_same_run(folder, theirs, tokens=2 if model == "demo" else 8)


def test_transformers_decodes_short_blocks_wrong(checkpoints, tmp_path) -> None:
    """WB409, and a condition of the row: it takes the block from the shapes, 160 rows over 2 for 80."""
    wb.open(checkpoints("deepseek_v3")).convert(tmp_path / "fp8", "hf-fp8")
    theirs, ours = dict(loaded(tmp_path / "fp8", **dequantized(tmp_path / "fp8")).named_parameters()), decoded(tmp_path / "fp8")
    wrong = {name for name, value in ours.items() if name in theirs and not torch.equal(theirs[name], value.reshape(theirs[name].shape))}
    assert wrong == {f"model.layers.{n}.self_attn.kv_a_proj_with_mqa.weight" for n in range(2)}
    assert "short last block" in ROWS["hf-fp8"].reader("transformers").condition


# Of stacks of experts transformers 5.24 multiplies FP8 by one scale or one for each row, and unpacks symmetric INT4 and MXFP4.
STACKED = ("ct-fp8-tensor", "ct-fp8-channel", "ct-int4", "ct-mxfp4")


@pytest.mark.parametrize("layout", [name for name in LIBRARY if name.startswith("ct-")])
@pytest.mark.parametrize("model", ["llama", "qwen3", "mixtral", "minimax_m2"])
def test_transformers_loads_compressed_tensors(model: str, layout: str, checkpoints, tmp_path) -> None:
    """Where its rows say that it does. It refuses the experts of the others, but for NVFP4's, whose global scale it passes over in silence."""
    folder = checkpoints(model, layout)
    experts, known = model in ("mixtral", "minimax_m2"), ROWS[layout.partition("+")[0]].reader("transformers")
    assert known.loads == "yes" and ("experts" in known.condition) == (layout not in STACKED or layout == "ct-int4")
    if experts and layout not in STACKED:
        if layout != "ct-nvfp4":
            with pytest.raises(RuntimeError, match="conversion"):
                loaded(folder, **dequantized(folder))
        else:
            assert gap(logits(loaded(folder, **dequantized(folder))), all_logits(engine(folder), IDS)) > 0.3
        return
    theirs = loaded(folder, **dequantized(folder))
    require_same_parameters(theirs, from_state(folder, library(folder), tmp_path / "plain"))


def test_transformers_loads_gpt_oss(tmp_path) -> None:
    """Its experts as they come from `hf-mxfp4` are those of `hf-bf16`, which holds every MXFP4 value."""
    sizes = {k: v for k, v in (config_of("llama") | SIZES | EXPERTS).items() if k not in ("model_type", "rope_theta", "torch_dtype")}
    config = AutoConfig.for_model("gpt_oss", **sizes)
    torch.manual_seed(5)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path / "plain")
    wb.open(tmp_path / "plain").convert(tmp_path / "mxfp4", "hf-mxfp4")
    wb.open(tmp_path / "mxfp4").convert(tmp_path / "again", "hf-bf16")
    theirs, ours = loaded(tmp_path / "mxfp4", **dequantized(tmp_path / "mxfp4")), loaded(tmp_path / "again")
    require_same_parameters(theirs, ours)
    assert not np.array_equal(logits(theirs), logits(loaded(tmp_path / "plain"))) and np.array_equal(logits(theirs), logits(ours))


# Scales of activations, and sources

def test_modelopt_reads_static_fp8(checkpoints, tmp_path) -> None:
    """`modelopt-fp8` takes the scales of the activations from a source that has them."""
    folder, static = checkpoints("llama", "ct-fp8-tensor"), tmp_path / "static"
    static.mkdir()
    config = json.loads((folder / "config.json").read_text())
    group = config["quantization_config"]["config_groups"]["group_0"]
    group["input_activations"] = group["input_activations"] | {"strategy": "tensor", "dynamic": False}
    (static / "config.json").write_text(json.dumps(config))
    state = readers.stored(folder)
    state |= {n.replace(".weight_scale", ".input_scale"): torch.full((1,), 0.25 + i / 64) for i, n in enumerate(state) if n.endswith(".weight_scale")}
    from safetensors.torch import save_file

    save_file(state, static / "model.safetensors")
    wb.open(static).convert(tmp_path / "out", "modelopt-fp8")
    theirs, ours = library(tmp_path / "out"), decoded(tmp_path / "out")
    assert theirs.keys() == ours.keys() and all(torch.equal(v, ours[n].to(v.dtype)) for n, v in theirs.items())
    out = readers.stored(tmp_path / "out")
    assert all(torch.equal(out[n].reshape(1), v) for n, v in state.items() if n.endswith(".input_scale"))
    require_same_run(tmp_path / "out", from_state(tmp_path / "out", theirs, tmp_path / "plain"))


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_bitsandbytes_is_read(kind: str, checkpoints, tmp_path) -> None:
    """transformers quantizes and saves with bitsandbytes; our BF16 of it is what bitsandbytes decodes."""
    pytest.importorskip("bitsandbytes")
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": kind, "bnb_4bit_compute_dtype": torch.float32}
    options = {"load_in_8bit": True} if kind == "int8" else four
    model = AutoModelForCausalLM.from_pretrained(checkpoints("llama"), dtype=torch.float32, device_map="cpu", attn_implementation="eager",
                                                 quantization_config=transformers.BitsAndBytesConfig(**options))
    model.save_pretrained(tmp_path / "bnb")
    plain = model.dequantize(dtype=torch.float32)
    theirs, ours = plain.state_dict(), decoded(tmp_path / "bnb")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.allclose(value.float().reshape(ours[name].shape), ours[name], rtol=2.0**-21, atol=0), name
    require_same_run(tmp_path / "bnb", plain)
    wb.open(tmp_path / "bnb").convert(tmp_path / "bf16", "hf-bf16")
    assert wb.open(tmp_path / "bnb").verify(tmp_path / "bf16")["ok"]
