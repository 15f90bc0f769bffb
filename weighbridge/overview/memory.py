"""What one rank holds at each TP and EP, for each reader, and what `check` finds at that cut."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from weighbridge.check import budget, cuts
from weighbridge.check.case import Case
from weighbridge.check.finding import SEVERITIES, Finding
from weighbridge.check.nxd_settings import effective
from weighbridge.check.rule import rules
from weighbridge.check.run import finding_document
from weighbridge.check.settings import MOST, Settings, Target

STOPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
RUNTIMES = ("vllm", "sglang", "neuron", "tensorrt-llm", "transformers")  # llama.cpp converts: its files are cut by other sizes
# Rules about degrees: of group 5 all but WB510, which is about flags that nobody reads, and those of NxD that divide something by a degree.
CUT = ("WB501", "WB502", "WB503", "WB504", "WB505", "WB506", "WB507", "WB508", "WB509", "WB708", "WB709", "WB710", "WB711", "WB712", "WB720", "WB723")
# GB of one rank, as NVIDIA's, AMD's and AWS's product pages state them. A chip of trn2 has 96 GB for its eight NeuronCores, two of which are one at LNC 2.
DEVICES = (("RTX 4090", 24), ("trn2, one NeuronCore at LNC 2", 24), ("L40S", 48), ("A100 / H100", 80), ("H200", 141), ("B200", 180), ("MI300X", 192))

Cached = dict[int, tuple[int, int, int]]


def memory(case: Case) -> dict[str, Any]:
    """The table for the readers that the case is judged against, or for all that run a model where it names none; `messages` are findings of `check`."""
    named = {target.runtime: target for target in case.targets}
    targets = [named.get(name, Target(name)) for name in RUNTIMES if name in named or not named]
    stops = sorted({*STOPS, *([case.settings.tp] if 0 < case.settings.tp else [])})
    probe = copy.copy(case)  # its settings move from cut to cut; what hangs on the files alone is known already
    messages: dict[str, tuple[int, dict[str, Any]]] = {}
    table: dict[str, Any] = {}
    for target in targets:
        cached: Cached = {}
        table[target.runtime] = {"rows": [_row(probe, target, settings, tp, ep, messages, cached) for tp in stops for ep, settings in _cuts(case, target, tp)]}
    asked = effective(case, targets[0]) if targets else case.settings
    start = budget.of_settings(asked, targets[0]) if targets and asked.tp else None
    return {"runtimes": [t.runtime for t in targets], "devices": [{"name": name, "bytes": size * 10**9} for name, size in DEVICES],
            "device_memory": case.settings.device_memory, "experts": case.sizes.experts, "table": table,
            "messages": [message for _, message in messages.values()], "tp": stops, "start": [start.tp, start.moe_ep] if start else None, "pipeline": case.settings.pp or 1,
            "context": asked.context or case.sizes.context, "batch": max(1, asked.batch)}


def _cuts(case: Case, target: Target, tp: int) -> Iterator[tuple[int, Settings]]:
    """(EP, settings) for each way in which this reader can deal experts out over `tp` ranks, said in its own words."""
    base = replace(case.settings, tp=tp, ep=0, dp=0, moe_tp=0, moe_ep=0, expert_parallel=False)
    for ep in range(1, tp + 1):
        if not _can_deal(case, target, tp, ep):
            continue
        if ep > 1 and target.runtime == "vllm":
            yield ep, replace(base, expert_parallel=True)
        elif case.sizes.experts and (target.runtime == "neuron" or (target.runtime == "tensorrt-llm" and ep > 1)):
            yield ep, replace(base, moe_tp=tp // ep, moe_ep=ep)
        else:
            yield ep, replace(base, ep=ep if ep > 1 else 0)


def _can_deal(case: Case, target: Target, tp: int, ep: int) -> bool:
    """vLLM deals experts out to all ranks or to none, transformers cuts them; the others take any divisor."""
    if ep == 1:
        return True
    return bool(case.sizes.experts) and target.runtime != "transformers" and (ep == tp if target.runtime == "vllm" else tp % ep == 0)


def _row(probe: Case, target: Target, settings: Settings, tp: int, ep: int, messages: dict[str, tuple[int, dict[str, Any]]], cached: Cached) -> list[Any]:
    """[tp, ep, attention, experts, rest, cache per token of layers that keep all, of those with a window, the window, numbers of messages]."""
    probe.settings = settings
    own = effective(probe, target)
    d = budget.of_settings(own, target)
    rank = budget.of_rank(probe, own, target, d)
    if d.attention not in cached:
        cached[d.attention] = _cache(probe, own, d)
    found = []
    for finding in _findings(probe, target):
        message = finding_document(finding)
        found.append(messages.setdefault(repr(message), (len(messages), message))[0])
    return [tp, ep, rank.attention, rank.experts, rank.rest, *cached[d.attention], found]


def _cache(case: Case, settings: Settings, d: cuts.Degrees) -> tuple[int, int, int]:
    """(bytes per token of layers that keep all tokens, of layers with a window, the window). The budget is linear between three of its values."""

    def of(tokens: int) -> int:
        return budget.cache_bytes(case, replace(settings, context=tokens, batch=1, pp=1), d)

    most = of(MOST)
    full = most - of(MOST - 1)
    windowed = of(1) - full
    return full, windowed, (most - full * MOST) // windowed if windowed else 0


def _findings(case: Case, target: Target) -> list[Finding]:
    """What the rules about degrees say at the case's settings, the worst first, as `check` orders them."""
    chosen = [loaded for code, loaded in rules().items() if code in CUT and target.runtime in loaded.rule.runtimes]
    found = [finding for loaded in chosen for finding in loaded.find(case, target)]
    return sorted(found, key=lambda f: (SEVERITIES.index(f.severity), f.code))
