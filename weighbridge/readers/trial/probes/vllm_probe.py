"""vLLM: its configuration, construction, weight loaders and processing of weights, rank by rank, with stand-ins for hardware.

Read in vLLM 0.32: model_executor/model_loader/base_loader.py (`load_model`), kernels/linear/__init__.py (tables of kernels),
layers/fused_moe/oracle/ (choice of a backend for experts).
"""

from __future__ import annotations

import sys
from typing import Any

from common import Probe

TEXTS = (
    "a device of compute capability {capability} that takes FP8, in the place of the CPU",
    "linear kernels say what they can do, and do nothing",
    "experts run on Triton or Marlin where these agree; no kernel is made",
    "torch's fake process group, in the place of NCCL: one process is rank R of N",
    "model classes are looked at in this process, in the place of a subprocess",
)
# Scales that the attention layer makes for every model and that a checkpoint need not have (layers/quantization/kv_cache.py).
OPTIONAL = (".k_scale", ".v_scale", ".q_scale", ".prob_scale", ".k_zero_point", ".v_zero_point")
CAPABILITIES = {"a100": (8, 0), "a10": (8, 6), "l4": (8, 9), "l40s": (8, 9), "h100": (9, 0), "h200": (9, 0), "b200": (10, 0), "gb200": (10, 0)}

probe = Probe()
request = probe.request
size = max(1, int(request.get("tp") or 1))
capability = CAPABILITIES.get(str(request.get("device") or "h100").partition("-")[0].lower(), (9, 0))

with probe.stage("import"):
    import headers
    import stand_ins
    import torch

    more = stand_ins.torchvision()
    import recorder
    import vllm
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model_loader, weight_utils
    from vllm.model_executor.models import registry
    from vllm.platforms import current_platform

probe.write(version=vllm.__version__.partition("+")[0], stand_ins=[recorder.TEXT, *(text.format(capability=".".join(map(str, capability))) for text in TEXTS), *more])


def everywhere(old: Any, new: Any) -> None:
    """Put `new` in the place of `old` under every name that vLLM's modules have for it."""
    for name, module in list(sys.modules.items()):
        if name.startswith("vllm.") and module is not None:
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)


def device() -> None:
    from vllm.platforms.interface import DeviceCapability

    platform = type(current_platform)
    answer = DeviceCapability(*capability)
    platform.get_device_capability = classmethod(lambda cls, device_id=0: answer)
    platform.has_device_capability = classmethod(lambda cls, wanted, device_id=0: answer.to_int() >= (wanted if isinstance(wanted, int) else wanted[0] * 10 + wanted[1]))
    platform.is_device_capability = classmethod(lambda cls, wanted, device_id=0: answer.to_int() == (wanted if isinstance(wanted, int) else wanted[0] * 10 + wanted[1]))
    platform.supports_fp8 = classmethod(lambda cls: answer.to_int() >= 89)
    platform.supported_quantization = []
    platform.get_device_communicator_cls = classmethod(
        lambda cls: "vllm.distributed.device_communicators.base_device_communicator.DeviceCommunicatorBase")


def linear_kernels() -> None:
    """In the CPU's place of each table: the CUDA kernels, whose `can_implement` is their own and that do nothing else."""
    from vllm.model_executor.kernels import linear
    from vllm.platforms.interface import PlatformEnum

    def null(kernel: Any) -> Any:
        def __init__(self: Any, config: Any = None, *rest: Any, **named: Any) -> None:
            self.config = config
            names = named.get("layer_param_names") or (rest[0] if rest else None)
            if names is not None:
                self.layer_param_names = names
            if len(rest) > 3:  # the mixed-precision ones have four names of parameters
                self.w_q_name, self.w_s_name, self.w_zp_name, self.w_gidx_name = rest[:4]

        def can_implement(cls: Any, *given: Any) -> tuple[bool, str | None]:
            try:
                return kernel.can_implement(*given)
            except Exception as error:  # noqa: BLE001 it asked for its own library
                return False, f"{type(error).__name__}: {error}"

        return type(kernel.__name__, (kernel,), {
            "__init__": __init__, "can_implement": classmethod(can_implement), "is_supported": classmethod(lambda cls, *given, **named: (True, None)),
            "process_weights_after_loading": lambda self, *given, **named: None, "__abstractmethods__": frozenset()})

    for name, table in vars(linear).items():
        if name.startswith("_POSSIBLE_") and isinstance(table, dict) and PlatformEnum.CUDA in table:
            table[PlatformEnum.CPU] = [null(kernel) for kernel in table[PlatformEnum.CUDA] if "Emulation" not in kernel.__name__]


