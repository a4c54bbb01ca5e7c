"""What all balancers are made of; no balancer is here.

What a balancer is and is shown (`_types`), what it reads off its signals (`_signals`),
arithmetic over the heads that are there (`_masked`), options by name of head
(`_named`), its own optimiser (`_optimizer`), directions (`_directions`) and vectors of
H numbers (`_vectors`).
"""

from headwise.balancers._core._signals import presence
from headwise.balancers._core._types import Balancer
from headwise.balancers._core._types import Decision
from headwise.balancers._core._types import Names
from headwise.balancers._core._types import Signals

__all__ = (
    "Balancer",
    "Decision",
    "Names",
    "Signals",
    "presence",
)
