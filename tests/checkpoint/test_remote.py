"""Remote checkpoints over loopback servers: web folders with their faults, a hub and a bucket."""

from __future__ import annotations

import json
import re
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.parse import unquote, urlsplit

import pytest

import weighbridge as wb
from weighbridge.checkpoint import cache, ranges, remote
from weighbridge.checkpoint.checkpoint import INDEX
from weighbridge.checkpoint.source import open_checkpoint, open_store
from weighbridge.errors import Refused, Usage, WeighbridgeError
from weighbridge.testing.tiny import RAGGED, write_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARD = "model-00001-of-00130.safetensors"


class Handler(BaseHTTPRequestHandler):
    """Files of `server.root` with ranges, and the fault named by `server.fault`."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        self.server.requests.append((self.path, dict(self.headers)))
        path = unquote(urlsplit(self.path).path)
        if self.server.fault == "drip":
            return self.drip()
        if path == self.server.late and self.server.asked[path] >= self.server.times:
            self.server.asked[path] += 1
            return self.send(200, self.server.pages["LATE"].encode(), {"Content-Type": "application/json"})
        if path in self.server.pages:
            return self.send(200, self.server.pages[path].encode(), {"Content-Type": "application/json"})
        if self.server.fault == "slow":
            time.sleep(0.3)
        if self.server.fault == "redirect":
            return self.send(302, b"", {"Location": self.server.target + (path if self.server.target.endswith("0") else "")})
        self.server.asked[path] += 1
        if self.server.fault.isdigit() and self.server.asked[path] <= self.server.times:
            return self.send(int(self.server.fault), b"", self.server.said)
        file = self.server.root / path.removeprefix(self.server.prefix).lstrip("/")
        if not path.startswith(self.server.prefix) or not file.is_file():
            return self.send(404, b"", {})
        return self.file(file.read_bytes())

    def drip(self) -> None:
        """A body of one byte now and then; it ends when the other side does."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    def file(self, data: bytes) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not match or self.server.fault == "no-ranges":
            return self.send(200, data, {})
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        if first >= len(data):
            return self.send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        said = {"other-range": f"{first + 1}-{last + 1}/{len(data) + 1}", "backwards": f"{first}-{first - 1}/{first}"}
        headers = {"Content-Range": "bytes " + said.get(self.server.fault, f"{first}-{last}/{len(data)}")}
        return self.send(206, data[first : last + 1], headers | ({"Content-Encoding": "gzip"} if self.server.fault == "gzip" else {}))

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        length = len(data) + {"long": 7, "short": -7}.get(self.server.fault, 0) if data else 0
        headers = {"Content-Length": str(length), "ETag": self.server.etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.server.fault == "broken" else data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.prefix, self.fault, self.target, self.times = root, "/m/", "", "", 2
        self.etag, self.said, self.late = '"1"', {}, ""
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.asked: Counter[str] = Counter()
        self.pages: dict[str, str] = {}
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}/m"

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No waiting, no cache of the user, no proxy, no token."""
    monkeypatch.setattr(ranges, "PAUSE", 0)
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = write_tiny(tmp_path / "tiny", **RAGGED)
    (out / "tokenizer.json").write_text("{}")
    (out / "merges.txt").write_text("")
    return out


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def refusal(src: str) -> WeighbridgeError:
    with pytest.raises(WeighbridgeError) as caught:
        open_checkpoint(src)
    return caught.value


def same(src: str, folder: Path) -> wb.Model:
    """`src` and the local folder hold the same headers, and `inspect` says the same of both."""
    here, there = wb.open(folder), wb.open(src)
    assert there.checkpoint.headers == here.checkpoint.headers
    assert there.checkpoint.headers and there.checkpoint.digest == here.checkpoint.digest
    said = [json.dumps(model.inspect()).replace(model.checkpoint.label, "SRC") for model in (here, there)]
    assert said[0] == said[1]
    return there


@pytest.mark.parametrize("tail", ["", "/", "/config.json", f"/{INDEX}", f"/{SHARD}"])
def test_a_web_folder_is_the_local_one(server: Server, folder: Path, tail: str) -> None:
    model = same(server.url + tail, folder)
    assert model.checkpoint.label == server.url
    assert model.checkpoint.files == open_store(folder).files() and model.checkpoint.files["merges.txt"] == 0


def test_each_shard_is_asked_once(server: Server, folder: Path) -> None:
    same(server.url, folder)
    asked = [path for path, _ in server.requests if path.endswith(".safetensors")]
    assert sorted(asked) == sorted(set(asked)) and len(asked) == 2


def test_ranges_are_those_of_the_file(server: Server, folder: Path) -> None:
    store, data = open_store(server.url), (folder / SHARD).read_bytes()
    assert len(data) > cache.FIRST
    for offset, length in [(0, 64), (8, 100), (cache.FIRST - 3, 9), (cache.FIRST + 1, 5), (len(data) - 4, 99), (len(data), 1), (0, len(data))]:
        assert store.read(SHARD, offset, length) == data[offset : offset + length]
    assert store.path(SHARD) is None
    with pytest.raises(WeighbridgeError, match="no such file"):
        store.read("../tiny/config.json", 0, 1)


def test_a_header_longer_than_the_first_chunk(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "FIRST", 100)
    monkeypatch.setattr(remote, "FIRST", 100)
    same(server.url, folder)


def test_one_read_has_a_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(server.url)
    monkeypatch.setattr(cache, "READ_LIMIT", 1000)
    with pytest.raises(WeighbridgeError, match="1,001 bytes in one read, the limit is 1,000"):
        store.read(SHARD, 0, 1001)


def test_one_file_without_an_index(server: Server, folder: Path, tmp_path: Path) -> None:
    server.root = write_tiny(tmp_path / "one", **RAGGED, shards=1)
    (server.root / INDEX).unlink(missing_ok=True)
    next(server.root.glob("*.safetensors")).rename(server.root / "model.safetensors")
    same(server.url, server.root)
    (server.root / "model.safetensors").rename(server.root / "other name.safetensors")
    assert refusal(server.url).first.code == "no-weights"
    same(server.url + "/other%20name.safetensors", server.root)


@pytest.mark.parametrize("layout", ["neuron", "hf-bf16"])
def test_conversion_wants_local_weights(server: Server, tmp_path: Path, layout: str) -> None:
    server.root = write_tiny(tmp_path / "even")
    model = wb.open(server.url)
    with pytest.raises(WeighbridgeError, match="not on this machine") as caught:
        model.convert(tmp_path / "out", layout)
    assert caught.value.first.code == "not-local" and not (tmp_path / "out").exists()


@pytest.mark.parametrize("status", ["500", "503", "429"])
def test_a_fault_that_passes(server: Server, folder: Path, status: str) -> None:
    server.fault = status
    same(server.url, folder)


@pytest.mark.parametrize(("fault", "code", "words"), [
    ("500", "http", "says 500"), ("401", "no-access", "401"), ("403", "no-access", "403"), ("418", "http", "418"),
    ("long", "bad-answer", "Content-Length says"),
    ("short", "bad-answer", "Content-Length says"), ("broken", "bad-answer", "broke off"), ("other-range", "bad-answer", "Content-Range says"),
    ("416", "bad-answer", "no such range"),
    ("gzip", "bad-answer", "compressed"), ("no-ranges", "no-ranges", "does not know ranges"),
])
def test_a_fault_that_stays(server: Server, fault: str, code: str, words: str) -> None:
    server.fault, server.times = fault, 99
    problem = refusal(server.url).first
    assert problem.code == code and words in problem.message and problem.where.startswith(server.url) and problem.hint


def test_small_files_need_no_ranges(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.fault = "no-ranges"
    monkeypatch.setattr(remote, "FIRST", 64 << 20)
    same(server.url, folder)


def test_an_index_that_leads_out(server: Server, folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    names = list(index["weight_map"])
    bad = ["../../x.safetensors", "/etc/x.safetensors", "http://other/x.safetensors", "a?b#c%2e.safetensors", "x.bin"]
    index["weight_map"].update(zip(names, bad, strict=False))
    (folder / INDEX).write_text(json.dumps(index))
    error = refusal(server.url)
    assert isinstance(error, Refused)
    assert sorted(p.code for p in error.problems) == ["index-path"] * 3 + ["shard-missing"] * 2
    asked = [path for path, _ in server.requests]
    assert all(path.startswith("/m/") and ".." not in path for path in asked) and "/m/a%3Fb%23c%252e.safetensors" in asked


@pytest.mark.parametrize("text", ["[]", "{", '{"weight_map": 7}', '{"weight_map": {"a": 7}}'])
def test_a_bad_index_is_said_by_the_checkpoint(server: Server, folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    assert refusal(server.url).first.where.endswith(INDEX)


def test_an_index_that_names_too_many_files(server: Server, folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {str(i): f"{i}.safetensors" for i in range(remote.SHARD_LIMIT + 1)}}))
    assert "names 2,001 files" in refusal(server.url).first.message and len(server.requests) == 1


def test_what_is_not_there(server: Server, folder: Path) -> None:
    (folder / SHARD).unlink()
    assert [(p.code, p.where) for p in refusal(server.url).problems] == [("shard-missing", SHARD)]
    problem = refusal(f"http://{server.host}/elsewhere").first
    assert problem.code == "not-found" and "neither config.json" in problem.message


def test_a_file_that_changes(server: Server, folder: Path) -> None:
    store = open_store(server.url)
    server.fault = "backwards"
    with pytest.raises(WeighbridgeError, match="Content-Range says"):
        store.read(SHARD, cache.FIRST + 1, 5)
    server.fault = ""
    with open(folder / SHARD, "ab") as file:
        file.write(b"more")
    with pytest.raises(WeighbridgeError, match="bytes, now"):
        store.read(SHARD, cache.FIRST + 1, 5)


@pytest.mark.parametrize(("first", "then", "changed"), [('"1"', '"2"', True), ('W/"1"', '"1"', False), ('"1"', "", True), ("", "", False)])
def test_a_file_whose_version_changes(server: Server, first: str, then: str, changed: bool) -> None:
    """Equal sizes, other bytes: an ETag (or a date) tells."""
    server.etag = first
    store = open_store(server.url)
    server.etag = then
    if changed:
        with pytest.raises(WeighbridgeError, match="the file changed while it was read") as caught:
            store.read(SHARD, cache.FIRST + 1, 5)
        assert caught.value.first.code == "source-changed" and caught.value.first.where.endswith(SHARD)
    else:
        assert len(store.read(SHARD, cache.FIRST + 1, 5)) == 5


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_redirects_that_leave_http(server: Server, target: str) -> None:
    server.fault, server.target = "redirect", target
    problem = refusal(server.url).first
    assert problem.code == "redirect" and target.partition(":")[0] + "://" in problem.message
    server.target = server.url
    assert "without end" in refusal(server.url).first.message


def test_a_password_goes_to_its_host_only(server: Server, folder: Path) -> None:
    with serving(folder) as second:
        second.fault, second.target = "redirect", f"http://{server.host}/m/%0"
        second.pages["/m/" + INDEX] = (folder / INDEX).read_text()
        error = refusal(f"http://me:pa%40ss@{second.host}/m?sig=hid den")
    assert second.requests and all(h["Authorization"] == "Basic bWU6cGFAc3M=" for _, h in second.requests)
    assert server.requests and not any("Authorization" in h for _, h in server.requests)
    assert all("sig=hid%20den" in path for path, _ in second.requests)
    assert not re.search("hid.*den|pa%40ss|pa@ss", str(error))


def test_a_server_that_is_slow(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "TIMEOUT", 0.05)
    monkeypatch.setattr(ranges, "RETRIES", 1)
    server.fault = "slow"
    assert refusal(server.url).first.code == "timeout"


def test_a_certificate_in_words() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_message = "self-signed certificate"
    problem = ranges._failure(URLError(error), "https://host/m").first
    assert problem.code == "certificate" and "self-signed" in problem.message and not ranges._may_pass(URLError(error))


def test_a_server_that_is_not_there(server: Server) -> None:
    assert refusal("http://127.0.0.1:1/m").first.code == "offline"
    assert refusal("http://no-such-host.invalid/m").first.code == "offline"
    assert refusal(f"https://{server.host}/m").first.code == "offline"


@pytest.mark.parametrize("uri", ["http://", "https://[x/y", "http://host:port/x", "http://me:secret#x@host/m", "ftp://me:secret@host/x",
                                 "https://me:secret@[x/m?secret", "file:///etc", "hf://a/b/c", "hf://datasets/a", "HF://../x"])
def test_what_is_no_source(uri: str) -> None:
    with pytest.raises(Usage) as caught:
        open_store(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("uri", "module", "extra"), [
    ("hf://org/name", "huggingface_hub", "hub"), ("org/name@v1", "huggingface_hub", "hub"), ("s3://bucket/x", "obstore", "s3"),
    ("https://huggingface.co/org/name/blob/main/config.json", "huggingface_hub", "hub"),
])
def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, uri: str, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    problem = refusal(uri).first
    assert problem.code == "no-" + extra and problem.hint == f"pip install 'weighbridge[{extra}]'"


@pytest.mark.parametrize(("url", "uri"), [
    ("https://huggingface.co/org/name", "hf://org/name"), ("https://hf.co/org/name/", "hf://org/name"),
    ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", "hf://org/name@refs/pr/1"),
    ("https://huggingface.co/org/na.me/resolve/v1/config.json?download=true", "hf://org/na.me@v1"),
    ("https://huggingface.co/datasets/org", None), ("https://huggingface.co/org/name/tree/main/sub", None), ("https://other/org/name", None),
])
def test_pasted_pages(url: str, uri: str | None) -> None:
    assert remote._hub_page(urlsplit(url)) == uri


@pytest.fixture
def hub(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", f"http://{server.host}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    listing = [{"rfilename": f.name, "size": f.stat().st_size} for f in folder.iterdir()] + [{"rfilename": "sub/x.safetensors", "size": 9}]
    server.pages["/api/models/org/name"] = server.pages["/api/models/org/name/revision/v1"] = json.dumps(
        {"id": "org/name", "sha": COMMIT, "siblings": listing, "private": False, "tags": [], "downloads": 0, "likes": 0})
    server.prefix = f"/org/name/resolve/{COMMIT}/"
    return server


@pytest.mark.parametrize("src", ["hf://org/name", "org/name@v1", "HOST/org/name/tree/v1"])
def test_a_repository_of_the_hub(hub: Server, folder: Path, src: str) -> None:
    model = same(src.replace("HOST", f"http://{hub.host}"), folder)
    assert model.checkpoint.label == f"hf://org/name@{COMMIT}" and "sub/x.safetensors" not in model.checkpoint.files
    assert {h.get("Authorization", h.get("authorization")) for path, h in hub.requests if "org/name" in path} == {"Bearer hf_secret"}


def test_headers_of_a_commit_are_kept_on_disk(hub: Server, folder: Path, tmp_path: Path) -> None:
    same("hf://org/name", folder)
    hub.requests.clear()
    same("hf://org/name", folder)
    assert len(hub.requests) == 1
    for kept in (tmp_path / "cache" / "heads").iterdir():
        kept.write_bytes(kept.read_bytes()[:-1])
    same("hf://org/name", folder)


def test_what_the_hub_does_not_have(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for src in ("hf://org/other", "hf://org/name@gone"):
        problem = refusal(src).first
        assert problem.code == "not-found" and "hf_secret" not in problem.message
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert refusal("hf://org/name").first.code == "offline"


@pytest.mark.parametrize(("status", "said", "token", "code", "words", "hint"), [
    (401, {}, True, "no-access", "refuses your token", "HF_TOKEN"), (401, {}, False, "no-access", "wants a token", "set HF_TOKEN"),
    (403, {"X-Error-Code": "GatedRepo"}, True, "no-access", "owner of the repository", "ask for access at http://HOST/org/other"),
    (403, {}, True, "no-access", "refuses access (status 403)", "http://HOST/org/other"),
    (404, {"X-Error-Code": "RepoNotFound"}, True, "not-found", "no repository of this name", "look at the name"),
    (429, {"Retry-After": "900"}, True, "http", "says 429 and asks to wait 900 seconds", "try again then"),
    (503, {}, True, "http", "says 503, 4 times", "try again later"),
])
def test_what_the_hub_refuses(hub: Server, monkeypatch: pytest.MonkeyPatch, status: int, said: dict, token: bool, code: str, words: str, hint: str) -> None:
    if not token:
        monkeypatch.delenv("HF_TOKEN")
    hub.fault, hub.times, hub.said = str(status), 99, said
    error = refusal("hf://org/other")
    assert error.first.code == code and words in error.first.message and hint.replace("HOST", hub.host) in error.first.hint
    assert "hf_secret" not in str(error) + error.first.hint
    assert hub.asked["/api/models/org/other"] == (4 if status == 503 else 1)


@pytest.mark.parametrize("status", ["429", "503"])
def test_what_passes_at_the_hub(hub: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    """Both the hub's API and its files are asked again, not before `Retry-After` allows it."""
    page, hub.late = hub.pages.pop("/api/models/org/name"), "/api/models/org/name"
    hub.pages["LATE"] = page
    hub.fault, hub.times, hub.said = status, 1, {"Retry-After": "1"}
    waits: list[float] = []
    for module in (remote, ranges):
        monkeypatch.setattr(module.time, "sleep", waits.append)
    same("hf://org/name", folder)
    assert hub.asked["/api/models/org/name"] == 2 and waits and set(waits) == {1.0}


