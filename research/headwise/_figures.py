"""The one way to matplotlib, which the library works without."""

from typing import Any


def new_axes(width: float, height: float) -> Any:
    """Axes of a new figure; says what to install if matplotlib is not there."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'pictures need matplotlib: pip install "headwise[plots]"'
        ) from error
    return plt.subplots(figsize=(width, height), layout="constrained")[1]
