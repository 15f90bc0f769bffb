"""SGLang: its configuration, construction, weight loaders and processing of weights, rank by rank, with stand-ins for hardware.

Read in SGLang 0.5.23: model_loader/loader.py (`DefaultModelLoader.load_model`), weight_cache/daemon.py (the order of its beginning), runtime_context.py.
"""

from __future__ import annotations

from typing import Any

from common import Probe

OPTIONAL = (".k_scale", ".v_scale")
probe = Probe()
request = probe.request
size = max(1, int(request.get("tp") or 1))
experts = size if request.get("expert_parallel") else 1

with probe.stage("import"):
    import headers
    import safetensors
    import stand_ins
    import torch

    more = stand_ins.torchvision()
    import recorder

    sources = recorder.Sources()

    class SglangOpened(headers.Mapped):
        """`safe_open`, with a note of each tensor that it gave."""

        def get_tensor(self, name: str) -> torch.Tensor:
            return sources.add(name, super().get_tensor(name))

    safetensors.safe_open = SglangOpened
    import sglang
    from sglang.srt import runtime_context
    from sglang.srt.configs.device_config import DeviceConfig
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.configs.model_config import ModelConfig
    from sglang.srt.model_loader import get_model_loader
    from sglang.srt.model_loader.loader import DefaultModelLoader
    from sglang.srt.server_args import ServerArgs

probe.write(version=sglang.__version__, stand_ins=[
    recorder.TEXT, "a device of compute capability 9.0, in the place of the CPU", "torch's fake process group, in the place of NCCL and gloo: one process is rank R of N",
    *more])
torch.cuda.get_device_capability = lambda device=None: (9, 0)
torch.accelerator.empty_cache = lambda: None


def one_process_for_many() -> None:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    new_group, begin = torch.distributed.new_group, torch.distributed.init_process_group
    torch.distributed.new_group = lambda ranks=None, *given, **named: new_group(ranks, backend="fake")
    torch.distributed.init_process_group = lambda *given, world_size=-1, rank=-1, **named: begin(
        backend="fake", store=FakeStore(), world_size=world_size, rank=rank)


with probe.stage("stand-ins", reader=False):
    one_process_for_many()

with probe.stage("configuration"):
    given: dict[str, Any] = {"model_path": probe.folder, "skip_tokenizer_init": True, "trust_remote_code": False, "device": "cpu", "tp_size": size,
                             "ep_size": experts, "load_format": "safetensors", "disable_cuda_graph": True}
    for ours, theirs in (("kv_cache_dtype", "kv_cache_dtype"), ("quantization", "quantization"), ("dtype", "dtype"), ("context", "context_length")):
        if request.get(ours):
            given[theirs] = request[ours]
    settings = ServerArgs(**given)
    model_config = ModelConfig.from_server_args(settings)


def load(rank: int) -> None:
    from sglang.srt.distributed.parallel_state import init_distributed_environment, initialize_model_parallel
    from sglang.srt.layers.dp_attention import initialize_dp_attention

    with probe.stage("ranks", reader=False):
        runtime_context.publish(settings, role="scheduler", ranks=runtime_context.SpawnRanks(world_rank=rank))
        init_distributed_environment(world_size=size, rank=rank, distributed_init_method="tcp://127.0.0.1:1", local_rank=0, backend="gloo")
        initialize_model_parallel()
        initialize_dp_attention(settings)
    inner = DefaultModelLoader.load_weights_only

    def load_weights(model: Any, weights: Any, device: Any) -> None:
        probe.write(stage="weights")
        note = recorder.Recorder(sources)
        with note:
            inner(model, weights, device)
        names, partly = recorder.unfilled(model, note, OPTIONAL)
        probe.write(unfilled=names, partly=partly, ignored=sources.ignored(elsewhere=experts > 2))
        probe.write(stage="processing")

    DefaultModelLoader.load_weights_only = staticmethod(load_weights)
    with probe.stage("construction"):
        loader = get_model_loader(LoadConfig(load_format="safetensors"), model_config)
        loader.load_model(model_config=model_config, device_config=DeviceConfig("cpu"))


probe.ranks(size, load)
