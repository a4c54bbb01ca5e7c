"""What decides in a step without a balancer: the Objective that made the values."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from headwise import _weights
from headwise import balancers


def default(
    weights: _weights.Weights | None, names: Sequence[str], state: Any
) -> balancers.Balancer:
    """A balancer of the weights that came with the values.

    Without any, and for a head of another origin, 1. Weights in a state of `constant`
    were given on purpose, and act.

    Args:
        weights: of the Objective; None: it has none.
        names: of the heads.
        state: of `equal` or `constant`.
    """
    equal = balancers.equal()
    if weights is None or not getattr(state, "by_default", False):
        return equal
    given: dict[str, Any] = dict.fromkeys(names, 1.0) | weights
    moving = any(map(callable, given.values()))
    own = (balancers.scheduled if moving else balancers.constant)(given)

    def update(
        signals: balancers.Signals, state: Any
    ) -> tuple[balancers.Decision, Any]:
        _, new = equal.update(signals, state)
        decision, _ = own.update(signals, own.init(names))
        return decision, new

    return equal._replace(update=update)


def overruled(step: Any, state: Any) -> list[str]:
    """Static weights that a step was made with where its state holds others.

    Those in the state act, so that one program serves every weighting. A step that was
    made with weights of 1, as `constant()` has them, has nothing to say.

    Args:
        step: of `make_step`; of another function nothing is known.
        state: the first one, of numbers.

    Raises:
        ValueError: the weights of the step are of other heads.
    """
    balancer = getattr(step, "balancer", None)
    holds: Any = getattr(state, "balancer", None)
    if balancer is None or not balancer.static or not _has_weights(holds):
        return []
    made = balancer.init(holds.names)
    if not _has_weights(made) or np.shape(made.weights) != np.shape(holds.weights):
        return []
    rows = zip(holds.names, np.asarray(made.weights), np.asarray(holds.weights))
    lines = [f"{name!r}: {a:.7g} -> {b:.7g}" for name, a, b in rows if a != b]
    return [] if (np.asarray(made.weights) == 1).all() else lines


def _has_weights(state: Any) -> bool:
    """Whether it is a state of static weights that a user sets."""
    return "weights" in getattr(type(state), "settings", ())
