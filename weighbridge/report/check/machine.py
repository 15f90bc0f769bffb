"""`check` for machines: SARIF 2.1.0 for code scanning, and workflow commands for GitHub's log."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from weighbridge.report.check import tried
from weighbridge.report.visible import lines, visible
from weighbridge.version import __version__

TRIED = {"loaded": "note", "refused": "error", "unfilled": "error", "unavailable": "warning"}
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(document: dict[str, Any], pages: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """SARIF 2.1.0 (OASIS). `pages` is {code: (name, page)} of the rules; only those with a finding are listed."""
    codes = sorted({f["code"] for f in document["findings"]})
    rules = [{"id": code, "name": pages[code][0], "shortDescription": {"text": pages[code][1].partition("\n")[0]},
              "help": {"text": pages[code][1], "markdown": pages[code][1]}} for code in codes]
    results = [_result(f, codes) for f in document["findings"]]
    driver = {"name": "weighbridge", "version": __version__, "informationUri": "https://pypi.org/project/weighbridge/", "rules": rules}
    run: dict[str, Any] = {"tool": {"driver": driver}, "results": results}
    if document.get("tried"):  # what a reader says is no result of a rule: a notification of the run (3.58)
        told = [{"level": TRIED[one["outcome"]], "message": {"text": visible(tried.sentence(one)).replace("](", "] (")}} for one in document["tried"]]
        run["invocations"] = [{"executionSuccessful": True, "toolExecutionNotifications": told}]
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _result(f: dict[str, Any], codes: list[str]) -> dict[str, Any]:
    where = f["where"]
    logical = [{"fullyQualifiedName": where[key], "kind": key} for key in ("tensor", "module", "key") if where[key]]
    return {
        "ruleId": f["code"], "ruleIndex": codes.index(f["code"]), "level": f["severity"],
        "message": {"text": visible(_sentence(f)).replace("](", "] (")},  # a link in SARIF 2.1.0, 3.11.6
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": quote(_file(where), safe="/", errors="surrogatepass")}}, "logicalLocations": logical}],
        "properties": {"runtime": f["runtime"], "count": where["count"], "fix": f["fix"]["value"]},
    }


def github(document: dict[str, Any]) -> str:
    """One workflow command for each finding (GitHub Docs, "Workflow commands for GitHub Actions")."""
    level = {"error": "error", "warning": "warning", "note": "notice"}
    out = []
    for f in document["findings"]:
        title = _data(f"{f['code']} {f['runtime'] or ''}".strip(), True)
        out.append(f"::{level[f['severity']]} file={_data(_file(f['where']), True)},title={title}::{_data(_sentence(f))}")
    out += [f"::{level[TRIED[one['outcome']]]} title={_data('tried ' + one['reader'], True)}::{_data(tried.sentence(one))}" for one in document.get("tried", ())]
    return "\n".join(out)


def _file(where: dict[str, Any]) -> str:
    """The file of a finding as its name is; of a key, the configuration file that it names."""
    named = where["file"] or (where["key"] or "").partition(":")[0]
    return named if named.endswith((".json", ".safetensors", ".yaml", ".yml")) else "config.json"


def _sentence(f: dict[str, Any]) -> str:
    place = " ".join(f["where"][key] for key in ("tensor", "module", "key") if f["where"][key])
    parts = [f"{f['title']}{': ' + place if place else ''}", f["evidence"], f"then: {f['consequence']}" if f["consequence"] else "",
             f"fix: {f['fix']['text']}" if f["fix"]["text"] else ""]
    return ". ".join(part for part in parts if part)


def _data(text: str, attribute: bool = False) -> str:
    text = lines(visible(text)).replace("%", "%25")  # line ends would be %0D and %0A: `visible` leaves none
    return text.replace(":", "%3A").replace(",", "%2C") if attribute else text
