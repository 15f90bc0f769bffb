"""What a reader builds from the stored modules: its names, what it fuses, what its skip list does, and what the files hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from weighbridge.check.case import Case, per_case
from weighbridge.check.finding import Fix
from weighbridge.check.settings import Target
from weighbridge.check.skip_build import Built, Naming, build, default_entries, naming
from weighbridge.check.skip_units import units
from weighbridge.check.claim_keys import read_by, skip_list_of, unread_lists
from weighbridge.formats.stated import LONGEST_ENTRY, MOST_ENTRIES, Stated
from weighbridge.errors import Usage
from weighbridge.runtimes import sglang, skip, transformers, vllm
from weighbridge.runtimes.list_rules import RULE_OF

# SGLang's first release after pull request 23467.
SGLANG_SEGMENTS = "0.5.11"


@dataclass
class View:
    """The modules as `target` builds them.

    `reader` is the row of `skip.RULES` that applies, empty where nothing is known of its list. `entries` are as the config has them,
    `spelled` what the reader compares instead. `built` holds every stored module that may be a linear layer (experts folded),
    `resolution` what the spelled entries match among `built` and all other stored names. `problem` says why there is no answer.
    """

    target: Target
    claim: Stated | None = None
    reader: str = ""
    key: str = ""
    entries: tuple[str, ...] = ()
    spelled: dict[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: tuple[str, ...] = ()
    unread: dict[str, tuple[str, ...]] = field(default_factory=dict)
    built: list[Built] = field(default_factory=list)
    resolution: skip.Resolution | None = None
    naming: Naming | None = None
    problem: str = ""
    renamed: dict[str, tuple[str, ...]] | None = None  # what `skip_prefix.other_prefix` found
    fix: Fix | None = None  # the right list, once a rule has asked (`skip_find.right_list`)

    @property
    def file(self) -> str:
        return self.claim.file if self.claim else ""

    @property
    def where(self) -> str:
        """The key of the list, as a finding names it."""
        return self.claim.key(self.key) if self.claim else self.key

    @property
    def candidates(self) -> list[Built]:
        """Modules that this reader surely builds quantized unless the list names them; draft layers are apart."""
        return [b for b in self.built if b.candidate and not b.draft]

    def hits(self, entry: str) -> tuple[str, ...]:
        """Paths (the reader's) that one entry of the config matches, in whatever spelling."""
        found = self.resolution.matched if self.resolution else {}
        return tuple(dict.fromkeys(path for text in self.spelled.get(entry, (entry,)) for path in found.get(text, ())))

    def failure(self, entry: str) -> str:
        """The error that the reader raises for this entry, or nothing."""
        failing = self.resolution.failing if self.resolution else {}
        return next((failing[text] for text in self.spelled.get(entry, (entry,)) if text in failing), "")

    def refusal(self, entry: str) -> str:
        refused = self.resolution.refused if self.resolution else {}
        return next((refused[text] for text in self.spelled.get(entry, (entry,)) if text in refused), "")


def view_of(case: Case, target: Target) -> View:
    """The modules as `target` builds them: its names, what it fuses, what it never quantizes, what its skip list does. Made once for each target."""
    known = _views(case)
    if target not in known:
        known[target] = view(case, target)
    return known[target]


@per_case
def _views(case: Case) -> dict[Target, View]:
    return {}


def view(case: Case, target: Target) -> View:
    """The view of one reader, made anew."""
    claim, key, entries = _list(case, target)
    found = View(target, claim, _reader(target, claim), key, entries)
    if claim is None:
        return found
    found.unread = unread_lists(claim, target.runtime) if target.runtime not in ("neuron", "llama.cpp") else {}
    found.naming = names = naming(case, target, claim, found.reader)
    found.built = build(case, names, units(case))
    found.defaults = default_entries(case, names, given=bool(key) and key in claim.lists)
    found.spelled = {entry: spelled(entry, names, found.reader) for entry in entries}
    if not found.reader or key in claim.bad_lists:  # WB311 speaks first
        found.reader = ""
        return found
    asked = dict.fromkeys(path for b in found.built for path in b.asked)
    texts = dict.fromkeys(text for entry in entries for text in found.spelled[entry])
    try:
        found.resolution = skip.resolve([*texts, *found.defaults], asked, found.reader, case.patience)
    except Usage as error:
        found.problem, found.reader = error.problems[0].message if hasattr(error, "problems") else str(error), ""
        return found
    _mark(found)
    return found


def _list(case: Case, target: Target) -> tuple[Stated | None, str, tuple[str, ...]]:
    if target.runtime == "neuron":
        return _neuron_list(case)
    claim = read_by(case.stated, target.runtime)
    return (claim, *skip_list_of(claim, target.runtime)) if claim else (None, "", ())


def _neuron_list(case: Case) -> tuple[Stated | None, str, tuple[str, ...]]:
    """NxD's own settings: what the user says counts before neuron_config.json. Without `quantized` nothing is converted."""
    settings = {**case.checkpoint.neuron_config, **case.settings.neuron}
    if settings.get("quantized") is not True:
        return None, "", ()
    listed = settings.get("modules_to_not_convert")
    entries = tuple(e for e in listed[:MOST_ENTRIES] if isinstance(e, str) and len(e) <= LONGEST_ENTRY) if isinstance(listed, list) else ()
    own = "modules_to_not_convert" in case.settings.neuron
    file = "neuron_config.json" if not own or case.checkpoint.neuron_config else ""
    lists = {"modules_to_not_convert": entries} if isinstance(listed, list) else {}
    return Stated("neuron", file, (), "neuron", True, lists=lists, raw=settings), "modules_to_not_convert", entries


def _reader(target: Target, claim: Stated | None) -> str:
    if claim is None or claim.algo == "MIXED_PRECISION":  # there a table of layers says what is quantized, not a list
        return ""
    reader = RULE_OF.get((target.runtime, claim.family), "")
    return "sglang-before-23467" if reader == "sglang" and target.before(SGLANG_SEGMENTS) else reader


def spelled(entry: str, names: Naming, reader: str) -> tuple[str, ...]:
    """What the reader compares in the place of an entry of the config."""
    runtime = names.target.runtime
    if runtime == "transformers" and names.claim.family in ("fp8", "mxfp8"):
        return (transformers.renamed(entry, names.model_type),)
    if runtime == "vllm":
        return (vllm.renamed(entry, names.multimodal),)
    if reader.startswith("sglang"):
        return sglang.spelled((entry,))[entry]
    return (entry,)


def _mark(found: View) -> None:
    """Say of every module whether the list names it: for experts any of the paths that the reader asks for counts."""
    assert found.resolution is not None
    hit = set(found.resolution.skipped)
    for built in found.built:
        built.skipped = any(path in hit for path in built.asked)
        if found.resolution.refused and built.candidate and not built.skipped:
            built.candidate = None  # an entry that was not tried may name it