@pytest.mark.parametrize("token", ["hf_sec\tret", "hf_sec ret", "hf_secrét"])
def test_a_token_that_cannot_be_sent_is_not_shown(hub: Server, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    error = refusal("hf://org/name")
    assert error.first.where == "HF_TOKEN" and "hf_sec" not in str(error) and not hub.requests


def test_a_gated_file_names_the_page(hub: Server) -> None:
    """A gated repository may list its files, and refuse them."""
    hub.fault, hub.times, hub.said = "403", 99, {"X-Error-Code": "GatedRepo"}
    problem = refusal("hf://org/name").first
    assert problem.code == "no-access" and problem.hint == f"ask for access at http://{hub.host}/org/name"


def test_a_hub_that_sends_without_end(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fault = "drip"
    monkeypatch.setattr(ranges, "PATIENCE", 0.3)
    began = time.monotonic()
    assert refusal("hf://org/name").first.code == "timeout" and time.monotonic() - began < 3


@pytest.fixture
def bucket(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    pytest.importorskip("obstore")
    for name, value in {"AWS_ENDPOINT_URL": f"http://{server.host}", "AWS_ALLOW_HTTP": "true", "AWS_SKIP_SIGNATURE": "true",
                        "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    rows = "".join(f"<Contents><Key>some/m/{f.name}</Key><Size>{f.stat().st_size}</Size><ETag>1</ETag>"
                   "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>" for f in folder.iterdir())
    server.pages["/bucket"] = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
    server.prefix = "/bucket/some/m/"
    return server


def test_a_bucket(bucket: Server, folder: Path) -> None:
    assert same("s3://bucket/some/m/", folder).checkpoint.label == "s3://bucket/some/m"


def test_a_bucket_that_is_not_there(bucket: Server) -> None:
    bucket.pages.clear()
    assert refusal("s3://bucket/some/m").first.code == "not-found"
    bucket.fault, bucket.times = "403", 99
    assert refusal("s3://bucket/some/m").first.code == "no-access"


def test_check_says_of_a_web_folder_what_it_says_of_the_local_one(server: Server, folder: Path) -> None:
    """All rules, scale bytes included: of a network source at most 64 scale tensors are read."""
    here, there = ([(f["code"], f["severity"]) for f in wb.open(src).check("vllm", "transformers", "neuron", tp=2)["findings"]
                    if f["code"] != "WB420"] for src in (folder, server.url))
    assert here and here == there
