"""config.json and what else says how an output is quantized: the facts of a plan, written as the layout's readers want them."""

from __future__ import annotations

from weighbridge.formats.match import CARRIED
from weighbridge.formats.scheme import Encoding, Role
from weighbridge.layouts import NEURON
from weighbridge.layouts.configs import Facts, Held, Written, written
from weighbridge.plan.plan import Plan


def configuration(plan: Plan) -> Written:
    """The output's config.json, other configuration files by name, and patterns of source files that would contradict them."""
    if plan.layout in NEURON:
        config = {k: v for k, v in plan.source.checkpoint.config.items() if k != "quantization_config"}
        config["dtype" if "dtype" in config else "torch_dtype"] = "bfloat16"
        return Written(config, stale=("hf_quant_config.json", "quantize_config.json"))
    return written(facts_of(plan))


def facts_of(plan: Plan) -> Facts:
    """What the plan writes, module by module."""
    held: dict[Encoding, list[str]] = {}
    plain: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for target in plan.targets:
        stored = target.stored
        if target.encoding.quantized:
            held.setdefault(target.encoding, []).append(stored.stem)
            continue
        sizes[target.encoding.dtype] = sizes.get(target.encoding.dtype, 0) + target.weight_bytes
        roles = {plan.source.weight(part.weight).role for part in stored.placement.parts}
        if not stored.placement.vector and roles and "embedding" not in roles:
            plain[stored.stem] = sorted(roles)[0]
    if _tied(plan):
        plain["lm_head"] = "lm_head"  # no file holds a tied head, and yet readers build one: transformers would take it for a quantized layer
    zeros = [f for encoding in held for f in encoding.factors if f.role is Role.ZERO]
    return Facts(
        plan.inventory.model_type, plan.source.checkpoint.config, plan.layout, tuple(Held(e, tuple(m)) for e, m in held.items()), plain,
        max(sizes, key=lambda dtype: sizes[dtype], default="BF16"), any(t.carried for t in plan.targets), any(b.stored.stem.rpartition(".")[2] in CARRIED for b in plan.source.bound),
        unchanged=frozenset(p.weight for t in plan.targets if t.encoding.quantized for p in t.stored.placement.parts) == plan.source.coded,
        symmetric=not zeros or plan.symmetric, powers=all(s.element == "e8m0" for e in held if (s := e.scale)))


def _tied(plan: Plan) -> bool:
    """Whether the embedding is the head: a known family has no other then, of an unknown one config.json says it."""
    roles = {weight.role for weight in plan.source.weights}
    said = not plan.inventory.unknown or plan.source.checkpoint.config.get("tie_word_embeddings") is True
    return said and "embedding" in roles and "lm_head" not in roles
