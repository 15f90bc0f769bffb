"""Renders one chat template in a process of its own: `python -I template_worker.py` with a request as JSON on stdin.

A template is a program from a stranger. It runs in jinja2's immutable sandbox, in a process that may take little memory and little time and
is thrown away. The answer on stdout is {"text"} or {"error"}.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import datetime
from typing import Any

MEMORY, SECONDS = 1 << 30, 5  # bytes of address space, seconds of CPU
LONGEST = 4_000_000  # characters of a text: looked at here, so that a huge one never reaches the process that asked


def render(template: str, values: dict[str, Any]) -> str:
    """The text of a template. Names are those that transformers offers: messages, add_generation_prompt, bos_token, …"""
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.nodes import Node, Scope
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the answers in templates for training; transformers takes it, and here it changes nothing."""

        tags = frozenset({"generation"})

        def parse(self, parser: Parser) -> Node:
            line = next(parser.stream).lineno
            return Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    environment.filters["tojson"] = tojson
    environment.globals |= {"raise_exception": raise_exception, "strftime_now": lambda form: datetime.now().strftime(form)}
    return environment.from_string(template).render(**values)


def main() -> None:
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]  # jinja2 may lie where -I does not look
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        text = render(request["template"], request["values"])
        answer = {"text": text} if len(text) <= LONGEST else {"error": f"it gave {len(text):,} characters, the limit is {LONGEST:,}"}
    except MemoryError:
        answer = {"error": "it needs more memory than a template may take"}
    except Exception as error:  # noqa: BLE001 whatever a template does is the template's mistake
        answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
