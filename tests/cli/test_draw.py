"""`weighbridge draw` as scripts use it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.drawing.walk import CONTRACT, nodes
from weighbridge import __version__
from weighbridge.api import Model
from weighbridge.api import open as open_model
from weighbridge.cli import main
from weighbridge.errors import Usage
from weighbridge.testing.tiny import EVEN, write_tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("draw") / "src", **EVEN)


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["draw", *map(str, words)])
    told = capsys.readouterr()
    return code, told.out, told.err


def document(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    code, out, err = run(capsys, *words, "--format", "json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_document_keeps_its_contract(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, source)
    assert (told["schema"], told["version"], told["model_type"]) == ("weighbridge.draw/1", __version__, "minimax_m2")
    assert all(node.keys() >= CONTRACT for node in nodes(told))
    assert {"sizes", "decoder", "active", "cache", "rank", "flow"} <= told.keys()
    assert told["rank"] is None and told["flow"] is None


def test_the_api_gives_the_same(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, source, "--runtime", "sglang", "--tp", 2)
    assert json.loads(json.dumps(open_model(source).draw(runtime="sglang", tp=2))) == {k: v for k, v in told.items() if k != "version"}
    flow = document(capsys, source, "--to", "neuron", "--attention", "exact", "--tp", 4)
    assert json.loads(json.dumps(open_model(source).draw(to="neuron", attention="exact", tp=4))) == {k: v for k, v in flow.items() if k != "version"}


@pytest.mark.parametrize("given", [{"runtime": "vllm", "to": "neuron"}, {"runtime": "vllm,sglang"}, {"runtime": "nobody"}, {"runtime": "vllm", "colour": 1},
                                   {"to": "neuron", "colour": 1}])
def test_the_api_refuses_in_words(source: Path, given: dict) -> None:
    with pytest.raises(Usage):
        Model(source).draw(**given)


def test_text_is_plain_where_no_terminal_is(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, source)
    assert code == 0 and "layers 0-1" in out and "\x1b" not in out


@pytest.mark.parametrize(("ending", "starts"), [("txt", str), ("md", "## "), ("markdown", "## "), ("json", "{"), ("svg", "<"), ("html", "<!")])
def test_the_ending_of_the_file_chooses(source: Path, ending: str, starts: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, source, "-o", tmp_path / f"x.{ending}")
    body = (tmp_path / f"x.{ending}").read_text(encoding="utf-8")
    assert (code, out) == (0, "") and body.lower().startswith(starts if isinstance(starts, str) else str(source).lower())


def test_a_conversion_as_a_picture(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, source, "--to", "neuron", "-o", tmp_path / "x.svg")[0] == 0
    assert "halve" in (tmp_path / "x.svg").read_text(encoding="utf-8")


def test_flags_of_both_kinds(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, source, "--runtime", "vllm", "--tp", 2, "--enable-expert-parallel")
    assert told["rank"]["moe_ep"] == 2 and told["rank"]["moe_tp"] == 1
    flow = document(capsys, source, "--to", "neuron", "--attention", "exact", "--tp", 4, "--shards", "--moe-ep", 4)
    assert flow["flow"]["to"] == "neuron-shards" and flow["rank"] is None


@pytest.mark.parametrize(("words", "says"), [
    (("--runtime", "vllm", "--to", "neuron"), "give one of them"), (("--runtime", "vllm,sglang"), "not one reader"), (("--runtime", "nobody"), "known are"),
    (("--tp", "8"), "goes with --runtime or --to"), (("--attention", "exact"), "goes with --to"), (("--to", "neuron", "--ep", "2"), "goes with --runtime"),
    (("--enable-expert-parallel",), "--enable-expert-parallel"), (("--to", "neuron", "--block", "x"), "rows,columns"), (("--format", "pdf"), "pdf"),
    (("--to", "neuron", "--tp", "5"), "R28"), (("--to", "hf-bf16", "--shards"), "--shards"), (("--nonsense",), "nonsense"),
])
def test_a_mistake_is_two_and_in_words(source: Path, words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, source, *words)
    assert code == 2 and out == "" and says in err and "Traceback" not in err


def test_broken_checkpoints_are_refused_as_ever(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tmp_path / "nowhere")[0] == 2
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "model.safetensors").write_bytes(next(source.glob("*.safetensors")).read_bytes()[:100])
    code, out, err = run(capsys, tmp_path / "cut")
    assert (code, out) == (2, "") and "model.safetensors" in err and "Traceback" not in err
    code, out, _ = run(capsys, tmp_path / "cut", "--format", "json")
    assert code == 2 and json.loads(out)["schema"] == "weighbridge.error/1"


def test_over_a_network_headers_are_enough(source: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    sent: list[int] = []

    class Ranges(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            body, asked = (source / self.path.lstrip("/")), self.headers.get("Range")
            if not body.is_file():
                self.send_error(404)
                return
            data = body.read_bytes()
            first, _, last = asked.removeprefix("bytes=").partition("-") if asked else ("0", "", "")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            self.send_response(206 if asked else 200)
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
            self.send_header("Content-Length", str(end - start + 1))
            self.end_headers()
            self.wfile.write(data[start : end + 1])
            sent.append(end - start + 1)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(source)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        far = document(capsys, f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        thread.join()
    near = document(capsys, source)
    assert {k: v for k, v in far.items() if k != "source"} == {k: v for k, v in near.items() if k != "source"}
    assert sum(sent) < sum(file.stat().st_size for file in source.glob("*.safetensors")) / 2


@pytest.mark.parametrize("words", [(), ("--runtime", "neuron", "--tp", "2"), ("--format", "markdown")])
def test_nothing_heavy_is_loaded(source: Path, words: tuple[str, ...]) -> None:
    code = ("import sys; from weighbridge.cli import main; assert main(['draw', *sys.argv[1:]]) == 0;"
            "assert not {m.partition('.')[0] for m in sys.modules} & {'numpy', 'numba', 'torch', 'ml_dtypes', 'cyclopts', 'rich'}")
    done = subprocess.run([sys.executable, "-c", code, str(source), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
