"""Ranges of bytes over http and https. The other side is hostile until it is read: what it sends is bounded in size, in number and in time."""

from __future__ import annotations

import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache, partial
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import IO, Any
from urllib import request as urlreq
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, urljoin, urlsplit

from weighbridge.version import __version__
from weighbridge.checkpoint.cache import Answer
from weighbridge.errors import WeighbridgeError

TIMEOUT = 15  # seconds without a byte
PATIENCE, SLOWEST = 60, 10_000  # seconds for one range with all of its retries; bytes/s of it that are waited for besides
RETRIES = 3
PAUSE = 0.25  # seconds before the first retry; twice as long before each other one, longer where `Retry-After` says so
AGAIN = frozenset((408, 429, *range(500, 600)))  # statuses that may pass
INTERIM = 20  # answers 1xx before the one that counts

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


class Absent(WeighbridgeError):
    """The server does not give this file (403, 404 or 410: a bucket without listing says 403 for what is not there)."""


class Ranges:
    """Reads ranges of bytes. `authorization` goes to the host of the URL and to no other; `page` is where one asks for access to it."""

    def __init__(self, authorization: str | None = None, page: str = "") -> None:
        self.authorization, self.page = authorization, page
        self.opener = urlreq.OpenerDirector()  # `build_opener` would bring file://, ftp:// and data: along
        for handler in (urlreq.ProxyHandler(), _Plain(), _Secure(context=_certificates()), urlreq.UnknownHandler(),
                        urlreq.HTTPDefaultErrorHandler(), urlreq.HTTPErrorProcessor(), _Redirects()):
            self.opener.add_handler(handler)

    def get(self, url: str, where: str, offset: int, length: int) -> Answer:
        """`length` bytes from `offset`, or fewer at the end. `where` is what messages call the URL.

        Raises `Absent`, or `WeighbridgeError` after the retries, or when the time for this range is over.
        """
        with Deadline(PATIENCE + length / SLOWEST) as deadline:
            for attempt in range(RETRIES + 1):
                answer, again, wait = self._attempt(url, where, offset, length, deadline, attempt)
                if deadline.passed:  # whatever came was cut off
                    raise WeighbridgeError("timeout", f"{length:,} bytes were asked for and are not here in {deadline.seconds:,.0f} seconds", where,
                                           "try again later, or give another server")
                if isinstance(answer, Answer):
                    return answer
                if not again or attempt == RETRIES or wait > deadline.left():
                    raise answer
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _attempt(self, url: str, where: str, offset: int, length: int, deadline: Deadline,
                 attempt: int) -> tuple[Answer | WeighbridgeError, bool, float]:
        """The answer, or why there is none; whether to ask again; and after how many seconds."""
        try:
            with self.opener.open(self._request(url, offset, length, deadline), timeout=TIMEOUT) as response:
                return _answer(response, where, offset, length), False, 0.0
        except HTTPError as error:
            with error:
                if error.code == 416:
                    return _past_end(error, where, offset), False, 0.0
                return self._status(error, where), error.code in AGAIN, pause(attempt, error.headers)
        except WeighbridgeError as failure:
            return failure, False, 0.0
        except (OSError, HTTPException, ValueError) as error:
            failure = _failure(error, where)
            failure.__cause__ = error
            return failure, _may_pass(error), pause(attempt)

    def _request(self, url: str, offset: int, length: int, deadline: Deadline) -> urlreq.Request:
        request = urlreq.Request(url, headers={"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity",
                                        "User-Agent": f"weighbridge/{__version__}"})
        request.deadline = deadline  # type: ignore[attr-defined] - urllib passes requests to handlers, and nothing else
        if self.authorization:
            request.add_unredirected_header("Authorization", self.authorization)
        return request

    def _status(self, error: HTTPError, where: str) -> WeighbridgeError:
        """The words for a status that is no success."""
        code = error.code
        if self.page and error.headers.get("X-Error-Code") == "GatedRepo":
            return gated(where, self.page, bool(self.authorization))
        if code in (404, 410):
            return Absent("not-found", f"the server has no such file (status {code})", where, "look at the address")
        if code == 403:
            return Absent("no-access", "the server refuses access, or has no such file (status 403)", where, "look at address and rights")
        if code in (401, 407):
            said = "refuses the name and password, or the token, that it got" if self.authorization else "wants a name and a password, or a token"
            return WeighbridgeError("no-access", f"the server {said} (status {code})", where,
                                    "give https://name:password@…, or HF_TOKEN for the hub")
        if 300 <= code < 400:
            return WeighbridgeError("redirect", f"the server sends on without end (status {code})", where, "look at the address")
        return busy("the server", code, error.headers, where)


