"""The colours of data by what they mean, the same on every page. Those of text, lines and cards are the
page's own (page.css), as they differ in the dark."""

from __future__ import annotations

import colorsys


def _hex(hue: float, lightness: float, saturation: float) -> str:
    parts = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


TRAIN, TEST, ALL = "#3b7dd8", "#e07b39", "#8d99ae"
CORRUPTED, CLEAN = "#8a63d2", "#b08900"
OF_PART = {"train": TRAIN, "test": TEST, "all": ALL, "corrupted": CORRUPTED, "clean": CLEAN}

KEY = "#d1495b"
"""What the network stands on, and the analysed step."""
PLAIN = ALL
"""What is drawn for comparison only: what is no key, limits, chance."""
FAINT = "#c3cad6"
"""Of what is drawn for comparison, that which is farther off."""
RESTRICTED, EXCLUDED = "#2a9d8f", KEY
"""What is left of a network that is restricted to its keys, or robbed of them."""

PHASES = {
    "learning": TRAIN,
    "memorisation": TRAIN,
    "circuit formation": "#8e5bc7",
    "cleanup": RESTRICTED,
    "delay": PLAIN,
    "generalisation": RESTRICTED,
    "after": "#e9c46a",
    "forgetting": KEY,
}
"""Phases of training, the same in the report and in the replay: shades behind curves, each with its name
above it, and stretches of a strip."""
KINDS = {
    "generalises at once": RESTRICTED,
    "groks": "#8e5bc7",
    "generalises": "#5aa9b8",
    "learns": "#6aa84f",
    "learns in part": "#e9c46a",
    "memorises only": TRAIN,
    "learns nothing": PLAIN,
    "forgets again": KEY,
    "not known": FAINT,
}
"""What a run did, in a phase diagram."""
PHASE_SHADE = 0.16
"""How dense the shade of a phase is behind curves."""
LINES = (TRAIN, TEST, RESTRICTED, KEY, "#8e5bc7", "#b8860b", "#7a4b2a", "#e58bb5")
"""Lines of one figure that have to be told apart."""

DIVERGING = ("#2b6cb0", "#f7f7f7", "#c53030")
"""From the lowest value over 0 to the highest."""
SEQUENTIAL = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b",
    "#fde725",
)  # fmt: skip
"""From the lowest value to the highest: viridis."""

ROUND = tuple(_hex(i / 24, 0.5, 0.65) for i in range(25))
"""Once round a circle, back to the first."""

BUTTON, BUTTON_TEXT = "#e8ebef", "#1b1f24"
"""Of a button inside a figure, in the light and in the dark."""

STYLE = f":root {{ --key: {KEY}; }}\n"
"""What the pages' own styles take from here."""


def lines(n: int) -> list[str]:
    """n colours that can be told apart, as far as that goes: beyond eight, hues in turn, dark and light."""
    if n <= len(LINES):
        return list(LINES[:n])
    return [_hex(i / n, 0.38 if i % 2 else 0.58, 0.7) for i in range(n)]


def on_two_axes(right: float, up: float) -> str:
    """The colour of a place, as its shares of two axes: redder to the right, bluer upwards."""
    return f"rgb({round(40 + 200 * right)}, 90, {round(40 + 200 * up)})"


def round_the_circle(position: int, count: int) -> str:
    """The colour of a position on a circle of so many."""
    return f"hsl({round(360 * (position % count) / count)} 65% 50%)"
