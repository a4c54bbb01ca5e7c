"""Objective: named outputs and targets to raw values and their weighted total."""

from headwise._means import Means
from headwise._means_of_parts import pmean
from headwise.objective._named import named
from headwise.objective._objective import Objective

__all__ = (
    "Means",
    "Objective",
    "named",
    "pmean",
)
