"""Balancers: `(init, update)` pairs from signals about the heads to their weights.

A balancer says by `needs` what it must be shown, so that a step computes no more:
the values, their gradients' gramian, or the gradients themselves.
"""

from headwise.balancers._constant import constant
from headwise.balancers._constant import equal
from headwise.balancers._every import every
from headwise.balancers._graddrop import graddrop
from headwise.balancers._mgda import mgda
from headwise.balancers._scheduled import scheduled
from headwise.balancers._types import Balancer
from headwise.balancers._types import Decision
from headwise.balancers._types import Signals
from headwise.balancers._uncertainty import uncertainty

__all__ = (
    "Balancer",
    "Decision",
    "Signals",
    "constant",
    "equal",
    "every",
    "graddrop",
    "mgda",
    "scheduled",
    "uncertainty",
)
