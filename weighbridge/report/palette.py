"""Colours of all pictures and pages: one class for each kind of encoding, in light and in dark.

Quantized kinds are filled dark with white text, plain floats are pale with an edge, so that the two differ without colour too.
tests/report/test_palette.py holds the contrast of text (4.5) and of shapes against the paper (3.0).
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple


class Shade(NamedTuple):
    """Fill of a shape, its edge, and text upon it."""

    fill: str
    edge: str
    text: str


# kind (formats.kinds) -> (word of legends, light, dark).
KINDS: dict[str, tuple[str, Shade, Shade]] = {
    "fp8": ("FP8", Shade("#2b62b3", "#1f4a8a", "#ffffff"), Shade("#3a74c8", "#7fb0f0", "#ffffff")),
    "fp4": ("FP4", Shade("#7a3fa6", "#5c2e80", "#ffffff"), Shade("#8f57bd", "#c79aec", "#ffffff")),
    "int8": ("INT8", Shade("#0f6f69", "#0a524d", "#ffffff"), Shade("#1a7d76", "#66c9c1", "#ffffff")),
    "int4": ("INT4", Shade("#4a6c12", "#36500c", "#ffffff"), Shade("#54791a", "#a6cf62", "#ffffff")),
    "coded": ("other codes", Shade("#a03358", "#7a2442", "#ffffff"), Shade("#b3446a", "#f095b4", "#ffffff")),
    "bf16": ("BF16", Shade("#fbe8c8", "#a8680c", "#402900"), Shade("#46330f", "#dba24a", "#fdeccd")),
    "f16": ("F16", Shade("#f9ddd2", "#b0532c", "#451a08"), Shade("#4a2818", "#e48d66", "#fbe0d6")),
    "f32": ("F32", Shade("#e4e6eb", "#656a78", "#1d2129"), Shade("#33373f", "#a0a6b3", "#eceef2")),
    "plain": ("other", Shade("#eeeeee", "#707070", "#222222"), Shade("#303030", "#a0a0a0", "#eeeeee")),
}

# name -> (light, dark): everything that is no encoding.
INKS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#16181d"),
    "panel": ("#f5f6f8", "#1f2229"),
    "ink": ("#1b1e24", "#e8eaee"),
    "quiet": ("#545a66", "#a6adba"),
    "line": ("#cfd3da", "#3c424d"),
    "accent": ("#0b5cad", "#7db7ff"),
    "error": ("#b3261e", "#ff8a80"),
    "warning": ("#8a5a00", "#f2b84b"),
    "note": ("#34618c", "#8fc1f0"),
    "good": ("#1c6b36", "#6fcf8c"),
}

_HEAT = ((0.0, (46, 24, 84)), (0.25, (38, 84, 140)), (0.5, (33, 140, 134)), (0.75, (122, 190, 84)), (1.0, (250, 226, 70)))


def heat(share: float) -> str:
    """A colour for `share` in 0..1, from dark to bright; the order of lightness is the order of values."""
    share = min(max(share, 0.0), 1.0)
    for (low, a), (high, b) in pairwise(_HEAT):
        if share <= high:
            part = (share - low) / (high - low)
            return "#" + "".join(f"{round(x + (y - x) * part):02x}" for x, y in zip(a, b, strict=True))
    return "#fae246"


def standalone() -> str:
    """Style rules for a picture in a file of its own: light, and dark where the reader's system is."""
    return f"{_rules('', 0)}@media(prefers-color-scheme:dark){{{_rules('', 1)}}}"


def for_page() -> str:
    """The same for a page with a switch: `data-theme` on the root element wins over the system. Adds a CSS variable for each ink."""
    system, forced = (f"{_variables(1, root)}{_rules(root + ' ', 1)}" for root in (":root:not([data-theme=light])", ":root[data-theme=dark]"))
    return f"{_variables(0)}{_rules('', 0)}@media screen and (prefers-color-scheme:dark){{{system}}}@media screen{{{forced}}}"


def _variables(theme: int, root: str = ":root") -> str:
    inks = "".join(f"--{name}:{pair[theme]};" for name, pair in INKS.items())
    return f"{root}{{color-scheme:{('light', 'dark')[theme]};{inks}}}"


def _rules(prefix: str, theme: int) -> str:
    """`.e-fp8` a shape, `.t-fp8` text upon it; `.paper` fills, `.ink` texts, `.s-line` strokes."""
    out = []
    for name, (_, *shades) in KINDS.items():
        shade = shades[theme]
        out.append(f"{prefix}.e-{name}{{fill:{shade.fill};stroke:{shade.edge}}}{prefix}.t-{name}{{fill:{shade.text}}}")
    for name, pair in INKS.items():
        out.append(f"{prefix}.{name}{{fill:{pair[theme]}}}{prefix}.s-{name}{{stroke:{pair[theme]}}}")
    return "".join(out)


def html_rules() -> str:
    """The kinds as backgrounds, for chips and table cells in a page."""
    def block(prefix: str, theme: int) -> str:
        return "".join(f"{prefix}.b-{name}{{background:{s[theme].fill};border-color:{s[theme].edge};color:{s[theme].text}}}"
                       for name, (_, *s) in KINDS.items())

    return (f"{block('', 0)}@media screen and (prefers-color-scheme:dark){{{block(':root:not([data-theme=light]) ', 1)}}}"
            f"@media screen{{{block(':root[data-theme=dark] ', 1)}}}")


def names(kinds: Collection[str] = KINDS.keys()) -> dict[str, str]:
    """Kind to the word of a legend, in the order of `KINDS`."""
    return {name: word for name, (word, *_) in KINDS.items() if name in kinds}
