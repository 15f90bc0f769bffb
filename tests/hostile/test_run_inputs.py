"""What `run` refuses, in words: files that lack what is needed, prompts that cannot be run, templates that reach out."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

import weighbridge as wb
from weighbridge.checkpoint.source import open_checkpoint
from weighbridge.cli import main
from weighbridge.engine.chat import Chat
from weighbridge.errors import WeighbridgeError

DEMO = Path(wb.__file__).parent / "demo" / "checkpoint"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo checkpoint with its weights linked, so that its side files can be changed."""
    for path in DEMO.iterdir():
        target = tmp_path / path.name
        target.symlink_to(path) if path.suffix == ".safetensors" else shutil.copy(path, target)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], src: Path, *words: object) -> str:
    code = main([str(word) for word in ("run", src, *words)])
    captured = capsys.readouterr()
    assert code == 2 and not captured.out and "Traceback" not in captured.err, captured.err
    return captured.err


def change(folder: Path, file: str, **values: object) -> None:
    settings = json.loads((folder / file).read_text(encoding="utf-8"))
    for key, value in values.items():
        if value is None:
            settings.pop(key, None)
        else:
            settings[key] = value
    (folder / file).write_text(json.dumps(settings), encoding="utf-8")


@pytest.mark.parametrize("words, says", [
    (("-p", ""), "empty"), (("-p", "x", "--layers", "3:9"), "layers"), (("-p", "x", "--layers", "a"), "--layers"),
    (("-p", "x", "--max-memory", "lots"), "not a size"),
    (("-p", "x", "--max-memory", "1kB"), "are needed"), (("-p", "x", "--temperature", "-1"), "temperature"), (("-p", "x", "--top-p", "7"), "--top-p"),
    (("-p", "x", "--chat", "--score", "t"), "--score"), (("-p", "x", "--score", "t"), "-p and --score"),
    (("--capture", "c", "--score", "t"), "--capture and"),
    (("--chat", "--capture", "c"), "--capture"), (("--chat", "--format", "text", "-o", "f"), "-o"), (("-p", "And \udcff he"), "not UTF-8"),
    (("-p", "And \udcff he", "--chat"), "not UTF-8"), (("--score", "no-such-file"), "no-such-file"),
])
def test_questions_that_cannot_be_answered(folder: Path, words: tuple, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in refused(capsys, folder, *words)


def test_a_prompt_longer_than_the_context_shows_both_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, folder, "-p", "begat " * 1500)
    assert "1,024" in err and "context" in err


@pytest.mark.parametrize("content, says", [(None, "no tokenizer.json"), (b"{", "cannot be read"), (b'{"model": 3}', "cannot be read"), (b"\xff\xfe", "cannot be read")])
def test_a_tokenizer_that_is_none(folder: Path, content: bytes | None, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "tokenizer.json").unlink()
    if content is not None:
        (folder / "tokenizer.json").write_bytes(content)
    assert says in refused(capsys, folder, "-p", "And")


def test_a_tokenizer_of_another_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    raw["added_tokens"].append({"id": 2048, "content": "<over>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True})
    (folder / "tokenizer.json").write_text(json.dumps(raw), encoding="utf-8")
    err = refused(capsys, folder, "-p", "And <over>")
    assert "2,048" in err and "vocabulary" in err


@pytest.mark.parametrize("key, value", [("rms_norm_eps", "x"), ("rope_theta", -1), ("hidden_act", "gelu"), ("num_experts_per_tok", None), ("scoring_func", "odd")])
def test_a_config_that_lacks_what_is_needed_names_the_key(folder: Path, key: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "config.json", **{key: value})
    assert key in refused(capsys, folder, "-p", "And")


def test_an_unknown_family(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "config.json", model_type="somebody_else")
    assert "somebody_else" in refused(capsys, folder, "-p", "And")


@pytest.mark.parametrize("value", ["x", [9999], True])
def test_a_generation_config_with_a_wrong_end(folder: Path, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "generation_config.json", eos_token_id=value)
    assert "eos_token_id" in refused(capsys, folder, "-p", "And")


@pytest.mark.parametrize("key, value", [
    ("top_p", 0), ("top_p", 1.5), ("temperature", 1000), ("top_k", 2.5), ("top_k", True), ("do_sample", 1), ("do_sample", "yes")])
def test_a_generation_config_out_of_range_names_the_key_and_no_flag(folder: Path, key: str, value: object, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder, "generation_config.json", **{"do_sample": True, key: value})
    err = refused(capsys, folder, "-p", "And")
    assert f"generation_config.json: {key}" in err and "--" not in err


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff"])
def test_a_generation_config_that_is_none(folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "generation_config.json").write_bytes(content)
    assert "generation_config.json" in refused(capsys, folder, "-p", "And")


@pytest.mark.parametrize("locale", ["surrogateescape", "strict"])
@pytest.mark.parametrize("words", [(), ("--chat",)])
def test_a_stdin_that_is_no_text(folder: Path, words: tuple, locale: str, capsys: pytest.CaptureFixture[str],
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"And \xff he\n"), encoding="utf-8", errors=locale))
    assert "UTF-8" in refused(capsys, folder, *words)


@pytest.mark.parametrize("words", [(), ("--chat",)])
def test_a_closed_stdin(folder: Path, words: tuple, capsys: pytest.CaptureFixture[str],
                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert "-p" in refused(capsys, folder, *words)


@pytest.mark.parametrize("template", [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.__init__.__globals__ }}", "{{ raise_exception.__globals__['resource'] }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{% set x = messages.append(1) %}{{ x }}",
])
def test_a_template_that_reaches_for_python_is_stopped(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(WeighbridgeError) as caught:
        Chat(open_checkpoint(folder)).prompt("x")
    assert caught.value.first.code == "chat-template" and caught.value.first.where == "chat_template.jinja"


@pytest.mark.parametrize("template", ["{{ self._TemplateReference__context }}", "{{ ''|attr('__class__') }}", "{{ ('%s' % messages).format.__self__.__class__ }}",
                                      "{{ messages[0].get.__self__ }}", "{{ ''|map(attribute='__class__')|list }}"])
def test_what_the_sandbox_hides_is_empty(folder: Path, template: str) -> None:
    """Some ways end in an undefined value, which prints as nothing; nothing of Python is in the text."""
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    try:
        text = Chat(open_checkpoint(folder)).prompt("x")
    except WeighbridgeError as error:
        assert error.first.code == "chat-template"
    else:
        assert "class" not in text and "object" not in text and "function" not in text


@pytest.mark.parametrize("template", [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}", "{{ 'a' * 4000000000 }}",
    "{{ '%4000000000s' % 'x' }}", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{ raise_exception('no system message') }}", "{% broken", "{{ 10 ** 10000000000 }}", "{{ 'a' * 5000000 }}",
    "{{ raise_exception('a' * 9000000) }}",
])
def test_a_template_that_takes_all_or_fails_is_stopped(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(WeighbridgeError) as caught:
        Chat(open_checkpoint(folder)).prompt("x")
    assert caught.value.first.code == "chat-template"


def test_no_template_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "chat_template.jinja").unlink()
    assert "chat_template" in refused(capsys, folder, "--chat", "-p", "x")


@pytest.mark.parametrize("module, words", [("tokenizers", ("-p", "And")), ("jinja2", ("--chat", "-p", "And"))])
def test_a_missing_library_is_named_with_its_extra(folder: Path, module: str, words: tuple, capsys: pytest.CaptureFixture[str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    err = refused(capsys, folder, *words)
    assert module in err and "pip install 'weighbridge[run]'" in err
