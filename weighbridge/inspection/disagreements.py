"""Where index, headers and claim differ. Each is a dict {level, code, message, where, count, hint}; `level` is "differs" or "note"."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from fnmatch import fnmatchcase
from typing import Any

from weighbridge.checkpoint.checkpoint import INDEX, Checkpoint
from weighbridge.checkpoint.dtypes import FP8
from weighbridge.errors import brief
from weighbridge.formats.claim import Claims
from weighbridge.inspection.roles import MTP_WORDS, key_of
from weighbridge.inspection.survey import Survey
from weighbridge.runtimes import STRIDE, EntryFails, EntryRefused, Patience, regex

SHOWN = 3  # names that one entry lists
SKIP_LIMIT = 20_000  # entries looked at
OF = re.compile(r"-of-(\d+)\.safetensors$")
TOTAL_SIZE = re.compile(rb'"total_size"\s*:\s*(\d{1,18})(?:\.0)?\s*[,}]')


def disagreements(checkpoint: Checkpoint, claims: Claims, survey: Survey) -> list[dict[str, Any]]:
    """All of them, what differs before what is only a note."""
    found = _of_headers(checkpoint, survey) + _of_claim(claims, survey) + _skips(checkpoint, claims, survey)
    found += _mtp(checkpoint, claims, survey) + file_counts(checkpoint, survey)
    return sorted(found, key=lambda entry: entry["level"] != "differs")


def file_counts(checkpoint: Checkpoint, survey: Survey) -> list[dict[str, Any]]:
    """Where the index or the names of the files count otherwise than the files."""
    return _total_size(checkpoint, survey) + _file_names(checkpoint)


def entry(code: str, message: str, where: str = "", count: int = 1, hint: str = "", level: str = "differs") -> dict[str, Any]:
    return {"level": level, "code": code, "message": message, "where": where, "count": count, "hint": hint}


def _names(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(map(brief, names[:SHOWN])) + more


def _of_headers(checkpoint: Checkpoint, survey: Survey) -> list[dict[str, Any]]:
    grouped: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for problem in checkpoint.problems:
        grouped[problem.code, problem.message].append(problem)
    found = [entry(code, message, _names([p.where for p in problems]), len(problems), problems[0].hint)
             for (code, message), problems in grouped.items()]
    found += [entry(code, message, _names(names), len(names)) for (code, message), names in survey.odd.items()]
    if survey.family_problem:
        found.append(entry("config", survey.family_problem, "config.json", hint="roles are told from names alone"))
    return found


def _of_claim(claims: Claims, survey: Survey) -> list[dict[str, Any]]:
    coded = {row.dtype: total.count for row, total in survey.rows.items() if row.dtype in FP8 and row.strategy != "none"}
    if survey.quantized and not claims.quantized:
        what = f"{survey.quantized:,} quantized weights ({', '.join(sorted(coded)) or 'packed'})"
        return [entry("claim-missing", f"{what}, and no quantization_config", "config.json", survey.quantized,
                      "a reader takes the codes for values: restore quantization_config")]
    if claims.quantized and not survey.quantized:
        return [entry("claim-without-codes", f"the config claims {brief(claims.method)}, no weight is quantized", claims.source,
                      hint="the weights were decoded: take the claim out of the config")]
    return []


def _skips(checkpoint: Checkpoint, claims: Claims, survey: Survey) -> list[dict[str, Any]]:
    """Entries of the skip list that name quantized modules, or none at all. Matching is by whole dotted words."""
    modules = {f".{_module(key)}.": any(pair.kind.quantized for pair in key.pairs.values())
               for key in survey.keys.values() if key.what == "weight"}
    seen: dict[str, tuple[bool | None, bool]] = {}
    coded, absent = [], []
    untried = []
    with Patience().spent() as end:
        for text in claims.skip[:SKIP_LIMIT]:
            short = key_of(text + ".")[:-1]
            if short not in seen:
                seen[short] = _hits(short, modules, end)
            matched, quantized = seen[short]
            if matched is None:
                untried.append(text)
            elif quantized and _coded(checkpoint, text):
                coded.append(text)
            elif not matched:
                absent.append(text)
    where = f"{claims.source}: {claims.skip_key}"
    found = []
    if coded:
        found.append(entry("skip-quantized", f"listed as not quantized, and quantized in the files: {_names(coded)}", where, len(coded),
                           "a reader that obeys the list takes codes for values: remove the entries"))
    if absent:
        found.append(entry("skip-unmatched", f"listed as not quantized, and no module has such a name: {_names(absent)}", where, len(absent),
                           level="note"))
    if untried or len(claims.skip) > SKIP_LIMIT:
        count = len(untried) + max(0, len(claims.skip) - SKIP_LIMIT)
        found.append(entry("skip-untried", f"the list has {len(claims.skip):,} entries, {count:,} of them were not tried: the time for them may have no bound"
                           f"{': ' + _names(untried) if untried else ''}", where, count, "write these entries as whole paths", level="note"))
    return found


def _hits(text: str, modules: dict[str, bool], end: float) -> tuple[bool | None, bool]:
    """Whether any module has this entry, and whether any of them is quantized; (None, False) where it was not tried."""
    hits = []
    try:
        for number, (module, quantized) in enumerate(modules.items()):
            if number % STRIDE == 0 and time.thread_time() > end:
                return None, False
            if _matches(text, module):
                hits.append(quantized)
    except EntryRefused:
        return None, False
    return bool(hits), any(hits)


def _module(key: Any) -> str:
    return key.stem.rsplit("/", 1)[-1]


def _coded(checkpoint: Checkpoint, text: str) -> bool:
    """A full name is looked up itself: its layer may be an exception. Otherwise the key's answer stands."""
    tensor = checkpoint.tensors.get(text + ".weight")
    return tensor is None or tensor.dtype in FP8 or tensor.dtype in ("U8", "I8", "I32")


