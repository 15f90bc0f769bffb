"""Words in a picture that never run into each other: their width is estimated from above, and what is too long is shortened in the middle.

The widths are those of DejaVu Sans, the widest of the usual system fonts, so that other fonts leave a little air.
"""

from __future__ import annotations

from weighbridge.report import svg
from weighbridge.report.visible import visible

# Widths in em, rounded up: each group of characters is at most this wide.
_GROUPS = (
    ("ijl'", 0.28), ("IJ .,·", 0.32), ("/\\:;|", 0.34), ("ft-", 0.4), ("()[]!r", 0.42), ('"_*', 0.5), ("szc?-", 0.55), ("kvxyLF", 0.6), ("PTYaeo", 0.62),
    ("bdghnpqu0123456789{}$ESZ", 0.64), ("BCKRVXAUNH", 0.76), ("DOQGw%", 0.96), ("<>=+~^×→≤#&–", 0.84), ("mMW@…", 1.0),
)
_EM = {c: em for letters, em in _GROUPS for c in letters}
_PLAIN, _OTHER, _BOLD, _MONO = 0.8, 1.1, 1.14, 0.61
SIZES = {"small": 11.0, "head": 16.0, "mono": 12.0}


def width(words: object, classes: str = "") -> float:
    """Pixels that a line of text needs at most, in the font that its classes ask for (`svg.BASE`)."""
    names = classes.split()
    text, size = visible(str(words)), next((SIZES[name] for name in ("mono", "head", "small") if name in names), 13.0)
    if "mono" in names:
        return sum(_MONO if ord(c) < 0x250 else _OTHER for c in text) * size
    ems = sum(_EM.get(c) or (_PLAIN if ord(c) < 0x250 else _OTHER) for c in text)
    return ems * size * (_BOLD if "bold" in names or "head" in names else 1.0)


def fit(words: object, room: float, classes: str = "") -> str:
    """The words, or their two ends with an ellipsis between them, so that they are no wider than `room`."""
    text = visible(str(words))
    if len(text) > 400:  # a name of a megabyte is not measured as a whole
        text = text[:200] + "…" + text[-200:]
    if width(text, classes) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        keep = (low + high + 1) // 2
        low, high = (keep, high) if width(_ends(text, keep), classes) <= room else (low, keep - 1)
    return _ends(text, low)


def _ends(text: str, keep: int) -> str:
    front = keep - keep // 2
    return text[:front].rstrip() + "…" + (text[len(text) - keep // 2:].lstrip() if keep // 2 else "")


def line(x: float, y: float, words: object, room: float, classes: str = "ink") -> str:
    """A line of text no wider than `room`; where it is shortened, the whole is its title. Classes `mid` and `end` set the anchor."""
    shown = fit(words, room, classes)
    if shown == visible(str(words)):
        return svg.text(x, y, shown, classes)
    whole = visible(str(words))
    told = whole if len(whole) <= 2000 else whole[:2000] + "…"
    return (f'<text class={svg.classed(classes)} x="{svg.number(x)}" y="{svg.number(y)}"><title>{svg.text_of(told)}</title>{svg.text_of(shown)}</text>')


def wrapped(words: object, room: float, classes: str = "", most: int = 3) -> list[str]:
    """Lines no wider than `room`, broken at spaces; the last of `most` lines takes the rest, shortened."""
    lines: list[str] = []
    left = visible(str(words)).split(" ")
    while left and len(lines) < most - 1:
        taken = 1
        while taken < len(left) and width(" ".join(left[: taken + 1]), classes) <= room:
            taken += 1
        lines.append(fit(" ".join(left[:taken]), room, classes))
        left = left[taken:]
    return lines + ([fit(" ".join(left), room, classes)] if left else [])
