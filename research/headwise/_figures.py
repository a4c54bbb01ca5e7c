"""The one way to matplotlib, which the library works without."""

from typing import Any

from headwise import _text

OKABE_ITO = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#999999",
    "#F0E442",
)
"""Colours that also the colour-blind tell apart, as the report's page has them."""


def new_axes(width: float, height: float) -> Any:
    """Axes of a new figure; says what to install if matplotlib is not there."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib: pip install "headwise[plots]"'
        ) from error
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def text(name: str, longest: int = 40) -> str:
    """A name as it stands in a picture: on one line, no mathematics, no empty boxes.

    A dollar is a dollar, what the fonts have no glyph for is written out, the middle of
    a long name is left out, and an underscore in front, which would hide a label from
    the legend, follows a space.
    """
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[1 - longest // 2 :]}"
    name = _text.printable(name).replace("$", r"\$")
    if not name.isascii():
        glyphs = _glyphs()
        name = "".join(
            c if ord(c) in glyphs else c.encode("unicode_escape").decode() for c in name
        )
    return f" {name}" if name.startswith("_") else name


def colours(count: int) -> list[Any]:
    """A colour for each of so many things; no two alike up to 24.

    Those of Okabe and Ito, then the same darker, then lighter.

    Example:
        >>> from headwise import _figures
        >>> [_figures.colours(20)[i] for i in (0, 8, 16)]
        ['#0072b2', '#004c77', '#6badd2']
    """
    towards = ((0, 0.0), (0, 0.33), (255, 0.42))
    parts = [[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in OKABE_ITO]
    mixed = []
    for i in range(count):
        end, by = towards[i // len(parts) % len(towards)]
        rgb = (round(x + by * (end - x)) for x in parts[i % len(parts)])
        mixed.append("#" + "".join(f"{x:02x}" for x in rgb))
    return mixed


def _glyphs() -> set[int]:
    """The code points that the fonts in use can draw."""
    from matplotlib import font_manager
    from matplotlib import rcParams

    glyphs: set[int] = set()
    for family in rcParams["font.family"]:
        wanted = font_manager.FontProperties(family=[family])
        font = font_manager.get_font(font_manager.findfont(wanted))
        glyphs |= set(font.get_charmap())
    return glyphs
