"""What a folder is against its own manifest, for people."""

from __future__ import annotations

from typing import Any

from weighbridge.report.table import markdown_table, text_table
from weighbridge.report.units import count

MOST = 50  # rows that are shown


def folder_text(document: dict[str, Any], markdown: bool = False) -> str:
    """The files that are not as they were written, and the verdict in one line."""
    bad = [row for row in document["files"] if not row["ok"]]
    lines = []
    if bad:
        table = markdown_table if markdown else text_table
        lines = [table(("file", "what is wrong"), [(row["name"], row["problem"]) for row in bad[:MOST]])]
        lines += [f"and {len(bad) - MOST:,} more"] if len(bad) > MOST else []
        lines += ["", f"NOT AS WRITTEN: {count(len(bad), 'file')} of {len(document['files']):,} in {document['folder']}",
                  "The command that made the folder makes these files again."]
    else:
        lines = [f"OK: {count(len(document['files']), 'file')} in {document['folder']} as written"]
    return "\n".join(lines)
