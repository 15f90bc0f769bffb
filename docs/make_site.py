"""Makes the generated pages and pictures of docs/, then the docs site: `python docs/make_site.py` (or `make docs`).

    python docs/make_site.py             pages, pictures, and the site in out/site
    python docs/make_site.py --pages     only the pages and pictures of docs/ (a test holds that they are up to date)

The site is built by Zensical (`pip install '.[docs]'`) from out/docs, a copy of docs/ in which each rule has a page of its own. It opens from its folder, without
a server and without a request to another host; a broken link ends the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import make_api
import make_guide
import make_pages
import make_verbs
import site_links

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = ROOT / "out"
COPIED = (".svg", ".json", ".css", ".js", ".png")
SHIM = 'src="https://unpkg.com/iframe-worker/shim"'  # what Zensical would fetch for search without a server; docs/site.js stands in for it
RENAMED = {"fp8/README.md": "fp8/index.md", "fp8/README.zh.md": "fp8/zh.md", "rules.md": "rules/index.md"}
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))|(?<=src=\")([^\"]+)(?=\")|(?<=srcset=\")([^\"]+)(?=\")|(?<=href=\")([^\"]+)(?=\")")


def write_pages() -> list[str]:
    """Write every generated page and picture of docs/, and return the names of those that changed."""
    changed = []
    for make in (listed, make_api.pages, make_verbs.pages, make_guide.pictures, make_guide.pages):
        for name, text in make().items():
            path = HERE / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                changed.append(name)
    return changed


def listed() -> dict[str, str]:
    """{file below docs/: text} of the pages that docs/make_pages.py makes: rules, failures and layouts."""
    return {name: make() for name, make in make_pages.PAGES.items()}


def write_tree(tree: Path) -> None:
    """Copy docs/ into `tree` as the site wants it: a page for each rule, links that fit, files of the repository that pages name."""
    shutil.rmtree(tree, ignore_errors=True)
    for path in sorted(HERE.rglob("*")):
        name = path.relative_to(HERE).as_posix()
        if path.suffix in COPIED:
            _put(tree / name, path.read_bytes())
        elif path.suffix == ".md" and name != "rules.md":
            text = relinked(path.read_text(encoding="utf-8"), name, lambda source: _put(tree / "files" / source, (ROOT / source).read_bytes()))
            _put(tree / site_name(name), (in_chinese(text) if name.endswith(".zh.md") else text).encode())
    for name, text in rule_pages().items():
        _put(tree / name, text.encode())


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def in_chinese(text: str) -> str:
    """The page as an element that says its language, so that a reader takes the right glyphs and the right voice."""
    title, _, rest = text.partition("\n")
    return f"{title}\n\n<div lang=\"zh-Hans\" markdown=\"1\">\n{rest}\n</div>\n" if title.startswith("# ") else f"<div lang=\"zh-Hans\" markdown=\"1\">\n\n{text}\n</div>\n"


def site_name(name: str) -> str:
    """Where a page of docs/ stands in the site's tree."""
    return RENAMED.get(name, name)


def relinked(text: str, name: str, take: Callable[[str], None]) -> str:
    """`text` with links that hold in the site's tree. `take` is called with each file outside of docs/ that the page links to."""
    here = os.path.dirname(site_name(name))

    def moved(match: re.Match[str]) -> str:
        target, hash_, anchor = match[0].partition("#")
        if not target or re.match(r"^[a-z]+:", target):
            return match[0]
        source = os.path.normpath(os.path.join("docs", os.path.dirname(name), target))
        if source == "docs/rules.md" and anchor:
            return os.path.relpath(f"rules/{anchor}.md", here or ".")
        if source.startswith("docs/"):
            return os.path.relpath(site_name(source.removeprefix("docs/")), here or ".") + hash_ + anchor
        if source == "README.md":
            return os.path.relpath("index.md", here or ".")
        take(source)
        return os.path.relpath(f"files/{source}", here or ".")

    fenced, lines = False, []
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        # A picture is a link to itself: at full size its letters can be read on a phone.
        lines.append(line if fenced else re.sub(r"^(!\[[^\]]*\]\(([^)]+)\))$", r"[\1](\2)", LINK.sub(moved, line)))
    return "\n".join(lines) + "\n"


def rule_pages() -> dict[str, str]:
    """The list of rules and a page for each, from the rule files."""
    from weighbridge.check.pages import row, sections
    from weighbridge.check.rule import rules

    table = re.sub(r"\(#(wb\d+)\)", r"(\1.md)", make_pages.rules_page().partition("<a id=")[0])
    found = {"rules/index.md": table}
    for code, loaded in rules().items():
        told = row(loaded)
        read = "; ".join(f"{name}: {version}" for name, version in told["read_in"].items())
        body = "\n".join(f"## {heading}\n\n{text}\n" for heading, text in sections(loaded.page).items())
        found[f"rules/{code.lower()}.md"] = (
            f"# {code} {told['name']}\n\n{told['says'][:1].upper() + told['says'][1:]}\n\n*{told['severity']}; {', '.join(told['runtimes']) or 'the files alone'}"
            f"{'; read in ' + read if read else ''}. Group: [{told['group']}](index.md).*\n\n{body}\n```sh\nweighbridge explain {code}\n```\n")
    return found


def config() -> str:
    """zensical.toml for out/: its navigation has the renamed pages and a section for each group of rules."""
    from weighbridge.check.rule import GROUPS, rules

    groups = []
    for number, group in GROUPS.items():
        mine = [f'{{ "{code} {loaded.rule.name}" = "rules/{code.lower()}.md" }}' for code, loaded in rules().items() if code[2] == number]
        if mine:
            groups.append(f'{{ "{group[0].upper() + group[1:]}" = [{", ".join(mine)}] }}')
    text = (ROOT / "zensical.toml").read_text(encoding="utf-8").replace('"rules.md"', f'["rules/index.md", {", ".join(groups)}]')
    text = text.replace('site_dir = "out/site"', 'site_dir = "site"')
    for old, new in RENAMED.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    return text


def build() -> Path:
    """Build the site and look over its links. Ends the process with words where something is broken."""
    write_tree(OUT / "docs")
    (OUT / "zensical.toml").write_text(config(), encoding="utf-8")
    site = OUT / "site"
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", str(OUT / "zensical.toml")]
    done = subprocess.run(command, check=False, cwd=OUT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    if done.returncode:
        said = re.sub(r"\x1b\[[\d;]*m", "", (done.stdout + done.stderr).partition("Traceback")[0]).strip()
        sys.exit(f"{said}\nzensical ended with {done.returncode} (`pip install '.[docs]'` brings it)")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(SHIM, f'src="{os.path.relpath(site / "site.js", page.parent)}"'), encoding="utf-8")
    wrong = site_links.problems(site)
    if wrong:
        sys.exit("the site is broken:\n  " + "\n  ".join(wrong))
    return site


if __name__ == "__main__":
    for changed in write_pages():
        print(f"wrote docs/{changed}")
    if "--pages" not in sys.argv[1:]:
        made = build()
        print(f"{len(list(made.rglob('*.html')))} pages; open {made / 'index.html'}")
