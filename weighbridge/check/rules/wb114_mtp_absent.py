"""WB114 mtp-absent: the config promises draft (MTP) layers, and no file holds one.

## What it does
Looks for tensors of the draft layers that `num_mtp_modules`, `num_nextn_predict_layers` or their aliases promise.

## Why it matters
Speculative decoding with them cannot work from these files: the feature is refused late, or it runs with layers at random values and
accepts nothing.

## Example
MiniMax-M2 says `use_mtp: true, num_mtp_modules: 3`, and none of its 96,103 tensors is of an MTP module.

## How to mend
Do not switch speculative decoding on, or set the key to 0 so that no reader believes it.

## References
MiniMax-AI/MiniMax-M2#47; MiniMax-M2.5 discussion 8; MiniMax-M2.7 discussion 16.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Edit, Finding, Fix, Where
from weighbridge.check.rule import Rule
from weighbridge.inspection.roles import MTP_WORDS

RULE = Rule("WB114", "mtp-absent", "warning")


def find(case: Case) -> Iterator[Finding]:
    claims = case.claims
    if case.checkpoint.fatal or not claims.mtp or not case.modules.all or case.checkpoint.ranks or any(".mlp_op." in name for name in case.checkpoint.tensors):
        return
    if any(not MTP_WORDS.isdisjoint(key.split(".")) for key in case.survey.keys):
        return
    behind = f"layers.{case.sizes.layers}."  # DeepSeek and GLM number the first draft layer so
    if case.sizes.layers and any(behind in name for name in case.checkpoint.tensors):
        return
    nested = () if claims.mtp_key in case.config else ("text_config",)
    edits = (Edit("config.json", (*nested, claims.mtp_key), 0),) + ((Edit("config.json", (*nested, "use_mtp"), False),) if "use_mtp" in case.config else ())
    yield RULE.finding("The config promises draft layers, and no file holds one", Where(key=f"config.json: {claims.mtp_key}", count=claims.mtp),
                       evidence=f"{claims.mtp_key} is {claims.mtp}, 0 of {len(case.checkpoint.tensors):,} tensors are of an MTP module",
                       consequence="speculative decoding with them fails, or accepts nothing",
                       fix=Fix(f"leave speculative decoding off, or write {claims.mtp_key}: 0", 0, edits))
