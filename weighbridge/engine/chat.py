"""The chat template that a checkpoint brings along, rendered where it can do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from weighbridge.checkpoint.checkpoint import Checkpoint
from weighbridge.engine.tokenizer import require
from weighbridge.errors import WeighbridgeError

FILE, CONFIG = "chat_template.jinja", "tokenizer_config.json"
LIMIT = 1_000_000  # bytes of a template
WORKER = Path(__file__).with_name("template_worker.py")
SECONDS = 10.0

Message = dict[str, str]


class Chat:
    """A conversation in a checkpoint's format. Text of a user is encoded as it is: control tokens in it are control tokens, as in transformers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        require("jinja2")
        self.settings = checkpoint.json(CONFIG) or {}
        self.template, self.where = _template(checkpoint, self.settings)
        self.messages: list[Message] = []

    def prompt(self, text: str) -> str:
        """The whole conversation with the user's next words, ready for the model's answer."""
        self.messages.append({"role": "user", "content": text})
        return self.render(self.messages)

    def answered(self, text: str) -> None:
        self.messages.append({"role": "assistant", "content": text})

    def render(self, messages: list[Message]) -> str:
        """The text of `messages`, with the beginning of the answer."""
        values = {"messages": messages, "add_generation_prompt": True, "tools": None, "documents": None, **_specials(self.settings)}
        request = json.dumps({"template": self.template, "values": values, "path": [place for place in sys.path if place]}).encode()
        try:
            done = subprocess.run([sys.executable, "-I", str(WORKER)], input=request, capture_output=True, timeout=SECONDS,
                                  env={"OPENBLAS_NUM_THREADS": "1"}, check=False)
            answer = json.loads(done.stdout) if done.returncode == 0 else {"error": _ended(done)}
        except subprocess.TimeoutExpired:
            answer = {"error": f"it did not end in {SECONDS:.0f} s"}
        except ValueError:
            answer = {"error": "it gave no answer"}
        if "text" not in answer:
            raise WeighbridgeError("chat-template", f"was stopped: {str(answer['error'])[:300]}", self.where,
                                   "take the template from the publisher again, or give the text with -p")
        return answer["text"]


def _ended(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return "it took more time than a template may take"
    return done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit {done.returncode}"


def _template(checkpoint: Checkpoint, settings: dict[str, Any]) -> tuple[str, str]:
    size = checkpoint.files.get(FILE)
    if size is not None:
        if size > LIMIT:
            raise WeighbridgeError("chat-template", f"{size:,} bytes, the limit is {LIMIT:,}", FILE)
        return checkpoint.store.read(FILE, 0, size).decode("utf-8", "replace"), FILE
    value = settings.get("chat_template")
    if isinstance(value, list):  # several by name; `default` is the plain one
        value = next((v.get("template") for v in value if isinstance(v, dict) and v.get("name") == "default"), None)
    if not isinstance(value, str) or len(value) > LIMIT:
        raise WeighbridgeError("chat-template", f"there is no {FILE}, and {CONFIG} has no chat_template", checkpoint.label,
                               "copy the template from the publisher's repository, or give the text with -p")
    return value, f"{CONFIG}: chat_template"


def _specials(settings: dict[str, Any]) -> dict[str, str]:
    """Control tokens by name, as text; a published file has them as text or as {"content": …}."""
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = settings.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[name] = value
    return found
