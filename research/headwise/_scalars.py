"""Metrics as the scalars that a record holds: a `Ratio` stands for its value."""

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
