"""What a balanced gradient tells of itself."""

from typing import Any
from typing import NamedTuple

from headwise import _means
from headwise import _xla
from headwise.training import _decide
from headwise.training import _in_turn
from headwise.training import _look
from headwise.typing import Array
from headwise.typing import PyTree


class Info(NamedTuple):
    """What happened in one balanced gradient."""

    values: dict[str, Array]
    """Raw value of each head; `hw.Means` where `values_fn` returns that."""
    weights: dict[str, Array]
    """Effective weight of each head."""
    gramian: Array | None = None
    """[H, H] over what `wrt` says, when it was computed; NaN in a step between two
    refreshes of `balancers.every`."""
    conflicts: Array | None = None
    """Number of pairs of heads whose gradients point apart, likewise; float."""
    grads: dict[str, PyTree] | None = None
    """The head gradients, when they were computed and kept."""
    aux: Any = None
    """What `values_fn` returned beside the values: aux with `has_aux`, the next rest
    with `stateful`."""
    present: dict[str, Array] | None = None
    """Bool: whether the head counted: it had data and, where gradients were looked at,
    a finite one."""
    broken: dict[str, Array] | None = None
    """Bool: whether the head had data, but a value or, where gradients were looked at,
    a gradient that is not finite. None with static weights, which hide nothing."""


def make_info(look: _look.Look | _in_turn.InTurn, outcome: _decide.Outcome) -> Info:
    """Of what was seen and what was decided, by name of head."""
    names = tuple(look.values)

    def by_name(row: Array) -> dict[str, Array]:
        return dict(zip(names, _xla.apart(row), strict=True))

    return Info(
        values=_means.together(look.values, look.tally),
        weights=by_name(outcome.weights),
        gramian=outcome.gramian,
        conflicts=outcome.conflicts,
        grads=outcome.grads,
        aux=look.aux,
        present=by_name(outcome.present),
        broken=None if outcome.broken is None else by_name(outcome.broken),
    )
