"""The style sheet: signet.css under the colours of both themes, the operator's own among them.

Every pair of colours that text is set in has a contrast of 4.5 or more (WCAG 2.2, 1.4.3), whatever the operator chose:
a button bears the very colour, and black or white text; links and lines take the next shade that is readable.
"""

import hashlib
from functools import cache
from pathlib import Path

from chalicelib.settings import Settings

AA = 4.5
LIGHT = {
    "ground": "#f3f5f8",
    "paper": "#ffffff",
    "ink": "#1a2230",
    "soft": "#535d6c",
    "line": "#7b8594",
    "hair": "#dde2e9",
    "quiet": "#f1f4f8",
    "bad": "#a11d1d",
    "bad-ground": "#fdf0ef",
    "warn": "#7a4d00",
    "warn-ground": "#fff6e0",
    "good": "#1d6336",
}
DARK = {
    "ground": "#0f1318",
    "paper": "#191f28",
    "ink": "#e6eaf0",
    "soft": "#a8b2c0",
    "line": "#758292",
    "hair": "#2e3743",
    "quiet": "#11161d",
    "bad": "#ffa29d",
    "bad-ground": "#391d1e",
    "warn": "#f5c977",
    "warn-ground": "#33290f",
    "good": "#86d7a1",
}
BRAND, BRAND_DARK = "#1f4fa3", "#8db4f5"
_TEXT = (Path(__file__).parent / "signet.css").read_text("utf-8")


def style_sheet(settings: Settings) -> tuple[str, str]:
    """The style sheet in force, and its version, which changes with it."""
    return _sheet(*brands(settings))


def brands(settings: Settings) -> tuple[str, str]:
    """The colour of buttons on light and on dark ground; where the operator has set only one, it serves for both."""
    light, dark = settings.accent_color, settings.accent_color_dark
    return light or dark or BRAND, dark or light or BRAND_DARK


@cache
def _sheet(brand: str, brand_dark: str) -> tuple[str, str]:
    light, dark = _block(theme(LIGHT, brand, "#000000")), _block(theme(DARK, brand_dark, "#ffffff"))
    text = f":root {{ color-scheme: light dark; {light} }}\n"
    text += f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{_TEXT}"
    return text, hashlib.sha256(text.encode()).hexdigest()[:12]


def theme(colors: dict[str, str], brand: str, ink: str) -> dict[str, str]:
    """The colours of a theme with the operator's: `accent` is its shade, towards `ink`, that can be read anywhere."""
    on_brand = max("#ffffff", "#000000", key=lambda text: contrast(text, brand))
    grounds = [colors[name] for name in ("ground", "paper", "quiet")]
    return colors | {"brand": brand, "on-brand": on_brand, "accent": readable(brand, grounds, ink)}


def readable(color: str, grounds: list[str], ink: str) -> str:
    """The nearest shade of a colour, towards `ink`, that can be read on all of these grounds."""
    shades = (_mixed(color, ink, step / 20) for step in range(21))
    return next(shade for shade in shades if all(contrast(shade, ground) >= AA for ground in grounds))


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    parts = [part / 255 for part in _rgb(color)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mixed(color: str, other: str, share: float) -> str:
    parts = (round(a + (b - a) * share) for a, b in zip(_rgb(color), _rgb(other), strict=True))
    return "#" + "".join(f"{part:02x}" for part in parts)


def _rgb(color: str) -> bytes:
    return bytes.fromhex(color[1:])


def _block(colors: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colors.items())
