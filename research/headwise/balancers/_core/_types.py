"""What a balancer is, what it is shown and what it answers."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple
from typing import TypeVar

import jax

from headwise import _checks
from headwise.typing import Array
from headwise.typing import PyTree

NEEDS = ("values", "gramian", "grads")

StateT = TypeVar("StateT")


@jax.tree_util.register_static
class Names(tuple[str, ...]):
    """Names of heads, sorted: a tuple that is static data in a pytree, no leaf of it.

    A state that holds them is about these heads and no others, and jit, vmap, scan and
    checkpoints take it as they take any state.

    Args:
        names: of the heads, in any order.
        of: name of the balancer whose state this is; "" for other states and signals.

    Raises:
        TypeError, ValueError: they are no distinct non-empty strings.

    Example:
        >>> names = hw.balancers.Names(["depth", "seg"])
        >>> print(names, jax.tree.leaves(names))
        ('depth', 'seg') []
    """

    of: str

    def __new__(cls, names: Iterable[str], of: str = "") -> "Names":
        """The names, checked and sorted."""
        _checks.text("of", of)
        argument = f"{of}: names" if of else "names"
        self = super().__new__(cls, _checks.head_names(argument, names))
        self.of = of
        return self

    @classmethod
    def in_state(cls, of: str, state: Any) -> "Names":
        """The names of a state's heads; raises TypeError if it is of another."""
        names = getattr(state, "names", None)
        if isinstance(names, cls) and names.of == of:
            return names
        got = f"an object of type {type(state).__name__}"
        if isinstance(names, cls) and names.of:
            got = f"that of {names.of}"
        raise TypeError(f"{of}: expected the state of its own init, got {got}")

    def __eq__(self, other: object) -> bool:
        """As a tuple; two of different balancers differ."""
        return tuple.__eq__(self, other) and self.of == getattr(other, "of", self.of)

    def __ne__(self, other: object) -> bool:
        """As a tuple; two of different balancers differ."""
        return not self == other

    __hash__ = tuple.__hash__

    def __getnewargs__(self) -> tuple[Any, ...]:
        """What a copy is made of."""
        return tuple(self), self.of


def settings(*fields: str) -> Callable[[type[StateT]], type[StateT]]:
    """Decorates the NamedTuple of a state: these fields are what the user says.

    They come from the arguments of the factory and no update changes them; all others
    are learned, counted or logged. A run that goes on from a checkpoint takes
    `type(state).settings` from the balancer that it is given, and the others from the
    checkpoint.
    """

    def declare(state: type[StateT]) -> type[StateT]:
        unknown = set(fields) - set(getattr(state, "_fields", ()))
        assert not unknown, (state, unknown)
        state.settings = fields  # type: ignore[attr-defined]
        return state

    return declare


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
    names: Names | None = None
    """Of the heads; a state of other heads is refused. None: only their number is."""
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
    """`init(names, params=None)` -> state, a NamedTuple of arrays and `Names`."""
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
    static: bool = False
    """Weights do not depend on values or gradients: a head of weight 0 is left out by
    choice, and one that is not finite is never left out."""
    alone: Callable[[Any], Array | float] | None = None
    """`alone(state)` -> [H] or a number, from the state after an update: the weight of
    a head that shares no parameter with any other, where the balancer looks at
    gradients. None: 1, its own gradient."""
    together: bool = False
    """Weighs heads by their values, whether or not they share parameters, though it
    looks at gradients, each head's by itself (`clip_heads` around such a one)."""
