"""How commands are read from a page and compared: a stale line must be found."""

from __future__ import annotations

import pytest

from tests.docs.commands import Command, difference, files, inline, of_page

PAGE = """
Text with `weighbridge explain WB101`, `weighbridge run` and `weighbridge check X \\| less`.

```text
$ weighbridge inspect DEMO

two
lines

$ weighbridge run DEMO -p "a b" \\
    --tp 2
$ cat file
not ours
```

```sh
pip install x
weighbridge check SRC -- vllm serve X -tp 8   # a comment
weighbridge verify A B [flags]
```

```python
weighbridge = 1
```
"""


def test_reads_the_commands_of_a_page() -> None:
    assert of_page(PAGE) == [
        Command(5, ("inspect", "DEMO"), ("two", "lines")), Command(10, ("run", "DEMO", "-p", "a b", "--tp", "2"), None),
        Command(18, ("check", "SRC", "--", "vllm", "serve", "X", "-tp", "8"), None, "a comment"), Command(19, ("verify", "A", "B"), None)]
    assert [command.words for command in inline(PAGE)] == [("explain", "WB101"), ("check", "X", "|", "less")]


@pytest.mark.parametrize(("shown", "printed"), [
    ("a\nb", "a\nb\n\n"),
    ("\na\n…\nc", "a\nb\nb\nc"),
    ("…\nc", "a\nc"),
    ("a\n…", "a"),
    ("a …, c", "a b, c"),
    ("Wrote 1 MB in 0.03 s (327.33 MB/s), peak memory 66.82 MB", "Wrote 1 MB in 2 min (1.1 kB/s), peak memory 1 GB"),
    ("Wrote 1 MB in … s (… MB/s), peak memory … MB", "Wrote 1 MB in 3.5 ms (1 GB/s), peak memory 70.1 MB"),
])
def test_what_is_shown_is_printed(shown: str, printed: str) -> None:
    assert difference(shown.split("\n"), printed.split("\n")) == ""


@pytest.mark.parametrize(("shown", "printed", "says"), [
    ("a\nb", "a\nc", "line 2"),
    ("a", "a\nb", "the page ends"),
    ("a\nb", "a", "nothing more"),
    ("a\nc", "a\nb\nc", "line 2"),
    ("a\n…\nd", "a\nb\nc", "no later line"),
    ("a\n…\nb\na", "a\nb\nc", "line 4"),
    ("a\n\nb", "a\nb", "line 2"),
    ("Wrote 2 MB in 1 s", "Wrote 1 MB in 1 s", "line 1"),
    ("error 3.9e-07", "error 4e-07", "line 1"),
])
def test_what_is_stale_is_found(shown: str, printed: str, says: str) -> None:
    assert says in difference(shown.split("\n"), printed.split("\n"))


@pytest.mark.parametrize(("shown", "printed", "same"), [
    ("logits  2.87e-07  1.000000  █▍", "logits 3.1e-07 1.000000 █████", True),
    ("logits  5.81e+12", "logits  5.83e+12", True),
    ("logits  5.81e+12", "logits  6.81e+12", False),
    ("norm 0.5", "logits 0.5", False),
    ("4 prompts, 2,048 positions", "4 prompts, 1,048 positions", False),
])
def test_loose_is_about_rounding_only(shown: str, printed: str, same: bool) -> None:
    assert (difference([shown], [printed], loose=True) == "") is same


def test_a_page_may_give_a_file() -> None:
    page = "With this `a.json`:\n\n```json\n{\"x\":\n 1}\n```\n\nOther:\n\n```json\n{}\n```\n"
    assert files(page) == {"a.json": "{\"x\":\n 1}"}
