"""Colours of the bars, and the style sheet that makes an SVG readable on light and on dark pages."""

from collections.abc import Iterable

_COLOURS = {"F": (0, 114, 178), "B": (230, 159, 0), "I": (0, 158, 115), "W": (204, 121, 167)}
"""Blue, orange, bluish green and reddish purple of Okabe and Ito's palette."""

NUM_SHADES = 5
_LIGHTEST = 0.55
"""The share of white in the last shade."""
WAIT_CLASS = "wait"

_LIGHT = {
    ".page": "fill:#ffffff",
    "text": "fill:#1f2328",
    ".caption,.mark": "fill:#59636e",
    ".idle": "fill:#e9ecef",
    ".grid": "stroke:#c4cad1",
    f".{WAIT_CLASS}": "fill:#9aa4ae",
}
_DARK = {
    ".page": "fill:#0d1117",
    "text": "fill:#e6edf3",
    ".caption,.mark": "fill:#9198a1",
    ".idle": "fill:#21262d",
    ".grid": "stroke:#3d444d",
    f".{WAIT_CLASS}": "fill:#6e7681",
}
_SHAPES = {
    "text": "font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif",
    ".title": "font-weight:600;font-size:13px",
    ".caption": "font-weight:400",
    ".stage": "text-anchor:end",
    ".mark": "text-anchor:middle;font-size:11px",
    ".n": "text-anchor:middle;font-size:10.5px",
    ".bars rect": "stroke:#ffffff;stroke-width:.6",
    ".grid": "stroke-width:.6",
}


def bar_class(kind: str, shade: int) -> str:
    """The class of a computation's bar; shade 0 is the darkest, `NUM_SHADES` - 1 the lightest."""
    return f"{kind}{shade}"


def style_sheet(bar_classes: Iterable[str]) -> str:
    """The rules for a drawing in which these classes of bars occur."""
    kinds = sorted({name[0] for name in bar_classes} & set(_COLOURS))
    shades = {name for name in bar_classes if name != WAIT_CLASS} | {bar_class(kind, 0) for kind in kinds}
    rules = _rules(_SHAPES) + _rules(_LIGHT)
    numbers = ""
    for name in sorted(shades):
        colour = _shaded(name)
        rules += f".{name}{{fill:#{bytes(colour).hex()}}}"
        numbers += f".n-{name}{{fill:{'#ffffff' if _luminance(colour) < 0.2 else '#1f2328'}}}"
    return f"{rules}@media(prefers-color-scheme:dark){{{_rules(_DARK)}.bars rect{{stroke:#0d1117}}}}{numbers}"


def _rules(rules: dict[str, str]) -> str:
    return "".join(f"{selector}{{{body}}}" for selector, body in rules.items())


def _shaded(name: str) -> tuple[int, int, int]:
    white = _LIGHTEST * int(name[1:]) / (NUM_SHADES - 1)
    red, green, blue = (round(value + (255 - value) * white) for value in _COLOURS[name[0]])
    return red, green, blue


def _luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance, as in WCAG 2."""
    linear = [(v / 255 / 12.92) if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
