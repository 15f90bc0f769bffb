"""WB718 nxd-environment: environment variables that FP8 needs, and no library sets.

## What it does
Looks for `XLA_HANDLE_SPECIAL_SCALAR=1` and `UNSAFE_FP8FNCAST=1` in the environment in front of the command line. Without a command line it
only reminds you.

## Why it matters
`inference_demo` and the tests set both, the library does not: vLLM and scripts of the contrib port must export them.

## Example
`vllm serve … --additional-config '{"override_neuron_config": {"quantized": true, …}}'` without the two in front.

## How to mend
`export XLA_HANDLE_SPECIAL_SCALAR=1 UNSAFE_FP8FNCAST=1` before the server.

## References
NxDI inference_demo.py 463-465; docs/neuron.md.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.check.case import Case
from weighbridge.check.finding import Finding, Where
from weighbridge.check.nxd_settings import READ_IN, nxd
from weighbridge.check.rule import Rule
from weighbridge.check.settings import Target
from weighbridge.runtimes import neuron as reader

RULE = Rule("WB718", "nxd-environment", "note", ("neuron",), READ_IN)


def find(case: Case, target: Target) -> Iterator[Finding]:
    n, given = nxd(case), case.settings.environment
    missing = [f"{name}={value}" for name, value in reader.ENVIRONMENT.items() if given.get(name) != value]
    if not n.quantized or not missing or n.text("quantization_dtype").lower() == "int8":
        return
    known = bool(given) or any(said == "override_neuron_config" for said in case.settings.sources.values())
    yield RULE.finding(f"{' and '.join(missing)} must be exported", Where(key="environment"),
                       evidence=f"the command line sets {', '.join(given) or 'none'}" if known else "not known from the files",
                       severity="warning" if known else "note",
                       consequence="FP8 casts and special scalars are handled otherwise on the device", fix="export " + " ".join(missing),
                       runtime=target.runtime)
