"""Looks over a built site: every link inside leads to a page and a place that exist, and no page asks another host for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src", "audio": "src", "use": "href", "object": "data", "embed": "src"}
NOT_FETCHED = {"canonical", "alternate", "next", "prev"}  # `rel` of a <link> that only names a page


class Page(HTMLParser):
    """The ids of one page, where its links lead, and what it fetches."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if given.get(name) and (name == "id" or tag == "a")}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if FETCHED.get(tag) in given and not (tag == "link" and set(given.get("rel", "").split()) & NOT_FETCHED):
            self.fetched.append(given[FETCHED[tag]])
        self.fetched += re.findall(r"url\(['\"]?([^'\")]+)", given.get("style", ""))


def problems(site: Path) -> list[str]:
    """What is wrong with the site in this folder, one line each."""
    found, pages = [], {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        shown = path.relative_to(site)
        found += [f"{shown}: {link} leads nowhere" for link in page.links if path.name != "404.html" and not _leads(link, path, pages)]
        found += [f"{shown}: fetches {what} from another host" for what in page.fetched if _foreign(what)]
        found += [f"{shown}: {what} is not there" for what in page.fetched if path.name != "404.html" and not _foreign(what) and not _there(what, path)]
    for path in sorted(site.rglob("*.css")):
        body = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        wanted = re.findall(r"url\(['\"]?([^'\")]+)", body) + re.findall(r"@import\s+['\"]([^'\"]+)", body)
        found += [f"{path.relative_to(site)}: fetches {what} from another host" for what in wanted if _foreign(what)]
    return found


def _foreign(target: str) -> bool:
    return urlsplit(target).scheme in ("http", "https") or target.startswith("//")


def _target(link: str, path: Path) -> Path:
    return (path.parent / unquote(urlsplit(link).path)).resolve()


def _there(link: str, path: Path) -> bool:
    return urlsplit(link).scheme == "data" or _target(link, path).is_file()


def _leads(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link to this site has an end; one that leaves it is not followed."""
    parts = urlsplit(link)
    if parts.scheme or link.startswith("//"):
        return True
    target = _target(link, path) if parts.path else path.resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    page = pages.get(target) or next((known for other, known in pages.items() if other.resolve() == target), None)
    return not parts.fragment or page is None or unquote(parts.fragment) in page.ids
