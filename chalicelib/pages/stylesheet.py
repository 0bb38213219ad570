"""The style sheet: signet.css, preceded by the colors of the light and dark themes.

Text has a contrast of at least 4.5 on its background (WCAG 2.2, 1.4.3), whatever color the operator chooses: buttons
have exactly that color, with black or white text; links and lines use the nearest shade that is readable.
"""

import hashlib
from functools import cache
from pathlib import Path

from chalicelib.settings import Settings

AA = 4.5  # the minimum contrast of text (WCAG 2.2 level AA)
LIGHT = {
    "page": "#f3f5f8",
    "card": "#ffffff",
    "text": "#1a2230",
    "muted": "#535d6c",
    "field-border": "#7b8594",
    "border": "#dde2e9",
    "inset": "#f1f4f8",
    "error": "#a11d1d",
    "error-background": "#fdf0ef",
    "warning": "#7a4d00",
    "warning-background": "#fff6e0",
    "success": "#1d6336",
}
DARK = {
    "page": "#0f1318",
    "card": "#191f28",
    "text": "#e6eaf0",
    "muted": "#a8b2c0",
    "field-border": "#758292",
    "border": "#2e3743",
    "inset": "#11161d",
    "error": "#ffa29d",
    "error-background": "#391d1e",
    "warning": "#f5c977",
    "warning-background": "#33290f",
    "success": "#86d7a1",
}
BRAND, BRAND_DARK = "#1f4fa3", "#8db4f5"
_TEXT = (Path(__file__).parent / "signet.css").read_text("utf-8")


def style_sheet(settings: Settings) -> tuple[str, str]:
    """Return the style sheet, and its version: a hash that changes with the content."""
    return _sheet(*brand_colors(settings))


def brand_colors(settings: Settings) -> tuple[str, str]:
    """Return the button colors of the light and the dark theme. If only one is set, it is used for both."""
    light, dark = settings.accent_color, settings.accent_color_dark
    return light or dark or BRAND, dark or light or BRAND_DARK


@cache
def _sheet(brand: str, brand_dark: str) -> tuple[str, str]:
    light, dark = _block(theme(LIGHT, brand, "#000000")), _block(theme(DARK, brand_dark, "#ffffff"))
    text = f":root {{ color-scheme: light dark; {light} }}\n"
    text += f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{_TEXT}"
    return text, hashlib.sha256(text.encode()).hexdigest()[:12]


def theme(colors: dict[str, str], brand: str, target: str) -> dict[str, str]:
    """Return a theme with the operator's color; `accent` is its shade, toward `target`, that is readable everywhere."""
    on_brand = max("#ffffff", "#000000", key=lambda text: contrast(text, brand))
    backgrounds = [colors[name] for name in ("page", "card", "inset")]
    return colors | {"brand": brand, "on-brand": on_brand, "accent": readable(brand, backgrounds, target)}


def readable(color: str, backgrounds: list[str], target: str) -> str:
    """Return the nearest shade of a color, toward `target`, that is readable on all of the backgrounds."""
    shades = (_mix(color, target, step / 20) for step in range(21))
    return next(shade for shade in shades if all(contrast(shade, background) >= AA for background in backgrounds))


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colors, 1 to 21 (WCAG 2.2)."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(color: str) -> float:
    parts = [part / 255 for part in _rgb(color)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(color: str, other: str, share: float) -> str:
    parts = (round(a + (b - a) * share) for a, b in zip(_rgb(color), _rgb(other), strict=True))
    return "#" + "".join(f"{part:02x}" for part in parts)


def _rgb(color: str) -> bytes:
    return bytes.fromhex(color[1:])


def _block(colors: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colors.items())
