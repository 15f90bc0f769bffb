"""Checkpoints that are elsewhere: `https://` folders, repositories of the hub, buckets. Only ranges of bytes are brought here."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
import time
from http.client import HTTPException, HTTPMessage, HTTPResponse, IncompleteRead
from typing import IO, Any, NoReturn
from urllib import request as urlreq
from urllib.error import HTTPError, URLError
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import msgspec

from weighbridge import __version__
from weighbridge.checkpoint.cache import FIRST, Answer, Disk, Remote, parallel
from weighbridge.checkpoint.checkpoint import INDEX, JSON_LIMIT
from weighbridge.checkpoint.store import Store, unsafe_name
from weighbridge.errors import Usage, WeighbridgeError

TIMEOUT = 15  # seconds without a byte
RETRIES = 3
PAUSE = 0.25  # seconds before the first retry; twice as long before each other one
AGAIN = frozenset((408, 429, *range(500, 600)))  # statuses that may pass
SHARD_LIMIT = 2_000  # files named by one index; the largest published models have a few hundred

# A web folder has no listing: these are looked for, beside the index and the shards that it names.
SIDE_FILES = ("config.json", "generation_config.json", "neuron_config.json", "weighbridge.json", "tokenizer.json", "tokenizer_config.json",
              "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja")
SINGLE = "model.safetensors"

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_HUB_URI = re.compile(r"hf://(?:models/)?((?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*)(?:@([\w./%-]+))?/?", re.ASCII)
_HUB_PAGE = re.compile(r"/([A-Za-z0-9][\w.-]*/[\w.-]+)(?:/(?:tree|blob|resolve)/([^/]+)(?:/[^/]*\.[^/]*)?)?/?", re.ASCII)
_HUB_PLACES = ("datasets/", "spaces/", "api/", "docs/", "models/", "buckets/")


def open_remote(uri: str) -> Store:
    """A store for `https://`, `http://`, `hf://org/name[@rev]` or `s3://bucket/prefix`; file names and sizes are read at once.

    Raises `WeighbridgeError`: `usage` for another form, `no-hub` or `no-s3` where an extra is not installed, and
    `not-found`, `no-access`, `offline`, `timeout`, `certificate`, `redirect`, `no-ranges`, `bad-answer` or `http`
    for what the other side does. No message holds a password, a token or the query of a signed URL.
    """
    scheme = uri.partition("://")[0].lower()
    if scheme in ("http", "https"):
        parts = _parsed(uri)
        page = _hub_page(parts)
        return _hub(page) if page else _web(parts)
    if scheme == "hf":
        return _hub(uri)
    if scheme == "s3":
        return _s3(uri)
    raise Usage(f"{scheme}:// is not a kind of source", _public(uri), "give a folder, org/name, hf://…, https://… or s3://…")


class Absent(WeighbridgeError):
    """The server does not give this file (403, 404 or 410: a bucket without listing says 403 for what is not there)."""


class Ranges:
    """Reads ranges of bytes from http and https. `authorization` goes to the host of the URL and to no other."""

    def __init__(self, authorization: str | None = None) -> None:
        self.authorization = authorization
        self.opener = urlreq.OpenerDirector()  # `build_opener` would bring file://, ftp:// and data: along
        for handler in (urlreq.ProxyHandler(), urlreq.HTTPHandler(), urlreq.HTTPSHandler(), urlreq.UnknownHandler(),
                        urlreq.HTTPDefaultErrorHandler(), urlreq.HTTPErrorProcessor(), _Redirects()):
            self.opener.add_handler(handler)

    def get(self, url: str, where: str, offset: int, length: int) -> Answer:
        """`length` bytes from `offset`, or fewer at the end. `where` is what messages call the URL.

        Raises `Absent`, or `WeighbridgeError` after the retries.
        """
        for attempt in range(RETRIES + 1):
            try:
                with self.opener.open(self._request(url, offset, length), timeout=TIMEOUT) as response:
                    return _answer(response, where, offset, length)
            except HTTPError as error:
                with error:
                    if error.code == 416:
                        return _past_end(error, where, offset)
                    if attempt == RETRIES or error.code not in AGAIN:
                        raise _status(error, where) from None
            except (OSError, HTTPException, ValueError) as error:
                if attempt == RETRIES or not _may_pass(error):
                    raise _failure(error, where) from error
            time.sleep(PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _request(self, url: str, offset: int, length: int) -> urlreq.Request:
        request = urlreq.Request(url, headers={"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity",
                                        "User-Agent": f"weighbridge/{__version__}"})
        if self.authorization:
            request.add_unredirected_header("Authorization", self.authorization)
        return request


class _Redirects(urlreq.HTTPRedirectHandler):
    """Follows to http and https only, never from https to http; another host does not get the authorization."""

    def http_error_302(self, req: urlreq.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        new = urlsplit(urljoin(req.full_url, headers.get("Location") or ""))
        old = urlsplit(req.full_url)
        if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
            fp.close()
            raise WeighbridgeError("redirect", f"the server sends on from {old.scheme}:// to {new.scheme}://, which is not followed",
                                   _shown(old), "give the address where the files are")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: urlreq.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> urlreq.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if request and authorization and urlsplit(newurl)[:2] == urlsplit(req.full_url)[:2]:
            request.add_unredirected_header("Authorization", authorization)
        return request


def _answer(response: HTTPResponse, where: str, offset: int, length: int) -> Answer:
    """The checked body of a 2xx. Raises `IncompleteRead` where it broke off, `WeighbridgeError` for what no retry mends."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        _bad(where, f"it is compressed ({response.headers['Content-Encoding']!r}), which was not asked for")
    if response.status == 206:
        said = response.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(said)
        first, last, size = map(int, match.groups()) if match else (-1, -1, -1)
        if not first == offset <= last or last + 1 != min(offset + length, size):
            _bad(where, f"bytes {offset:,} to {offset + length - 1:,} were asked for, Content-Range says {said[:80]!r}")
        part = last + 1 - first
        if response.length not in (None, part):
            _bad(where, f"Content-Range gives {part:,} bytes, Content-Length says {response.length:,}")
        data = response.read(part)
        if len(data) < part:
            raise IncompleteRead(data, part - len(data))
        return Answer(data, size)
    if response.status != 200:
        _bad(where, f"status {response.status} is not 206 (a part) or 200 (the whole)")
    whole = response.length  # what Content-Length says; None without it
    data = b"" if offset or (whole or 0) > length else response.read(length + 1)
    if offset or max(whole or 0, len(data)) > length:
        _no_ranges(where, offset, length, whole)
    if whole is not None and len(data) < whole:
        raise IncompleteRead(data, whole - len(data))
    return Answer(data, len(data))


