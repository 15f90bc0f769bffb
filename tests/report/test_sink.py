"""The sink: one document on stdout or in a file, and nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from weighbridge.errors import Problem, Refused, Usage, WeighbridgeError
from weighbridge.report import failure, sink

DOCUMENT = {"schema": "weighbridge.test/1", "value": 3}


def never(_: object) -> str:
    raise AssertionError("a form that nobody asked for was made")


def test_json_has_schema_and_version(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink.emit(DOCUMENT, never, never, "json")
    out = capfdbinary.readouterr().out
    assert out.endswith(b"}\n") and list(json.loads(out)) == ["schema", "version", "value"]


def test_text_and_markdown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sink.emit(DOCUMENT, lambda _: "é", never)
    assert capsys.readouterr().out == "é\n"
    sink.emit(DOCUMENT, never, lambda _: "# m", "markdown", tmp_path / "m.md")
    assert (tmp_path / "m.md").read_text() == "# m\n" and capsys.readouterr().out == ""
    with pytest.raises(Usage):
        sink.emit(DOCUMENT, never, None, "markdown")


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "f"):
        with pytest.raises(WeighbridgeError) as caught:
            sink.emit(DOCUMENT, lambda _: "t", output=path)
        assert str(path) in caught.value.first.where


def test_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert sink.colour(Terminal()) and not sink.colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not sink.colour(Terminal())


def test_many_alike_are_counted() -> None:
    alike = [Problem("missing-tensor", f"no shard holds it; needs [{n}, 4]", f"t{n}", "download again") for n in range(30)]
    text = failure.text(Refused([*alike, Problem("config", "is odd", "config.json", "mend it")]))
    assert "31 problems:" in text and "30 times missing-tensor, the first 5:" in text
    assert "t4:" in text and "t5:" not in text and "config.json: is odd" in text
    assert text.count("download again") == 1
    assert len(failure.document(Refused(alike))["problems"]) == 30


def test_twenty_are_all_shown() -> None:
    text = failure.text(Refused([Problem("a", f"{n} is odd", f"t{n}") for n in range(20)]))
    assert text.count("error[a]") == 20


@pytest.mark.parametrize(("format", "file", "wanted"), [
    (None, None, "text"), (None, "a.svg", "svg"), (None, "a.HTM", "html"), (None, "a.md", "markdown"), (None, "a.txt", "text"), ("json", "a.svg", "json"),
])
def test_the_form_follows_the_flag_then_the_ending(format: str | None, file: str | None, wanted: str) -> None:
    assert sink.form(format, Path(file) if file else None) == wanted
