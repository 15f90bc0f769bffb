"""What a rank gets of each part under tensor and expert parallelism, from headers alone: which degrees keep whole blocks, groups and heads.

Read in vLLM main, model_executor/layers/quantization/{utils/fp8_utils,fp8}.py and layers/linear.py; SGLang, srt/layers/quantization/fp8.py (the
same checks, texts alike); TensorRT-LLM, mapping.py and NVIDIA/TensorRT-LLM#14613.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from weighbridge.check.case import Case, per_case
from weighbridge.check.fold import folded
from weighbridge.check.settings import Settings, Target
from weighbridge.check.sizes import ModelSizes
from weighbridge.inspection.survey import Pair

LARGEST = 64  # degrees that are tried
READERS = ("vllm", "sglang", "tensorrt-llm")

GATE_UP = "The output_size of gate's and up's weight = {size} is not divisible by weight quantization block_n = {unit}."
DOWN = "The input_size of down's weight = {size} is not divisible by weight quantization block_k = {unit}."
COLUMN = "Weight output_partition_size = {size} is not divisible by weight quantization block_n = {unit}."
ROW = "Weight input_size_per_partition = {size} is not divisible by weight quantization block_k = {unit}."
HEADS = "Total number of attention heads ({heads}) must be divisible by tensor parallel size ({tp})."
INPUT_SIZE = "The input size is not aligned with the quantized weight shape. This can be caused by too large tensor parallel size."
OUTPUT_SIZE = "The output size is not aligned with the quantized weight shape. This can be caused by too large tensor parallel size."

# role -> (which axis of [out, in] is cut, how many equal parts are joined along it). What is not here is held whole by every rank.
CUT_AXIS = {"q": (0, 1), "k": (0, 1), "v": (0, 1), "q_b": (0, 1), "kv_b": (0, 1), "o": (1, 1), "gate": (0, 1), "up": (0, 1), "gate_up": (0, 2),
            "down": (1, 1)}


@dataclass(frozen=True, slots=True)
class CutPart:
    """All stored weights of one role with equal headers. `rows` and `cols` count values along [out, in] of one expert or layer.

    `block` is (rows, columns) that share a scale, None where no scale divides an axis. `name` is folded, `count` says how many weights.
    `stacked` is the number of experts in one tensor (1 where they lie apart), `bytes` counts all of them with their scales.
    """

    role: str
    name: str
    rows: int
    cols: int
    block: tuple[int, int] | None
    dtype: str
    suffix: str
    quantized: bool
    count: int
    stacked: int
    bytes: int

    @property
    def group(self) -> str:
        """attention, mlp, experts, shared_experts, lm_head, embedding, …"""
        return self.role.partition(".")[0]

    @property
    def packed(self) -> bool:
        """Whether a stored element holds several codes."""
        return self.suffix in (".qweight", ".weight_packed", "_blocks") or self.dtype in ("U8", "I8", "I32")


@dataclass(frozen=True, slots=True)
class Degrees:
    """How one reader deals the parts out. `attention` is the TP of attention, `shared` that of shared experts (0: held whole)."""

    tp: int = 1
    attention: int = 1
    shared: int = 1
    moe_tp: int = 1
    moe_ep: int = 1


@dataclass(frozen=True, slots=True)
class CutFault:
    """A cut that does not work. `size` is what a rank gets along `axis` (0 where it is not whole), `unit` what it must be a multiple of."""

    part: CutPart
    axis: str
    size: int
    unit: int
    ways: int
    message: str


_TOWER = re.compile(r"(?:^|\.)(?:visual|vision\w*|audio\w*|image\w*)\.")


@per_case
def parts(case: Case) -> list[CutPart]:
    """All parts of a checkpoint, made once."""
    return sorted((part for part, _ in _collected(case)), key=lambda part: (part.role, part.name))


@per_case
def parts_by_pair(case: Case) -> dict[int, CutPart]:
    """The part that each pair of headers of the survey belongs to, by `id`. Vectors, helpers and empty weights belong to none."""
    return {id(pair): part for part, pairs in _collected(case) for pair in pairs}


@per_case
def _collected(case: Case) -> list[tuple[CutPart, list[Pair]]]:
    return list(_collect(case))


def _collect(case: Case) -> Iterator[tuple[CutPart, list[Pair]]]:
    found: dict[tuple[object, ...], list[tuple[str, Pair]]] = {}
    for name, key in case.survey.keys.items():
        if key.what != "weight":
            continue
        for pair in key.pairs.values():
            shape = pair.shape
            if len(shape) < 2 or not all(shape):
                continue
            scale = pair.scale_shape
            role = "vision" if _TOWER.search(name) else key.role  # towers are cut or not as the user says
            found.setdefault((role, key.suffix, pair.row.dtype, shape, scale, pair.kind.block, pair.kind.quantized), []).append((name, pair))
    for (role, suffix, dtype, shape, scale, block, quantized), same in found.items():
        rows, cols, stacked = _logical(suffix, shape, scale, same[0][1].kind.parameters)  # type: ignore[arg-type]
        if suffix == ".qweight" and block is not None:
            block = (block[1], block[0])  # type: ignore[index]  # stored [in, out]
        count = sum(pair.count for _, pair in same)
        shown = folded([name.replace("layers.", "layers.*.", 1) for name, _ in same], most=2)
        yield (CutPart(role, shown, rows, cols, block, dtype, suffix, quantized, count, stacked,  # type: ignore[arg-type]
                    sum(pair.count * (pair.bytes + pair.scale_bytes) for _, pair in same)), [pair for _, pair in same])


def _logical(suffix: str, shape: tuple[int, ...], scale: tuple[int, ...], parameters: int) -> tuple[int, int, int]:
    """(out, in, experts in the stack) in values."""
    if suffix == ".qweight":
        rows = scale[-1] if scale else shape[-1]
        return rows, max(1, parameters // rows), 1
    if suffix == "_blocks" and len(shape) == 4:
        return shape[1], shape[2] * shape[3] * 2, shape[0]
    stacked = shape[0] if len(shape) == 3 else 1
    rows = shape[-2]
    return rows, max(1, parameters // (rows * stacked)), stacked


def degrees(settings: Settings, target: Target) -> Degrees:
    """How `target` deals the parts out under these settings; what is not said is 1."""
    tp = settings.tp or 1
    if target.runtime == "vllm":
        world = tp * (settings.dp or 1)  # without EP, DP ranks cut the experts too
        dealt = settings.expert_parallel or settings.ep > 1
        return Degrees(tp, tp, tp, settings.moe_tp or (1 if dealt else world), settings.moe_ep or (world if dealt else 1))
    if target.runtime == "sglang":
        ep = settings.ep or settings.moe_ep or (tp if settings.expert_parallel else 1)
        return Degrees(tp, max(1, tp // (settings.dp or 1)), 0 if ep == tp else tp, settings.moe_tp or max(1, tp // ep), ep)
    if target.runtime in ("tensorrt-llm", "neuron", ""):  # without a reader: both expert degrees as the user says them
        ep = settings.moe_ep or settings.ep or (tp if settings.expert_parallel else 1)
        return Degrees(tp, tp, tp, settings.moe_tp or max(1, tp // ep), ep)
    return Degrees()


def ways(part: CutPart, sizes: ModelSizes, d: Degrees) -> int:
    """Into how many pieces a part is cut along its axis. Key and value heads are repeated rather than cut; unknown, they are not judged."""
    leaf = part.role.partition(".")[2]
    if part.group == "attention":
        return min(d.attention, sizes.kv_heads or 1) if leaf in ("k", "v") else d.attention
    return {"mlp": d.tp, "experts": d.moe_tp, "shared_experts": d.shared or 1}.get(part.group, 1)


def faults(case: Case, d: Degrees, groups: Iterable[str], *, packed: bool = False) -> list[CutFault]:
    """Cuts of the parts of `groups` that a reader refuses. `packed` chooses INT4 and FP4, else FP8 blocks and plain sizes."""
    chosen = [p for p in parts(case) if p.group in groups and (p.packed and p.quantized) == packed]
    return list(_faults(chosen, case.sizes, d))


def _faults(chosen: list[CutPart], sizes: ModelSizes, d: Degrees) -> Iterator[CutFault]:
    for part in chosen:
        leaf = part.role.partition(".")[2]
        if leaf not in CUT_AXIS or part.suffix == "_blocks" or (part.stacked > 1 and not part.quantized):
            continue  # unquantized stacks lie in either orientation
        axis, joined = CUT_AXIS[leaf]
        whole, cut = (part.rows if axis == 0 else part.cols) // joined, ways(part, sizes, d)
        if cut <= 1:
            continue
        name = "output" if axis == 0 else "input"
        if whole % cut:
            yield CutFault(part, name, 0, cut, cut, f"{whole} is not divisible by {cut}")
            continue
        unit = part.block[axis] if part.quantized and part.block else 1
        if part.suffix == ".qweight" and axis == 0:
            unit = 8  # eight codes in one I32 along the outputs
        if (whole // cut) % unit:
            yield CutFault(part, name, whole // cut, unit, cut, _text(part, axis).format(size=whole // cut, unit=unit))


def _text(part: CutPart, axis: int) -> str:
    if part.suffix == ".qweight":
        return OUTPUT_SIZE if axis == 0 else INPUT_SIZE
    if part.packed:
        return "{size} values for each rank are no whole groups of {unit}"
    if part.group == "experts":
        return GATE_UP if axis == 0 else DOWN
    return COLUMN if axis == 0 else ROW


def heads_fit(sizes: ModelSizes, tp: int) -> bool:
    """Whether attention heads can be dealt out: queries evenly; keys and values evenly, or repeated evenly."""
    if not sizes.heads or tp <= 1:
        return True
    return sizes.heads % tp == 0 and (sizes.kv_lora > 0 or not sizes.kv_heads or sizes.kv_heads % tp == 0 or tp % sizes.kv_heads == 0)


@per_case
def _known(case: Case) -> dict[tuple[object, ...], list[int]]:
    """Lists of sizes that were asked for already: they hang on the files and the reader, not on the user's degrees."""
    return {}


