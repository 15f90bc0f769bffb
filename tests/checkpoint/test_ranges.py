"""One range from servers that misbehave on purpose: each is a script of what the socket sends, and each ends in words, soon."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from weighbridge.checkpoint import ranges
from weighbridge.checkpoint.ranges import Deadline, Ranges, retry_after
from weighbridge.errors import WeighbridgeError

GOOD = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/100\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n0123456789"
Script = Callable[[socket.socket, int], None]


class Server(threading.Thread):
    """Answers each connection, by its number, with `script`. `requests` holds what was asked."""

    def __init__(self, script: Script) -> None:
        super().__init__(daemon=True)
        self.script, self.requests, self.sent = script, [], 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/file"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(connection, len(self.requests)), daemon=True).start()

    def answer(self, connection: socket.socket, number: int) -> None:
        with connection:
            try:
                self.requests.append(connection.recv(65536).decode())
                self.script(connection, number)
            except OSError:
                pass


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], Server]]:
    monkeypatch.setattr(ranges, "PAUSE", 0.01)
    monkeypatch.setattr(ranges, "TIMEOUT", 0.25)
    monkeypatch.setattr(ranges, "PATIENCE", 0.8)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers: list[Server] = []

    def serve(script: Script) -> Server:
        servers.append(Server(script))
        servers[-1].start()
        return servers[-1]

    yield serve
    for server in servers:
        server.listener.close()


def says(answer: bytes) -> Script:
    return lambda connection, number: connection.sendall(answer)


def for_ever(piece: bytes, every: float = 0.0, first: bytes = b"", most: int = 1 << 40) -> Script:
    """`piece` again and again, until the other side has enough (or, so that no test hangs, for ten seconds)."""
    def send(connection: socket.socket, number: int) -> None:
        connection.sendall(first)
        until, sent = time.monotonic() + 10, 0
        while time.monotonic() < until and sent < most:
            connection.sendall(piece)
            sent += len(piece)
            time.sleep(every)

    return send


def in_turn(*scripts: Script) -> Script:
    return lambda connection, number: scripts[min(number, len(scripts) - 1)](connection, number)


def get(server: Server, reader: Ranges | None = None) -> ranges.Answer:
    return (reader or Ranges()).get(server.url, "the file", 0, 10)


def head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def test_a_good_answer(served) -> None:
    assert get(served(says(GOOD))) == (b"0123456789", 100, '"a"')


PART = head("206 Partial Content", "Content-Range: bytes 0-9/100")
ENDLESS = {
    "bytes of a body": (for_ever(b"x", 0.1, PART), "timeout"),
    "bytes of a chunked body": (for_ever(b"1\r\nx\r\n", 0.2, head("206 P", "Content-Range: bytes 0-9/100", "Transfer-Encoding: chunked")), "timeout"),
    "a body whose length nobody said": (for_ever(b"x", 0.1, head("200 OK")), "timeout"),
    "headers": (for_ever(b"A: b\r\n", 0.05, b"HTTP/1.1 206 P\r\n"), "timeout"),
    "headers at full speed": (for_ever(b"A: b\r\n", 0, b"HTTP/1.1 206 P\r\n"), "bad-answer"),
    "one header": (for_ever(b"A" * 4096, 0, b"HTTP/1.1 206 P\r\nB: "), "bad-answer"),
    "a status line": (for_ever(b"H", 0.1), "timeout"),
    "interim answers": (for_ever(head("100 Continue")), "bad-answer"),
    "slow interim answers": (for_ever(head("100 Continue"), 0.1), "timeout"),
    "nothing": (for_ever(b"", 0.1), "timeout"),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_what_has_no_end(served, what: str) -> None:
    script, code = ENDLESS[what]
    server, began = served(script), time.monotonic()
    with pytest.raises(WeighbridgeError) as caught:
        get(server)
    assert caught.value.first.code == code and caught.value.first.where == "the file" and caught.value.first.hint
    assert time.monotonic() - began < 3


def test_the_body_of_a_redirect_is_not_read(served) -> None:
    """It may have six gigabytes. The second server is asked at once, and the first can send no more than what its socket holds."""
    second, sent = served(says(GOOD)), []

    def flood(connection: socket.socket, number: int) -> None:
        connection.sendall(head("302 Found", f"Location: {second.url}", "Content-Length: 6000000000"))
        for _ in range(2000):
            connection.sendall(bytes(1 << 20))
            sent.append(1)

    assert get(served(flood)).data == b"0123456789"
    time.sleep(0.1)
    assert len(sent) < 50


def test_a_body_longer_than_the_range_is_left_there(served) -> None:
    assert get(served(for_ever(bytes(1 << 16), 0, PART))).data == bytes(10)
    with pytest.raises(WeighbridgeError, match="does not know ranges"):
        get(served(for_ever(bytes(1 << 16), 0, head("200 OK"))))


@pytest.mark.parametrize("status", ["408 Request Timeout", "429 Too Many Requests", "500 Error", "503 Service Unavailable"])
def test_a_status_that_passes(served, status: str) -> None:
    server = served(in_turn(says(head(status)), says(head(status)), says(GOOD)))
    assert get(server).data == b"0123456789" and len(server.requests) == 3


def test_a_connection_that_breaks_is_asked_again(served) -> None:
    server = served(in_turn(says(b""), says(GOOD[:-3]), says(b"nonsense\r\n\r\n"), says(GOOD)))
    assert get(server).data == b"0123456789" and len(server.requests) == 4


def test_retry_after_is_kept(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PATIENCE", 5)
    server = served(in_turn(says(head("429 Too Many Requests", "Retry-After: 1")), says(GOOD)))
    began = time.monotonic()
    assert get(server).data == b"0123456789" and 1 <= time.monotonic() - began < 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_nobody_waits_an_hour(served, form: str) -> None:
    said = "3600" if form == "seconds" else format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    server = served(says(head("503 Service Unavailable", f"Retry-After: {said}")))
    with pytest.raises(WeighbridgeError, match=r"says 503 and asks to wait 3,\d\d\d seconds"):
        get(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("said", "seconds"), [
    ("7", 7), (" 7 ", 7), ("", 0), ("-7", 0), ("soon", 0), ("1e9", 0), ("9" * 40, 0), ("٣", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Wed, 99 Foo", 0),
])
def test_what_retry_after_may_say(said: str, seconds: float) -> None:
    assert retry_after({"Retry-After": said}) == seconds
    later = datetime.now(timezone.utc) + timedelta(seconds=90)
    assert 80 < retry_after({"Retry-After": format_datetime(later, usegmt=True)}) <= 90 and retry_after({}) == 0


@pytest.mark.parametrize(("status", "given", "words"), [
    ("401 Unauthorized", "", "wants a name and a password, or a token"),
    ("401 Unauthorized", "Bearer hf_secret", "refuses the name and password, or the token"),
])
def test_401_says_whether_a_token_was_there(served, status: str, given: str, words: str) -> None:
    server = served(says(head(status)))
    with pytest.raises(WeighbridgeError, match=words) as caught:
        get(server, Ranges(given or None))
    assert caught.value.first.code == "no-access" and "hf_secret" not in str(caught.value)
    assert len(server.requests) == 1 and ("hf_secret" in server.requests[0]) == bool(given)


def test_a_token_does_not_follow_to_another_port(served) -> None:
    second = served(says(GOOD))
    first = served(says(head("302 Found", f"Location: {second.url}")))
    assert get(first, Ranges("Bearer hf_secret")).data == b"0123456789"
    assert "hf_secret" in first.requests[0] and "hf_secret" not in second.requests[0]


def test_a_redirect_into_itself_ends(served) -> None:
    server = served(lambda connection, number: connection.sendall(head("302 Found", f"Location: /{number}")))
    with pytest.raises(WeighbridgeError, match="sends on without end"):
        get(server)
    assert len(server.requests) < 20


def test_slow_and_honest_has_its_time(served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for a range grows with its length."""
    monkeypatch.setattr(ranges, "SLOWEST", 2)
    assert get(served(for_ever(b"x", 0.15, PART, most=10))).data == b"x" * 10


def test_a_deadline_leaves_no_thread(served) -> None:
    before = threading.active_count()
    with Deadline(60) as deadline:
        assert deadline.left() > 59
    time.sleep(0.05)
    assert threading.active_count() <= before
