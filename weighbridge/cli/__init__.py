"""The command `weighbridge`: one file per verb, wiring only.

A verb is a function `weighbridge.cli.<verb>.<verb>`: its signature is the command line, its return value the exit
code (None is 0). Verbs are imported when they are called, so that none pays for another's dependencies.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from weighbridge.version import __version__
from weighbridge.cli.signals import handled, number_of
from weighbridge.collector import own_process
from weighbridge.errors import Usage, WeighbridgeError

if TYPE_CHECKING:
    from cyclopts import App

USAGE, INTERNAL, SIGNALLED, PIPE, INT = 2, 101, 128, 141, 2

# The help lines stand here: taken from the functions, they would load every verb for `--help`.
VERBS = {
    "inspect": "What is in this checkpoint, really? Per role: encoding, block, counts, parameters, bytes; and what the config claims.",
    "check": "Will a runtime load this checkpoint, with this configuration and parallelism, and compute the right thing?",
    "convert": "Write the checkpoint that a runtime wants, or say what that would cost.",
    "verify": "Do two checkpoints hold the same weights? Tensor by tensor, with the error of each and its bound.",
    "trace": "Which way does one tensor go, and what happens to its bytes and its scale at each step?",
    "run": "Does it talk? Text from the stored bytes, FP8 or converted, on a plain CPU, in a stated amount of memory.",
    "compare": "At which layer do two runs part? Two checkpoints, two number formats, or recorded activations.",
    "explain": "A rule, a number format, a term, or the numbers of one real tensor, worked by hand.",
    "draw": "The architecture, with what is quantized in it: text, Markdown, SVG; of one rank; or the whole conversion in one picture.",
    "report": "Everything that is known of a checkpoint in one page that opens by a double click.",
    "demo": "All of it on a small trained MiniMax-M2 that comes with the package.",
}

EXAMPLES = {
    "convert": "Examples:\n\n  weighbridge convert SRC\n\n  weighbridge convert SRC DST --to ct-fp8-block --block auto --tp 8\n\n"
               "  weighbridge convert SRC DST --to ct-int4 --group 64 --zero-points\n\n  weighbridge convert SRC DST --for vllm --device h100",
}

SHORT = {"output": "-o", "prompt": "-p"}  # a parameter of this name has this short flag, in every verb
QUICK = {"inspect", "check", "draw", "report"}  # verbs so fast that the import of cyclopts would show


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Every exception ends here."""
    if argv is None:
        own_process()
    arguments = list(sys.argv[1:] if argv is None else argv)
    _tell_of_compiling()
    try:
        with handled():
            code = _run(arguments)
        sys.stdout.flush()
        return code
    except WeighbridgeError as error:
        return _report(error, error.exit_code, arguments)
    except KeyboardInterrupt as error:
        return _stopped(error, arguments)
    except BrokenPipeError:
        _drop_stdout()
        return PIPE
    except OSError as error:
        place = str(error.filename or "")
        wrapped = WeighbridgeError("io", error.strerror or str(error), place)
        wrapped.__cause__ = error
        return _report(wrapped, USAGE, arguments)
    except Exception as error:  # noqa: BLE001 the last line of defence: exit 101
        return _internal(error, arguments)


def _tell_of_compiling() -> None:
    """Who waits at a terminal is told why the first use takes long."""
    if not sys.stderr.isatty():
        return
    from weighbridge.encoding import kernels
    from weighbridge.report.sink import talk

    kernels.when_compiling = lambda: talk("compiling kernels for this machine: once, some seconds")


def app() -> App:
    """The cyclopts application, with every verb as an import path."""
    from cyclopts import App, Parameter

    def short(field: Any, taken: frozenset[str]) -> str | None:
        flag = SHORT.get(field.name)
        return flag if flag not in taken else None

    whole = App(name="weighbridge", help="Weighs quantized language-model checkpoints, and carries them between runtimes with proof.",
                version=__version__, help_format="plaintext", result_action="return_value", exit_on_error=False, print_error=False, suppress_keyboard_interrupt=False,
                default_parameter=Parameter(short_alias=short, negative=()))
    for verb in present():
        whole.command(f"weighbridge.cli.{verb}:{verb}", name=verb, help=VERBS[verb], help_epilogue=EXAMPLES.get(verb))
    return whole


