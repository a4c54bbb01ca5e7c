"""What a balancer is, what it is shown and what it answers."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from headwise.typing import Array
from headwise.typing import PyTree

NEEDS = ("values", "gramian", "grads")


class Signals(NamedTuple):
    """What a balancer may look at in one step; H heads in sorted order of names."""

    values: Array
    """[H] raw values."""
    gram: Array | None = None
    """[H, H] gramian of the head gradients over the shared parameters. For a balancer
    of several `batches`: inner products of the gradients of the first with those of
    the second, not symmetric."""
    grads: Mapping[str, PyTree] | None = None
    """{name: gradient pytree}."""
    step: Array | int | None = None
    """int scalar, counted from 0."""
    key: Array | None = None
    """A key of this step, for balancers that draw."""
    present: Array | None = None
    """[H] bool; False where a head has no data. None means that all are there."""
    asked: Array | None = None
    """[H] bool; False where a head shares no parameter with those that are asked about
    and is a problem of its own: it is not `present` here. None means that all are."""


class Decision(NamedTuple):
    """A balancer's answer."""

    weights: Array
    """[H] factor of each head's value, 0 for absent heads. If there is a direction:
    the part of each head's gradient that it holds, for the log."""
    direction: PyTree | None = None
    """The gradient to apply instead of Σ weight * gradient."""


class Balancer(NamedTuple):
    """A pair of pure functions, as optax's gradient transformations are.

    Example:
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.25})
        >>> state = balancer.init(["a", "b"])
        >>> signals = hw.balancers.Signals(values=jnp.array([3.0, 4.0]))
        >>> decision, state = balancer.update(signals, state)
        >>> print(decision.weights)
        [1.   0.25]
    """

    init: Callable[..., Any]
    """`init(names, params=None)` -> state, a NamedTuple of arrays."""
    update: Callable[[Signals, Any], tuple[Decision, Any]]
    """`update(signals, state)` -> (decision, state)."""
    needs: str = "values"
    """"values", "gramian" or "grads": what `signals` must hold."""
    due: Callable[[Any], Array] | None = None
    """`due(state)` -> bool scalar: whether the next update wants a gramian. If not, it
    gets none and answers with weights from its state. None: it always does."""
    after: Callable[[Array, Any], Any] | None = None
    """`after(values, state)` -> state, with the [H] values of the same batch once the
    parameters have moved; `hw.training.make_step` then runs the model forward again."""
    batches: int = 1
    """Independent parts of the batch that it wants: 2, and `gram` is between the
    gradients of two halves, those of the second being combined; 3, and the gradients of
    a third part are combined."""
    alone: Callable[[Any], Array | float] | None = None
    """`alone(state)` -> [H] or a number: the weight of a head that shares no parameter
    with any other, where the balancer looks at gradients. None: 1, its own gradient."""
