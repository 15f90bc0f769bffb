"""Makes docs/rules.md, docs/failures.md and docs/layouts.md from the rules, the corpus and the rows of layouts: `python docs/make_pages.py`. A test holds that they are up to date."""

from __future__ import annotations

import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from layout_table import layouts_page

HERE = Path(__file__).resolve().parent

RULES_HEAD = """# Rules of `check`

One rule is one file in `weighbridge/check/rules/`: code, page and function. `weighbridge explain WB101` prints the page of a rule,
`--select` and `--ignore` take codes or their beginnings (`WB3` is the group). "Read in" names the version of the reader's code in which a rule was read;
`--runtime vllm@0.11` names another where versions differ.

"""

FAILURES_HEAD = """# The collection of failures

Public reports of quantized checkpoints that failed, sorted by cause. Each row that files, configuration and scale bytes can decide has a small synthetic
checkpoint with the one fault in `tests/failures/`, and a twin without it. `make test` runs both: the fault must be found by the rule at the place, the twin must
be clean. Several rules in one row are variants of the cause; a row `D+` holds variants of its
group that no report names.

"""


def rules_page() -> str:
    from weighbridge.check.pages import row, sections
    from weighbridge.check.rule import GROUPS, rules

    every = rules()
    lines = [RULES_HEAD]
    for number, group in GROUPS.items():
        mine = [loaded for code, loaded in every.items() if code[2] == number]
        if not mine:
            continue
        lines.append(f"## {group[0].upper() + group[1:]}\n")
        lines += ["| code | name | severity | about | what it says |", "| --- | --- | --- | --- | --- |"]
        for loaded in mine:
            r = row(loaded)
            lines.append(f"| [{r['code']}](#{r['code'].lower()}) | {r['name']} | {r['severity']} | {', '.join(r['runtimes']) or 'the files'} | {r['says'].replace('|', chr(92) + '|')} |")
        lines.append("")
    for code, loaded in every.items():
        r = row(loaded)
        read = "; ".join(f"{name}: {version}" for name, version in r["read_in"].items())
        lines.append(f"<a id=\"{code.lower()}\"></a>\n\n## {code} {r['name']}\n\n{r['says'][:1].upper() + r['says'][1:]}\n")
        lines.append(f"*{r['severity']}; {', '.join(r['runtimes']) or 'the files alone'}{'; read in ' + read if read else ''}*\n")
        lines += [f"**{heading}**\n\n{body}\n" for heading, body in sections(loaded.page).items()]
    return "\n".join(lines).rstrip() + "\n"


def failures_page() -> str:
    sys.path.insert(0, str(HERE.parent))
    modules = [import_module(f"tests.failures.{path.stem}") for path in sorted((HERE.parent / "tests" / "failures").glob("rows_*.py"))]
    rows: dict[str, list] = defaultdict(list)
    undecided: dict[str, str] = {}
    for module in modules:
        for row in module.ROWS:
            rows[row.id].append(row)
        undecided |= module.UNDECIDED
    lines = [FAILURES_HEAD + f"{len(rows)} rows are found; {len(undecided)} are not decided from files.\n", "| row | rule | reader | variants | verdict |",
             "| --- | --- | --- | --: | --- |"]
    for name in sorted({*rows, *undecided}, key=lambda n: (n[0], int("".join(c for c in n if c.isdigit()) or 0))):
        mine = rows.get(name, [])
        codes = ", ".join(f"[{c}](rules.md#{c.lower()})" for c in dict.fromkeys(r.code for r in mine))
        readers = ", ".join(dict.fromkeys(r.runtimes or "the files" for r in mine))
        verdict = "found, twin clean" if mine else f"not decided: {undecided[name]}"
        lines.append(f"| {name} | {codes} | {readers} | {len(mine) or ''} | {verdict} |")
    return "\n".join(lines) + "\n"


PAGES = {"rules.md": rules_page, "failures.md": failures_page, "layouts.md": layouts_page}

if __name__ == "__main__":
    for file, make in PAGES.items():
        (HERE / file).write_text(make(), encoding="utf-8")