def gated(where: str, page: str, token: bool) -> WeighbridgeError:
    """A repository of the hub whose owner lets in whom he chooses."""
    return WeighbridgeError("no-access", "the owner of the repository must give you access", where,
                            f"ask for access at {page}" + ("" if token else ", and set HF_TOKEN"))


def busy(who: str, status: int, headers: Mapping[str, str], where: str) -> WeighbridgeError:
    """A status that did not pass. 429 and 503 may say how long they last."""
    again = f", {RETRIES + 1} times" if status in AGAIN else ""
    asked = retry_after(headers)
    if status not in AGAIN:
        return WeighbridgeError("http", f"{who} says {status}", where, "look at the address")
    if asked > 0:
        return WeighbridgeError("http", f"{who} says {status} and asks to wait {asked:,.0f} seconds", where, "try again then")
    return WeighbridgeError("http", f"{who} says {status}{again}", where, "try again later")


def pause(attempt: int, headers: Mapping[str, str] | None = None) -> float:
    """Seconds before the next attempt."""
    return max(PAUSE * 2**attempt, retry_after(headers or {}))


def retry_after(headers: Mapping[str, str]) -> float:
    """`Retry-After` in seconds from now: a number, or a date (RFC 9110, 10.2.3). 0 where it says neither."""
    said = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}", said, re.ASCII):
        return float(said)
    try:
        when = parsedate_to_datetime(said)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or timezone.utc) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


class Deadline:
    """Ends the requests of one range when its time is over, whatever is sent by then: bytes one by one, or interim answers without end."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.until, self.passed = seconds, time.monotonic() + seconds, False
        self.sockets: list[socket.socket] = []
        self.timer = threading.Timer(seconds, self._end)
        self.timer.daemon = True

    def __enter__(self) -> Deadline:
        self.timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()

    def left(self) -> float:
        return self.until - time.monotonic()

    def watch(self, connected: socket.socket) -> None:
        self.sockets.append(connected)
        if self.passed:
            self._end()

    def _end(self) -> None:
        self.passed = True
        for connected in list(self.sockets):
            try:
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # of a TLS socket, too: no farewell, which could wait
            except OSError:
                pass


class _Response(HTTPResponse):
    """Gives up after `INTERIM` answers 100: `http.client` reads them for ever."""

    interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self.interim += 1
        if self.interim > INTERIM:
            raise HTTPException(f"more than {INTERIM} interim answers (100 Continue)")
        return super()._read_status()  # type: ignore[misc]


class _PlainConnection(HTTPConnection):
    response_class = _Response

    def __init__(self, host: str, deadline: Deadline, **given: Any) -> None:
        super().__init__(host, **given)
        self.deadline = deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _SecureConnection(HTTPSConnection):
    response_class = _Response

    def __init__(self, host: str, deadline: Deadline, **given: Any) -> None:
        super().__init__(host, **given)
        self.deadline = deadline

    def connect(self) -> None:
        super().connect()  # the handshake has TIMEOUT in all
        self.deadline.watch(self.sock)


@cache
def _certificates() -> ssl.SSLContext:
    """Those of the system, or of SSL_CERT_FILE; reading them takes longer than a request."""
    return ssl.create_default_context()


class _Plain(urlreq.HTTPHandler):
    def http_open(self, req: urlreq.Request) -> HTTPResponse:
        return self.do_open(partial(_PlainConnection, deadline=req.deadline), req)  # type: ignore[arg-type, attr-defined]


class _Secure(urlreq.HTTPSHandler):
    def https_open(self, req: urlreq.Request) -> HTTPResponse:
        return self.do_open(partial(_SecureConnection, deadline=req.deadline), req, context=self._context)  # type: ignore[arg-type, attr-defined]


class _Redirects(urlreq.HTTPRedirectHandler):
    """Follows to http and https only, never from https to http; another host does not get the authorization. Bodies are not read."""

    def http_error_302(self, req: urlreq.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        fp.close()
        new = urlsplit(urljoin(req.full_url, headers.get("Location") or ""))
        old = urlsplit(req.full_url)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            raise WeighbridgeError("redirect", f"the server sends on from {old.scheme}:// to {new.scheme}://, which is not followed",
                                   without_secrets(old), "give the address where the files are")
        return super().http_error_302(req, io.BytesIO(), code, msg, headers)  # it would read all of `fp`

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: urlreq.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> urlreq.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request:
            request.deadline = req.deadline  # type: ignore[attr-defined]
        authorization = req.unredirected_hdrs.get("Authorization")
        if request and authorization and urlsplit(newurl)[:2] == urlsplit(req.full_url)[:2]:
            request.add_unredirected_header("Authorization", authorization)
        return request


def _answer(response: HTTPResponse, where: str, offset: int, length: int) -> Answer:
    """The checked body of a 2xx. Raises `IncompleteRead` where it broke off, `WeighbridgeError` for what no retry mends."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise unusable(where, f"it is compressed ({response.headers['Content-Encoding']!r}), which was not asked for")
    if response.status == 206:
        said = response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(said)
        first, last, size = map(int, match.groups()) if match else (-1, -1, -1)
        if not first == offset <= last or last + 1 != min(offset + length, size):
            raise unusable(where, f"bytes {offset:,} to {offset + length - 1:,} were asked for, Content-Range says {said[:80]!r}")
        part = last + 1 - first
        if response.length not in (None, part):
            raise unusable(where, f"Content-Range gives {part:,} bytes, Content-Length says {response.length:,}")
        data = response.read(part)
        if len(data) < part:
            raise IncompleteRead(data, part - len(data))
        return Answer(data, size, version)
    if response.status != 200:
        raise unusable(where, f"status {response.status} is not 206 (a part) or 200 (the whole)")
    whole = response.length  # what Content-Length says; None without it
    data = b"" if offset or (whole or 0) > length else response.read(length + 1)
    if offset or max(whole or 0, len(data)) > length:
        raise _no_ranges(where, offset, length, whole)
    if whole is not None and len(data) < whole:
        raise IncompleteRead(data, whole - len(data))
    return Answer(data, len(data), version)