def experts() -> None:
    """Triton's and Marlin's classes are of this device, the CPU's own are not; the kernel itself is not made."""
    import importlib
    import inspect
    import pkgutil

    from vllm.model_executor.layers import fused_moe
    from vllm.model_executor.layers.fused_moe import modular_kernel

    for place in ("experts.triton_moe", "experts.marlin_moe", "experts.cpu_moe"):
        module = importlib.import_module(f"vllm.model_executor.layers.fused_moe.{place}")
        for one in vars(module).values():
            if inspect.isclass(one) and issubclass(one, modular_kernel.FusedMoEExperts) and one.__module__ == module.__name__:
                there = not place.endswith("cpu_moe")
                one._supports_current_device = staticmethod(lambda there=there: there)
    oracle = importlib.import_module("vllm.model_executor.layers.fused_moe.oracle")
    for found in pkgutil.iter_modules(oracle.__path__):
        module = importlib.import_module(f"{oracle.__name__}.{found.name}")
        for name, value in list(vars(module).items()):
            if name.startswith("make_") and name.endswith("_kernel") and callable(value):
                everywhere(value, lambda *given, **named: None)
    assert fused_moe


def one_process_for_many() -> None:
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.distributed import parallel_state

    new_group = torch.distributed.new_group
    begin = torch.distributed.init_process_group

    def group(ranks: Any = None, *given: Any, **named: Any) -> Any:
        return new_group(ranks, backend="fake")

    torch.distributed.new_group = group
    torch.distributed.init_process_group = lambda *given, world_size=-1, rank=-1, **named: begin(
        backend="fake", store=FakeStore(), world_size=world_size, rank=rank)
    parallel_state.in_the_same_node_as = lambda pg, source_rank=0: [True] * torch.distributed.get_world_size(pg)
    parallel_state._node_count = lambda pg: 1
    from vllm.distributed.device_communicators import shm_broadcast

    shm_broadcast.MessageQueue.create_from_process_group = staticmethod(lambda *given, **named: None)


class VllmOpened(headers.Mapped):
    """`safe_open`, with a note of each tensor that it gave."""

    def get_tensor(self, name: str) -> torch.Tensor:
        return sources.add(name, super().get_tensor(name))


sources = recorder.Sources()
weight_utils.safe_open = VllmOpened
registry._run_in_subprocess = lambda look: look()
torch.accelerator.empty_cache = lambda: None
with probe.stage("stand-ins", reader=False):
    device()
    linear_kernels()
    experts()
    one_process_for_many()

with probe.stage("configuration"):
    given: dict[str, Any] = {"model": probe.folder, "skip_tokenizer_init": True, "trust_remote_code": False, "enforce_eager": True, "tensor_parallel_size": size,
                             "load_format": "safetensors", "enable_expert_parallel": bool(request.get("expert_parallel")),
                             "distributed_executor_backend": "external_launcher" if size > 1 else "uni"}
    for ours, theirs in (("kv_cache_dtype", "kv_cache_dtype"), ("quantization", "quantization"), ("dtype", "dtype"), ("context", "max_model_len")):
        if request.get(ours):
            given[theirs] = request[ours]
    settings = EngineArgs(**given).create_engine_config()


def load(rank: int) -> None:
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment

    with set_current_vllm_config(settings):
        with probe.stage("ranks", reader=False):
            init_distributed_environment(size, rank, "tcp://127.0.0.1:1", 0, "fake")
            ensure_model_parallel_initialized(size, 1)
        loader = get_model_loader(settings.load_config)
        inner = loader.load_weights

        def load_weights(model: Any, config: Any) -> None:
            probe.write(stage="weights")
            note = recorder.Recorder(sources)
            with note:
                inner(model, config)
            names, partly = recorder.unfilled(model, note, OPTIONAL)
            probe.write(unfilled=names, partly=partly, ignored=sources.ignored(elsewhere=given["enable_expert_parallel"] and size > 2))
            probe.write(stage="processing")

        loader.load_weights = load_weights
        with probe.stage("construction"):
            loader.load_model(vllm_config=settings, model_config=settings.model_config)


probe.ranks(size, load)