def _matches(text: str, module: str) -> bool:
    if text.startswith("re:"):
        try:
            return regex(text, text[3:], module[1:-1])
        except EntryFails:
            return False
    if "*" in text:
        pattern = text.replace("layers.*.", "layers.")  # as in a key, which has no layer number
        return fnmatchcase(module[1:-1], pattern) or fnmatchcase(module[1:-1], pattern + ".*")
    return bool(text) and f".{text}." in module


def _mtp(checkpoint: Checkpoint, claims: Claims, survey: Survey) -> list[dict[str, Any]]:
    if not claims.mtp:
        return []
    if any(not MTP_WORDS.isdisjoint(key.split(".")) for key in survey.keys):
        return []
    return [entry("mtp-absent", f"{claims.mtp_key} promises {claims.mtp} MTP module{'s' * (claims.mtp > 1)}, no tensor is of one",
                  f"config.json: {claims.mtp_key}", claims.mtp, "speculative decoding with them cannot work from these files")]


def _total_size(checkpoint: Checkpoint, survey: Survey) -> list[dict[str, Any]]:
    """`metadata.total_size` stands at one end of the index; M2's has 9.8 MB, so only its ends are read again."""
    size = checkpoint.files.get(INDEX)
    if size is None:
        return []
    ends = checkpoint.store.read(INDEX, 0, 4096) + checkpoint.store.read(INDEX, max(0, size - 4096), 4096)
    stated = TOTAL_SIZE.search(ends)
    if stated is None or int(stated[1]) == survey.total.bytes:
        return []
    return [entry("index-total-size", f"total_size is {int(stated[1]):,}, the tensors have {survey.total.bytes:,} bytes", f"{INDEX}: metadata",
                  hint="readers do not use it; a new index would be right")]


def _file_names(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    stated = {int(m[1]) for file in checkpoint.headers if (m := OF.search(file))}
    if len(stated) != 1 or stated == {len(checkpoint.headers)}:
        return []
    says = f"file names end in -of-{stated.pop():05d}, there are {len(checkpoint.headers):,} files"
    if INDEX in checkpoint.files:
        return [entry("file-count", f"{says} and the index asks for no other", checkpoint.label, level="note")]
    return [entry("file-count", f"{says} and no index tells which are due", checkpoint.label, hint="compare with the publisher's list")]