def _past_end(error: HTTPError, where: str, offset: int) -> Answer | WeighbridgeError:
    """416: the range begins behind the end, as any range of an empty file does."""
    said = error.headers.get("Content-Range", "")
    if not re.fullmatch(r"bytes \*/\d{1,19}", said) or int(said[8:]) > offset:
        return unusable(where, f"byte {offset:,} was asked for, it says 416 (no such range) and Content-Range {said[:80]!r}")
    return Answer(b"", int(said[8:]))


def unusable(where: str, message: str) -> WeighbridgeError:
    return WeighbridgeError("bad-answer", f"the server's answer cannot be used: {message}", where, "give another server")


def _no_ranges(where: str, offset: int, length: int, whole: int | None) -> WeighbridgeError:
    sent = f"all {whole:,} bytes" if whole is not None else "the whole file"
    return WeighbridgeError("no-ranges", f"the server does not know ranges: {length:,} bytes from {offset:,} were asked for, it sends {sent}",
                            where, "download the checkpoint, or give a server that supports Range requests")


def _may_pass(error: Exception) -> bool:
    """Whether a retry can help."""
    reason = error.reason if isinstance(error, URLError) else error
    return not isinstance(reason, ssl.SSLCertVerificationError | socket.gaierror | ValueError | str)


def _failure(error: Exception, where: str) -> WeighbridgeError:
    """The words for a connection that did not come about, or broke."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return WeighbridgeError("certificate", f"the server's certificate is not trusted: {reason.verify_message}", where,
                                "look at the address; SSL_CERT_FILE names the certificates of your own authority")
    if isinstance(reason, TimeoutError):
        return WeighbridgeError("timeout", f"no answer in {TIMEOUT} seconds, {RETRIES + 1} times", where, "try again later")
    if isinstance(reason, socket.gaierror):
        return WeighbridgeError("offline", f"the name of the server cannot be found: {reason.strerror}", where,
                                "look at the address and at your connection")
    if isinstance(reason, IncompleteRead):
        lost = f"{len(reason.partial):,} of {len(reason.partial) + (reason.expected or 0):,} bytes came"
        return WeighbridgeError("bad-answer", f"the answer broke off, {RETRIES + 1} times: {lost}", where, "try again later")
    if isinstance(reason, HTTPException) and not isinstance(reason, OSError):
        return WeighbridgeError("bad-answer", f"the server's answer cannot be read: {str(reason)[:200] or type(reason).__name__}", where,
                                "try again later, or give another server")
    words = (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)[:200]
    return WeighbridgeError("offline", f"the server cannot be reached: {words}", where, "look at the address and at your connection")


def without_secrets(parts: SplitResult) -> str:
    """A URL without what may be secret in it."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
