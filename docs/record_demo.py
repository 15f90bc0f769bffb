"""Records the demo as docs/demo.md: `python docs/record_demo.py`. What the page shows is what ran."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAD = "# The demo\n\n`make demo` prints this, on the trained checkpoint that comes with the package.\n\n```text\n"


def main() -> None:
    done = subprocess.run([sys.executable, "-m", "weighbridge", "demo"], capture_output=True, text=True, check=True)
    page = Path(__file__).with_name("demo.md")
    page.write_text(HEAD + done.stdout.strip() + "\n```\n")


if __name__ == "__main__":
    main()
