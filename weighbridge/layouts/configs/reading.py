"""How a reader would take the files that were written: which modules it would decide wrong. The proof of the lists."""

from __future__ import annotations

from typing import Any

from weighbridge.errors import WeighbridgeError
from weighbridge.layouts.configs import base, compressed_tensors, modelopt
from weighbridge.layouts.configs.facts import Facts, Held, Written
from weighbridge.layouts.rows import row
from weighbridge.runtimes.list_questions import FUSING, ListReader, Question, list_reader, fold, split_units
from weighbridge.runtimes.joint_list import wrong_answers

_LISTS = {"fp8": "modules_to_not_convert", "mxfp4": "modules_to_not_convert", "awq": "modules_to_not_convert", "compressed-tensors": "ignore",
          "modelopt": "ignore", "quark": "exclude"}


def unexplained(written: Written, facts: Facts, reader: str) -> tuple[str, ...]:
    """Modules (as the files spell them) that `reader` would take for quantized though they are not, or the other way round, or with another encoding.

    None for a layout without a claim, and for readers that look at the tensors instead of a list. Modules of a layer that the reader joins and that
    is quantized in part are always among them: no list can say that. Raises WeighbridgeError where the reader's way is not known, so that no answer
    is never taken for a good one.
    """
    family = row(facts.layout).family
    if not family or reader == "llama.cpp":
        return ()
    facts = {"compressed-tensors": compressed_tensors.merged, "modelopt": modelopt.merged}.get(family, lambda same: same)(facts)
    units = fold(facts.quantized, facts.plain)
    questions = list_reader(reader, family, units, facts.model_type, facts.config, base.below_text(facts.config))
    groups = family == "compressed-tensors" and len(facts.held) > 1
    if questions is None or (groups and reader == "tensorrt-llm"):
        what = f"{family} checkpoint{' with several groups' if groups else ''}"
        raise WeighbridgeError("reader-list-unknown", f"how {reader} chooses the quantized modules of a {what} is not known here",
                               "weighbridge/runtimes/list_rules.py", "ask for a reader whose way is known, or try the files with the reader itself")
    bad = wrong_answers(questions, entries(written, family, reader))
    found = [question.unit for question in bad]
    if reader in FUSING:
        found += [unit for unit in split_units(units) if not unit.plain or not _never(questions, unit.stem)]
    if len(facts.held) > 1:
        found += [q.unit for held in facts.held for q in _other_encoding(written, facts, held, questions)]
    return tuple(dict.fromkeys(module for unit in found for module in unit.modules))


def entries(written: Written, family: str, reader: str) -> list[str]:
    """The list that this reader finds: TensorRT-LLM opens hf_quant_config.json first."""
    claim = base.claim_of(written.config)
    if family == "gptq":
        return [key.removeprefix("-:") for key in claim.get("dynamic", {}) if key.startswith("-:")]
    outer = written.files.get("hf_quant_config.json")
    if family == "modelopt" and reader == "tensorrt-llm" and outer:
        return list(outer["quantization"]["exclude_modules"])
    return list(claim.get(_LISTS[family]) or ())


def _never(questions: ListReader, stem: str) -> bool:
    return any(q.unit.stem == stem and q.wanted is None for q in questions.questions)


def _other_encoding(written: Written, facts: Facts, held: Held, questions: ListReader) -> list[Question]:
    """Modules that the claim gives another encoding than the files hold: by targets of groups, or by a table of layers."""
    number = facts.held.index(held)
    claim: dict[str, Any] = base.claim_of(written.config)
    others = [m for other in facts.held if other is not held for m in other.modules]
    if "quantized_layers" in claim:
        table = claim["quantized_layers"]
        mine = claim["config_groups"].get(f"group_{number}", {}).get("targets", ())
        return [q for q in questions.questions if not q.unit.plain and not set(q.unit.modules).isdisjoint(held.modules)
                and not (q.unit.stem in table and (not mine or q.unit.stem in mine))]
    if questions.family != "compressed-tensors":
        return []
    listed = claim["config_groups"][f"group_{number}"]["targets"]
    return [q for turned in base.target_readers(facts, held.modules, others) if turned.runtime == questions.runtime
            for q in wrong_answers(turned, listed)]
