"""The command line that people already have (`vllm serve X -tp 8 …`), read as runtime and settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from weighbridge.check.flags import FLAGS, NEURON_FLAGS, Flag, json_value, neuron_fields, truth
from weighbridge.errors import Usage

MOST_WORDS, LONGEST_WORD, DEEPEST = 10_000, 1_000_000, 16
_NEGATIVE, _WHOLE = re.compile(r"-\d+(\.\d+)?"), re.compile(r"-?\d{1,18}")
_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.DOTALL)
_VERBS = {"serve", "bench", "chat", "complete", "run-batch", "run", "launch-server", "throughput", "latency", "eval"}

# How a program is told: the last part of its path, or the module after `-m`, or a container image.
_PROGRAMS = {"vllm": "vllm", "sglang": "sglang", "trtllm-serve": "tensorrt-llm", "trtllm-bench": "tensorrt-llm", "trtllm-eval": "tensorrt-llm",
             "convert_hf_to_gguf.py": "llama.cpp", "convert-hf-to-gguf.py": "llama.cpp", "inference_demo": "neuron", "inference_demo.py": "neuron",
             "transformers": "transformers", "transformers-cli": "transformers"}
_MODULES = (("vllm_neuron", "neuron"), ("vllm", "vllm"), ("sglang", "sglang"), ("tensorrt_llm", "tensorrt-llm"),
            ("neuronx_distributed_inference", "neuron"), ("transformers", "transformers"))
_IMAGES = (("vllm-openai", "vllm"), ("lmsysorg/sglang", "sglang"))
KNOWN = ("vllm serve, python -m vllm.entrypoints.openai.api_server, python -m sglang.launch_server, trtllm-serve, convert_hf_to_gguf.py, "
         "inference_demo, transformers serve")


@dataclass
class Command:
    """A command line as read. `fields` are those of `check.settings.Settings`; `unread` are flags without a meaning for `check`, as typed.

    `files` are configuration files that the command names (`--config FILE`), `memory_share` is the part of the device that the reader
    may use (`--gpu-memory-utilization`), 0 if not said.
    """

    runtime: str
    model: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    memory_share: float = 0.0


def read_command(argv: Sequence[str]) -> Command:
    """All that a command line says. One word with blanks is split as a shell does."""
    words = _words(argv)
    environment, start, runtime = _program(words)
    reader = _Reader(runtime, environment)
    reader.read(words[start:])
    return reader.command()


def read_flags(runtime: str, pairs: Sequence[tuple[str, Any]]) -> Command:
    """Flags with values that have their types already, from a YAML file: `tensor-parallel-size: 8`."""
    reader = _Reader(runtime, {})
    for name, value in pairs:
        reader.take("--" + name.lstrip("-"), _After("--" + name, [], 0, value))
    return reader.command()


def _words(argv: Sequence[str]) -> list[str]:
    words = list(argv)
    if len(words) == 1 and any(c.isspace() for c in words[0]) and len(words[0]) <= LONGEST_WORD:
        try:
            words = shlex.split(words[0].replace("\\\n", " "))
        except ValueError as error:
            raise Usage(f"the command line cannot be split: {error}", "--", "close the quotation marks") from None
    if len(words) > MOST_WORDS or any(len(word) > LONGEST_WORD for word in words):
        raise Usage(f"a command line of {len(words):,} words is no command line", "--", "give the command that starts the server")
    if not words:
        raise Usage("no command line after --", "--", f"known are {KNOWN}")
    return words


def _program(words: list[str]) -> tuple[dict[str, str], int, str]:
    """(environment in front, where the arguments begin, runtime). What stands before the program (`docker run …`, `numactl …`) is passed over."""
    environment: dict[str, str] = {}
    for place, word in enumerate(words):
        if found := _ASSIGNMENT.match(word.removeprefix("--env=")):
            environment[found[1]] = found[2]
        runtime, used = _named(words, place)
        if runtime:
            return environment, place + used, runtime
    raise Usage(f"no program that is known in {' '.join(words)[:80]!r}", "--", f"known are {KNOWN}; or say --runtime and --tp, --ep, …")


def _named(words: list[str], place: int) -> tuple[str, int]:
    word, after = words[place], words[place + 1] if place + 1 < len(words) else ""
    if word == "-m":
        for module, runtime in _MODULES:
            if after == module or after.startswith(module + "."):
                return runtime, 2
        return "", 0
    base = word.rpartition("/")[2]
    if base in _PROGRAMS:
        # `vllm` and `sglang` are also names of folders, containers and environments: there a verb follows.
        if base in ("vllm", "sglang", "transformers", "transformers-cli") and after not in _VERBS:
            return "", 0
        return _PROGRAMS[base], 2 if after in _VERBS else 1
    for image, runtime in _IMAGES:
        if image in word and not after.startswith("python") and "=" not in word:
            return runtime, 1
    return "", 0


class _After:
    """What follows a flag: the text behind `=`, a typed value of a file, or the next words."""

    def __init__(self, flag: str, words: list[str], at: int, inline: Any = None) -> None:
        self.flag, self.words, self.at, self.inline = flag, words, at, inline

    @property
    def next(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def has_value(self) -> bool:
        return self.inline is not None or bool(self.next and (not self.next.startswith("-") or self.next == "-" or _NEGATIVE.fullmatch(self.next)))

    def value(self) -> Any:
        if not self.has_value():
            raise Usage("a value is missing behind it", self.flag, f"write {self.flag} VALUE")
        if self.inline is not None:
            return self.inline
        self.at += 1
        return self.words[self.at - 1]

    def switch(self) -> bool:
        """`--flag`, `--flag=false`, `--flag true`; any other word behind it belongs to what follows."""
        if self.inline is None and self.next.lower() not in ("true", "false"):
            return True
        return truth(self.flag, self.value())

    def several(self) -> list[Any]:
        """A JSON list, `1,2`, or several whole numbers behind the flag."""
        first = self.value()
        if isinstance(first, list):
            return first
        if str(first).startswith("["):
            found = json_value(self.flag, first)
            return found if isinstance(found, list) else [found]
        parts = [part for part in str(first).split(",") if part]
        while self.inline is None and parts and _WHOLE.fullmatch(parts[-1]) and _WHOLE.fullmatch(self.next):
            parts.append(self.value())
        return [int(part) if _WHOLE.fullmatch(part) else part for part in parts]


class _Reader:
    """Takes flags one by one, and puts together what they say."""

    def __init__(self, runtime: str, environment: dict[str, str]) -> None:
        self.runtime, self.environment = runtime, environment
        self.fields: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.neuron: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}  # what becomes a field only together with others
        self.unread: list[str] = []
        self.files: list[str] = []
        self.models: list[str] = []
        self.told_neuron = runtime == "neuron" or _speaks_of_neuron(environment)

    def read(self, words: list[str]) -> None:
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            if not word.startswith("-") or word == "-" or _NEGATIVE.fullmatch(word):
                self.models.append(word)
                continue
            typed, equals, value = word.partition("=")
            after = _After(typed, words, at, value if equals else None)
            self.take(typed, after)
            at = after.at

    def take(self, typed: str, after: _After) -> None:
        """One flag, and of the words behind it those that are its own."""
        name = typed.lstrip("-")
        key = name.replace("_", "-").lower()
        flag = self._flag(typed, key)
        if flag is None and key.startswith("no-") and (switch := self._flag("--", key[3:])) and switch.kind == "flag":
            self._put(switch, typed, False)
        elif flag is None and "." in key:
            self._dotted(typed, name, after)
        elif flag is None:
            self.unread.append(f"{typed} {after.value() if after.has_value() else ''}".strip()[:200])
        elif flag.kind == "flag":
            self._put(flag, typed, after.switch())
        elif flag.kind == "list":
            self._put(flag, typed, after.several())
        else:
            self._put(flag, typed, flag.read(typed, after.value()))

    def _flag(self, typed: str, key: str) -> Flag | None:
        if typed.startswith("-") and not typed.startswith("--"):
            return FLAGS[self.runtime].get("-" + key)
        found = FLAGS[self.runtime].get(key)
        return NEURON_FLAGS.get(key) if found is None and self.runtime == "neuron" else found

    def _dotted(self, typed: str, name: str, after: _After) -> None:
        """vLLM takes JSON piece by piece: `--additional-config.override_neuron_config.tp_degree 8`."""
        outer, *inner = name.split(".")
        flag = self._flag("--", outer.replace("_", "-").lower())
        if flag is None or flag.kind != "json" or len(inner) > DEEPEST:
            self.unread.append(f"{typed} {after.value() if after.has_value() else ''}".strip()[:200])
            return
        given = _loose(after.value())
        for part in reversed(inner):
            given = {part: given}
        self._put(flag, typed, given)

    def _put(self, flag: Flag, typed: str, value: Any) -> None:
        if value is None:
            return
        target = flag.target
        if target == "additional":
            self._additional(typed, value)
        elif target == "override_neuron":
            self._override(typed, value)
        elif target == "model":
            self.models.insert(0, value)
        elif target == "file":
            self.files.append(value)
        else:
            self.sources[target] = typed
            if target.startswith("neuron:"):
                self.neuron[target.partition(":")[2]] = value
            elif target.startswith("+"):
                self.extra[target[1:]] = value
            else:
                self.fields[target] = value

    def _additional(self, typed: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise Usage(f"{value!r:.60} is not a JSON object", typed, f"write {typed} '{{\"override_neuron_config\": {{…}}}}'")
        if "override_neuron_config" in value:
            self._override(typed, value["override_neuron_config"])
        else:
            self.unread.append(f"{typed} {', '.join(map(str, value))}"[:200])

    def _override(self, typed: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise Usage(f"{value!r:.60} is not a JSON object of NxD settings", f"{typed}: override_neuron_config")
        self.told_neuron = True
        self.neuron |= value

    def command(self) -> Command:
        runtime = "neuron" if self.told_neuron or str(self.fields.get("device", "")).startswith("neuron") else self.runtime
        fields = dict(self.fields)
        _COMBINE.get(runtime, _as_said)(fields, self.extra, self.sources)
        if runtime == "neuron":
            fields.pop("device", None)
            fields.pop("expert_parallel", None)
            # The vLLM plugin makes settings of vLLM's flags, and override_neuron_config goes over them.
            fields |= neuron_fields(self.neuron, "override_neuron_config" if self.runtime == "vllm" else "", self.sources)
            fields["neuron"] = dict(self.neuron)
        if self.environment:
            fields["environment"] = dict(self.environment)
        fields["sources"] = {name: said for name, said in self.sources.items() if not name.startswith("+")}
        if self.unread:
            fields["sources"]["unread"] = ", ".join(self.unread)
        return Command(runtime, self.models[0] if self.models else "", fields, tuple(self.unread), tuple(self.files),
                       float(self.extra.get("memory", 0.0)))


def _speaks_of_neuron(environment: dict[str, str]) -> bool:
    return any(name.startswith(("VLLM_NEURON", "NEURON_COMPILED")) or (name == "VLLM_PLUGINS" and "neuron" in value)
               for name, value in environment.items())


def _loose(text: Any) -> Any:
    try:
        return json_value("", text) if isinstance(text, str) else text
    except Usage:
        return text


def _as_said(fields: dict[str, Any], extra: dict[str, Any], sources: dict[str, str]) -> None:
    """Nothing to put together."""


def _sglang(fields: dict[str, Any], extra: dict[str, Any], sources: dict[str, str]) -> None:
    """`--enable-ep-moe`, `--enable-deepep-moe` and `--moe-a2a-backend deepep` make EP = TP. DP is of interest only where it cuts attention."""
    if extra.get("ep_all") and not fields.get("ep"):
        fields["ep"] = fields.get("tp", 1)
        sources["ep"] = sources["+ep_all"]
    if not extra.get("attention_dp"):
        fields.pop("dp", None)


def _tensorrt(fields: dict[str, Any], extra: dict[str, Any], sources: dict[str, str]) -> None:
    """moe_tp x moe_ep = tp: `--ep_size` alone fixes both."""
    ep, tp = fields.get("moe_ep", 0), fields.get("tp", 1)
    if ep and not fields.get("moe_tp") and tp % ep == 0:
        fields["moe_tp"] = tp // ep
        sources["moe_tp"] = f"{sources.get('tp', '--tp_size')} / {sources['moe_ep']}"


_COMBINE: dict[str, Callable[[dict[str, Any], dict[str, Any], dict[str, str]], None]] = {"sglang": _sglang, "tensorrt-llm": _tensorrt}
