"""Checkpoints that are elsewhere: `https://` folders, repositories of the hub, buckets. Only ranges of bytes are brought here."""

from __future__ import annotations

import base64
import os
import queue
import re
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from weighbridge.checkpoint import ranges
from weighbridge.checkpoint.cache import FIRST, Answer, Disk, Remote, parallel
from weighbridge.checkpoint.checkpoint import INDEX, JSON_LIMIT
from weighbridge.checkpoint.ranges import AGAIN, Absent, Ranges, busy, gated, pause, unusable, without_secrets
from weighbridge.checkpoint.store import Store, unsafe_name
from weighbridge.errors import Usage, WeighbridgeError

SHARD_LIMIT = 2_000  # files named by one index; the largest published models have a few hundred

# A web folder has no listing: these are looked for, beside the index and the shards that it names.
SIDE_FILES = ("config.json", "generation_config.json", "neuron_config.json", "weighbridge.json", "tokenizer.json", "tokenizer_config.json",
              "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja")
SINGLE = "model.safetensors"

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
    web = _WebFolder(Ranges(authorization), without_secrets(parts._replace(path=path)), secret)
    web.find([unquote(pasted)] if pasted.endswith(".safetensors") else [])
    return web.store


class _WebFolder:
    """The sizes of the files that are there, found by reading their first bytes."""

    def __init__(self, reader: Ranges, base: str, query: str) -> None:
        self.reader, self.base, self.query = reader, base, query
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
            answer = self.reader.get(self._url(file), self.base + file, 0, FIRST)
        except Absent as error:
            return error
        self.store.first[file] = answer.data
        self.sizes[file] = answer.size
        self.store.versions[file] = answer.version
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
        return self.reader.get(self._url(file), self.base + file, offset, length)


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
    token = _sendable(get_token() or "")
    page = f"{_public_endpoint(endpoint)}/{repo}"
    api = HfApi(endpoint=endpoint, token=token or False)
    info = _asked(lambda: api.model_info(repo, revision=revision, files_metadata=True, timeout=ranges.TIMEOUT), uri, token, page)
    if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
        raise unusable(uri, "it names no commit")
    sizes = {f.rfilename: f.size for f in info.siblings or [] if f.size is not None and _near(f.rfilename)}
    reader = Ranges(f"Bearer {token}" if token else None, page)
    label = f"hf://{repo}@{info.sha}"

    def fetch(file: str, offset: int, length: int) -> Answer:
        return reader.get(hf_hub_url(repo, file, revision=info.sha, endpoint=endpoint), f"{label}/{file}", offset, length)

    return Remote(label, sizes, fetch, Disk(f"{endpoint or ''} {label}"))


def _sendable(token: str) -> str:
    """A token that fits into a header; what refuses another one would print it."""
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Usage("the token holds a character that no token has (a blank, a line end or a letter that is not ASCII)", "HF_TOKEN",
                    "copy the token again")
    return token


def _public_endpoint(endpoint: str | None) -> str:
    return without_secrets(urlsplit(endpoint)) if endpoint else "https://huggingface.co"


def _asked(question: Callable[[], Any], uri: str, token: str, page: str) -> Any:
    """The hub's answer. What may pass is asked again as `Retry-After` says, within `ranges.PATIENCE` seconds in all."""
    until = time.monotonic() + ranges.PATIENCE
    for attempt in range(ranges.RETRIES + 1):
        try:
            return _within(until - time.monotonic(), question)
        except Exception as error:  # noqa: BLE001 huggingface_hub promises no root of its errors
            response = getattr(error, "response", None)
            wait = pause(attempt, getattr(response, "headers", None))
            passing = getattr(response, "status_code", None) in AGAIN and attempt < ranges.RETRIES
            if not passing or time.monotonic() + wait > until:
                raise _hub_failure(error, uri, token, page) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _within(seconds: float, question: Callable[[], Any]) -> Any:
    """huggingface_hub limits each read in time, but not all of an answer: it is asked in a thread that nobody waits for longer."""
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:  # noqa: BLE001 it is raised below
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer, error = answers.get(timeout=max(0.0, seconds))
    except queue.Empty:
        raise TimeoutError(f"no answer in {ranges.PATIENCE} seconds") from None
    if error is not None:
        raise error
    return answer


def _hub_failure(error: Exception, uri: str, token: str, page: str) -> WeighbridgeError:
    """The words for what huggingface_hub raised. Its classes moved between versions: they are told apart by name."""
    names = {kind.__name__ for kind in type(error).__mro__}
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if "GatedRepoError" in names:
        return gated(uri, page, bool(token))
    if "RevisionNotFoundError" in names:
        return WeighbridgeError("not-found", "the repository has no such branch, tag or commit", uri, "look at what follows the @")
    if status == 401:
        return _no_token(uri, bool(token))
    if status == 403:
        return WeighbridgeError("no-access", "the hub refuses access (status 403)", uri,
                                f"look at {page}" + (" and at the rights of your token" if token else ", and set HF_TOKEN"))
    if status == 404:
        return WeighbridgeError("not-found", "the hub has no repository of this name that you may see (status 404)", uri,
                                "look at the name" + ("" if token else "; for a private repository, set HF_TOKEN"))
    if "HFValidationError" in names:
        return Usage("is not the name of a repository", uri, "hf://org/name or hf://org/name@revision")
    if isinstance(error, TimeoutError) or any("Timeout" in name for name in names):
        return WeighbridgeError("timeout", "the hub does not answer in time", uri, "try again later")
    if status in AGAIN:
        return busy("the hub", status, response.headers, uri)
    words = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    words = re.sub(r"//[^/@\s]*@", "//", words.replace(token, "…") if token else words)
    return WeighbridgeError("http" if status else "offline", f"the hub does not answer: {words}", uri, "look at your connection")


def _no_token(uri: str, token: bool) -> WeighbridgeError:
    """401. Without a token the hub says so of every name that it does not show: private, gated or not there."""
    if token:
        return WeighbridgeError("no-access", "the hub refuses your token (status 401): it is wrong or no longer valid", uri,
                                "set HF_TOKEN to a valid token, or unset it (`hf auth logout`) for a public repository")
    return WeighbridgeError("no-access", "the hub wants a token for this name (status 401): the repository is private, gated, or not there", uri,
                            "look at the name, and set HF_TOKEN")


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
            got = obstore.get(store, file, options={"range": (offset, offset + length)})
            return Answer(bytes(got.bytes()), got.meta["size"], got.meta["e_tag"] or "")
        except Exception as error:
            raise _s3_failure(error, f"{label}/{file}") from error

    label = f"s3://{bucket}/{prefix}".rstrip("/")
    try:
        plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")  # our options would hide the variable
        store = S3Store(bucket, prefix=prefix or None, client_options={"timeout": f"{ranges.TIMEOUT}s", "allow_http": plain},
                        retry_config={"max_retries": ranges.RETRIES})
        found = [o for sub in (None, "weights") for o in obstore.list_with_delimiter(store, sub)["objects"]]
    except Exception as error:
        raise _s3_failure(error, label) from error
    sizes = {o["path"]: o["size"] for o in found if _near(o["path"])}
    if not sizes:
        raise WeighbridgeError("not-found", "no object lies below this prefix", label, "give the prefix that holds config.json")
    return Remote(label, sizes, fetch, versions={o["path"]: o["e_tag"] for o in found if o["e_tag"]})


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