def expert_tp_sizes(case: Case, most: int = LARGEST) -> list[int]:
    """All ways from 1 to `most` to cut the experts' width into whole blocks and groups."""
    known = _known(case)
    if (most,) not in known:
        chosen = [p for p in parts(case) if p.group == "experts"]
        known[most,] = [n for n in range(1, most + 1) if not any(_faults(chosen, case.sizes, Degrees(moe_tp=n)))]
    return list(known[most,])


def tp_sizes(case: Case, target: Target, *, expert_parallel: bool = False, most: int = LARGEST) -> list[int]:
    """All TP from 1 to `most` at which heads and every part can be cut, with all experts dealt out or with none."""
    known, asked = _known(case), (target.runtime, expert_parallel, most)
    if asked not in known:
        chosen = [p for p in parts(case) if p.group in ("attention", "mlp", "experts", "shared_experts")]
        known[asked] = [n for n in range(1, most + 1) if heads_fit(case.sizes, n)
                        and not any(_faults(chosen, case.sizes, degrees(Settings(tp=n, expert_parallel=expert_parallel), target)))]
    return list(known[asked])


def ep_sizes(case: Case, target: Target, tp: int) -> list[int]:
    """All EP degrees at `tp` ranks that leave whole experts, and whole blocks of what is still cut. vLLM's EP is all ranks or none."""
    experts, good = case.sizes.experts, set(expert_tp_sizes(case, max(LARGEST, tp)))
    if not experts:
        return []
    if target.runtime == "vllm":
        return [tp] if tp > 1 else []
    return [ep for ep in range(2, tp + 1) if tp % ep == 0 and experts % ep == 0 and tp // ep in good]


def listed(sizes: Iterable[object]) -> str:
    """`1, 2, 4`, or `none`."""
    return ", ".join(map(str, sizes)) or "none"