def _past_end(error: HTTPError, where: str, offset: int) -> Answer:
    """416: the range begins behind the end, as any range of an empty file does."""
    said = error.headers.get("Content-Range", "")
    if not re.fullmatch(r"bytes \*/\d{1,19}", said) or int(said[8:]) > offset:
        _bad(where, f"byte {offset:,} was asked for, it says 416 (no such range) and Content-Range {said[:80]!r}")
    return Answer(b"", int(said[8:]))


def _bad(where: str, message: str) -> NoReturn:
    raise WeighbridgeError("bad-answer", f"the server's answer cannot be used: {message}", where, "give another server")


def _no_ranges(where: str, offset: int, length: int, whole: int | None) -> NoReturn:
    sent = f"all {whole:,} bytes" if whole is not None else "the whole file"
    raise WeighbridgeError("no-ranges", f"the server does not know ranges: {length:,} bytes from {offset:,} were asked for, it sends {sent}",
                           where, "download the checkpoint, or give a server that supports Range requests")


def _status(error: HTTPError, where: str) -> WeighbridgeError:
    code = error.code
    if code in (404, 410):
        return Absent("not-found", f"the server has no such file (status {code})", where, "look at the address")
    if code == 403:
        return Absent("no-access", "the server refuses access, or has no such file (status 403)", where, "look at address and rights")
    if code in (401, 407):
        return WeighbridgeError("no-access", f"the server wants a name and a password, or a token (status {code})", where,
                                "give https://name:password@…, or HF_TOKEN for the hub")
    if 300 <= code < 400:
        return WeighbridgeError("redirect", f"the server sends on without end (status {code})", where, "look at the address")
    again = f", {RETRIES + 1} times" if code in AGAIN else ""
    return WeighbridgeError("http", f"the server says {code}{again}", where, "try again later" if again else "look at the address")


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
    words = (getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)[:200]
    return WeighbridgeError("offline", f"the server cannot be reached: {words}", where, "look at the address and at your connection")


def _parsed(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        if parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # its text may hold a password
        pass
    raise Usage("is not a URL: server and port cannot be read", _public(uri))


def _public(uri: str) -> str:
    """What has no form of a URL, without what may be secret in it."""
    return uri.partition("?")[0].rpartition("@")[2]


def _web(parts: SplitResult) -> Remote:
    """Find the files below a folder URL. A URL of config.json, of the index or of a shard means its folder."""
    folder, _, last = parts.path.rpartition("/")
    pasted = last if last.endswith((".safetensors", ".json")) else ""
    path = quote(folder if pasted else parts.path.rstrip("/"), safe="/%~!$&'()*+,;=:@") + "/"
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    secret = "?" + quote(parts.query, safe="/%~!$&'()*+,;=:@?") if parts.query else ""  # a token that holds for a folder
    web = _WebFolder(Ranges(authorization), _shown(parts._replace(path=path)), secret)
    web.find([unquote(pasted)] if pasted.endswith(".safetensors") else [])
    return web.store


class _WebFolder:
    """The sizes of the files that are there, found by reading their first bytes."""

    def __init__(self, ranges: Ranges, base: str, query: str) -> None:
        self.ranges, self.base, self.query = ranges, base, query
        self.sizes: dict[str, int] = {}
        self.store = Remote(base.rstrip("/"), self.sizes, self._fetch)

    def find(self, pasted: list[str]) -> None:
        """Fill `sizes`. A shard that is not there is left out, and the checkpoint says so with the index's other faults."""
        refusal = self._probe(INDEX)  # alone: a server that cannot be reached is said once
        named = self._named() if refusal is None else [SINGLE, *pasted]
        if len(named) > SHARD_LIMIT:
            raise WeighbridgeError("index", f"names {len(named):,} files, the limit is {SHARD_LIMIT:,}", self.base + INDEX)
        wanted = [*SIDE_FILES, *(f for f in dict.fromkeys(named) if unsafe_name(f) is None)]
        refusals = [r for r in parallel(self._probe, wanted) if r]
        if not self.sizes:
            first = refusals[0].first
            raise WeighbridgeError(first.code, f"neither config.json nor {INDEX} nor {SINGLE} is here: {first.message}", self.base,
                                   "give the address of the folder that holds config.json") from refusals[0]

    def _probe(self, file: str) -> Absent | None:
        try:
            answer = self.ranges.get(self._url(file), self.base + file, 0, FIRST)
        except Absent as error:
            return error
        self.store.first[file] = answer.data
        self.sizes[file] = answer.size
        return None

    def _named(self) -> list[str]:
        """Files in the index. What is wrong with its form, the checkpoint says."""
        if self.sizes[INDEX] > JSON_LIMIT:
            return []
        try:
            index = msgspec.json.decode(self.store.read(INDEX, 0, JSON_LIMIT))
            return sorted({str(file) for file in index["weight_map"].values()})
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
            return []

    def _url(self, file: str) -> str:
        """Every sign that could lead out of the folder is quoted; `unsafe_name` has refused `..`."""
        return self.base + quote(file, safe="/", errors="replace") + self.query

    def _fetch(self, file: str, offset: int, length: int) -> Answer:
        return self.ranges.get(self._url(file), self.base + file, offset, length)


def _shown(parts: SplitResult) -> str:
    """A URL without what may be secret in it."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _hub_page(parts: SplitResult) -> str | None:
    """`hf://` for a pasted page of the hub's web site, or None."""
    own = urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc
    match = _HUB_PAGE.fullmatch(parts.path) if parts.netloc in ("huggingface.co", "www.huggingface.co", "hf.co", own) else None
    if not match or parts.path.startswith(tuple("/" + place for place in _HUB_PLACES)):
        return None
    return f"hf://{match[1]}@{unquote(match[2])}" if match[2] else f"hf://{match[1]}"


def _hub(uri: str) -> Remote:
    """A repository of the hub, held to the commit that its revision is now. HF_TOKEN and HF_ENDPOINT are honoured."""
    match = _HUB_URI.fullmatch(uri)
    if not match or match[1].startswith(_HUB_PLACES):
        raise Usage("is not the form of a model repository", uri, "hf://org/name or hf://org/name@revision")
    try:
        from huggingface_hub import HfApi, get_token, hf_hub_url
    except ImportError as error:
        raise WeighbridgeError("no-hub", "huggingface_hub is not installed", uri, "pip install 'weighbridge[hub]'") from error
    repo, revision = match[1], unquote(match[2]) if match[2] else None
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    token = get_token()
    try:
        info = HfApi(endpoint=endpoint, token=token or False).model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except Exception as error:
        raise _hub_failure(error, uri, bool(token)) from error
    if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
        _bad(uri, "it names no commit")
    sizes = {f.rfilename: f.size for f in info.siblings or [] if f.size is not None and _near(f.rfilename)}
    ranges = Ranges(f"Bearer {token}" if token else None)
    label = f"hf://{repo}@{info.sha}"

    def fetch(file: str, offset: int, length: int) -> Answer:
        return ranges.get(hf_hub_url(repo, file, revision=info.sha, endpoint=endpoint), f"{label}/{file}", offset, length)

    return Remote(label, sizes, fetch, Disk(f"{endpoint or ''} {label}"))


def _hub_failure(error: Exception, uri: str, token: bool) -> WeighbridgeError:
    """The words for what huggingface_hub raised. Its classes moved between versions: they are told apart by name."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "GatedRepoError" in names:
        return WeighbridgeError("no-access", "the owner of the repository must give you access", uri,
                                "ask for access on its page" + ("" if token else ", and set HF_TOKEN"))
    if "RevisionNotFoundError" in names:
        return WeighbridgeError("not-found", "the repository has no such branch, tag or commit", uri, "look at what follows the @")
    if status in (401, 403, 404):
        said = "for this token" if token else "without a token"
        return WeighbridgeError("not-found", f"no such repository {said} (status {status})", uri,
                                "look at the name" + ("" if token else "; for a private repository, set HF_TOKEN"))
    if "HFValidationError" in names:
        return Usage("is not the name of a repository", uri, "hf://org/name or hf://org/name@revision")
    words = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    return WeighbridgeError("http" if status else "offline", f"the hub does not answer: {words}", uri, "look at your connection")


def _near(file: str) -> bool:
    """Files in the root and in `weights/`, as in a local folder."""
    return "/" not in file or (file.startswith("weights/") and file.count("/") == 1)


def _s3(uri: str) -> Remote:
    """A prefix of a bucket. Credentials, region and endpoint come from AWS_… as obstore reads them."""
    try:
        import obstore
        from obstore.store import S3Store
    except ImportError as error:
        raise WeighbridgeError("no-s3", "obstore is not installed", uri, "pip install 'weighbridge[s3]'") from error
    bucket, _, prefix = uri[len("s3://"):].partition("/")
    prefix = prefix.strip("/")
    if not bucket:
        raise Usage("names no bucket", uri, "s3://bucket/prefix")

    def fetch(file: str, offset: int, length: int) -> Answer:
        try:
            return Answer(bytes(obstore.get_range(store, file, start=offset, length=length)), sizes[file])
        except Exception as error:
            raise _s3_failure(error, f"{label}/{file}") from error

    label = f"s3://{bucket}/{prefix}".rstrip("/")
    try:
        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")  # our options would hide the variable
        store = S3Store(bucket, prefix=prefix or None, client_options={"timeout": f"{TIMEOUT}s", "allow_http": plain},
                        retry_config={"max_retries": RETRIES})
        found = [o for sub in (None, "weights") for o in obstore.list_with_delimiter(store, sub)["objects"]]
    except Exception as error:
        raise _s3_failure(error, label) from error
    sizes = {o["path"]: o["size"] for o in found if _near(o["path"])}
    if not sizes:
        raise WeighbridgeError("not-found", "no object lies below this prefix", label, "give the prefix that holds config.json")
    return Remote(label, sizes, fetch)


def _s3_failure(error: Exception, where: str) -> WeighbridgeError:
    """The words for what obstore raised; a failed listing has its status in the text alone."""
    text = str(error).strip().partition("\n")[0]
    said = re.search(r"status code: (\d{3})", text)
    kind, status, words = type(error).__name__, said[1] if said else "", text.rpartition(" - ")[2].strip(" :")[:300]
    if "169.254.169.254" in text or kind in ("PermissionDeniedError", "UnauthenticatedError") or status in ("401", "403"):
        return WeighbridgeError("no-access", f"no credentials, or not the right ones: {words}", where,
                                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_SKIP_SIGNATURE=true for a public bucket")
    if kind == "NotFoundError" or status == "404":
        return WeighbridgeError("not-found", f"no such bucket or object: {words}", where, "look at the address")
    return WeighbridgeError("http" if status else "offline", f"the store does not answer: {words}", where,
                            "look at AWS_REGION, AWS_ENDPOINT_URL and your connection")