def present() -> list[str]:
    """The verbs whose file is here."""
    return [verb for verb in VERBS if os.path.exists(os.path.join(os.path.dirname(__file__), verb + ".py"))]


def _run(arguments: list[str]) -> int:
    arguments = _defaults(arguments)
    verb = arguments[0] if arguments else ""
    if verb in QUICK:
        from weighbridge.cli.quick import bind

        function = getattr(import_module(f"weighbridge.cli.{verb}"), verb)
        bound = bind(function, arguments[1:], SHORT)
        if bound is not None:
            return function(*bound[0], **bound[1]) or 0
    if verb and not verb.startswith("-") and verb not in present():
        # cyclopts would load every verb to find one that is spelled alike.
        raise Usage(f"no verb {verb!r}; there are {', '.join(present())}", hint="see weighbridge --help")
    return _parse(arguments, verb)


def _parse(arguments: list[str], verb: str) -> int:
    from cyclopts import CycloptsError

    try:
        result = app()(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        place = f"{verb} " if verb in VERBS else ""
        raise Usage(" ".join(str(error).split()), hint=f"see weighbridge {place}--help") from error
    return result if isinstance(result, int) else 0


def _defaults(arguments: list[str]) -> list[str]:
    """`--tensors` may stand without a value; cyclopts wants one for an option that is not a flag. What follows `--` is a command for `check` and `report`."""
    given = []
    for place, word in enumerate(arguments):
        if word == "--" and arguments[0] in ("check", "report"):
            return [*given, "--command=" + shlex.join(arguments[place + 1:])]
        if word == "-" and given and given[-1] in ("-o", "--output"):
            given[-1:] = ["--output=-"]  # stdout, as other tools spell it; cyclopts takes a lone dash for an option
            continue
        if word == "--":
            return given + arguments[place:]
        given.append(word)
        if arguments[0] == "explain" and word == "--html" and arguments[place + 1 : place + 2] and arguments[place + 1].endswith((".html", ".htm")):
            given.append("--output")  # `--html page.html` names the file, too
        if word == "--tensors" and (place + 1 == len(arguments) or arguments[place + 1].startswith("-")):
            given.append("*")
    return given


def _stopped(error: KeyboardInterrupt, arguments: list[str]) -> int:
    """A signal ended the work. Who pressed Ctrl-C knows it; any other signal is named, and what the verb says of it is added."""
    number = number_of(error)
    said = str(getattr(error, "__notes__", [""])[0])
    if number == INT and not said and not wants_json(arguments):
        return SIGNALLED + number
    wrapped = WeighbridgeError("stopped", f"stopped by {signal.Signals(number).name}{': ' if said else ''}{said}", arguments[0] if arguments else "",
                               "the same command goes on from there" if said else "")
    try:
        return _report(wrapped, SIGNALLED + number, arguments)
    except OSError:  # the terminal that went away with SIGHUP
        _drop_stdout()
        return SIGNALLED + number


def _internal(error: Exception, arguments: list[str]) -> int:
    """A mistake of this program, not of the user."""
    traced = os.environ.get("WEIGHBRIDGE_DEBUG") == "1"
    wrapped = WeighbridgeError("internal", f"internal error: {type(error).__name__}: {error}",
                               hint="report it with the traceback" if traced else "set WEIGHBRIDGE_DEBUG=1 for the traceback")
    wrapped.__cause__ = error
    return _report(wrapped, INTERNAL, arguments)


def _report(error: WeighbridgeError, code: int, arguments: list[str]) -> int:
    from weighbridge.report import failure, sink

    try:
        if os.environ.get("WEIGHBRIDGE_DEBUG") == "1":
            import traceback

            sink.talk("".join(traceback.format_exception(error)).rstrip())
        if wants_json(arguments):
            sink.put(sink.to_json(failure.document(error)))
        else:
            sink.talk(failure.text(error))
    except BrokenPipeError:
        _drop_stdout()
    return code


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, told without parsing it: it may be the part that cannot be parsed."""
    words = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    return "--format=json" in words or any(pair == ("--format", "json") for pair in pairwise(words))


def _drop_stdout() -> None:
    """The reader went away (`| head`): the interpreter's last flush must not complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass
