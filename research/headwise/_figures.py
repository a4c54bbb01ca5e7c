"""The one way to matplotlib, which the library works without."""

from typing import Any

from headwise import _text


def label(name: str) -> str:
    """A name as matplotlib shows it: a "$" starts no formula, a "_" hides no label.

    Of one that is longer than 60 characters both ends are shown.
    """
    shown = _text.visible(name)
    shown = f"{shown[:28]}...{shown[-29:]}" if len(shown) > 60 else shown
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def new_axes(width: float, height: float) -> Any:
    """Axes of a new figure; says what to install if matplotlib is not there."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib: pip install "headwise[plots]"'
        ) from error
    return plt.subplots(figsize=(width, height), layout="constrained")[1]
