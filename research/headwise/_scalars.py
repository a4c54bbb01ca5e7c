"""Metrics as the scalars that a record holds: a `Ratio` stands for its value."""

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any


def scalars(metrics: Any) -> Any:
    """The same, nested dicts as they are, with numbers in place of metrics.

    A metric is known by what it offers: `value`, as a `Ratio`, or `scalars`, several
    by name, as `DepthErrors` and `AngleHistogram`. All else stays what it is, to be
    checked by whoever wants numbers. Arrays may be traced.
    """
    if isinstance(metrics, Mapping):
        return {name: scalars(value) for name, value in metrics.items()}
    if not isinstance(metrics, tuple):
        return metrics
    if hasattr(metrics, "scalars"):
        return dict(metrics.scalars)
    return metrics.value if hasattr(metrics, "value") else metrics


CLASSES = "of a metric with one value a class: its .mean, or .named(classes)"
"""What to do with a metric whose value is no scalar."""


def at(argument: str, metrics: Any, path: str) -> Any:
    """The metric at a path: a name, or names joined by "/" where metrics are nested.

    Raises:
        ValueError: there is none; lists those that there are.

    Example:
        >>> from headwise import _scalars
        >>> _scalars.at("metric", {"left": {"dice": 0.5}, "a/b": 1.0}, "left/dice")
        0.5
    """
    every = dict(leaves(metrics))
    if path not in every:
        raise ValueError(f"{argument}: expected one of {sorted(every)}, got {path!r}")
    return every[path]


def leaves(metrics: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The metrics by their paths."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}/")
        else:
            yield f"{above}{name}", value
