"""The first state of a training: arrays of its own, where the parameters lie."""

from typing import Any
from typing import TypeVar

import jax

from headwise import _hosts
from headwise import _trees
from headwise.typing import PyTree

StateT = TypeVar("StateT")


def first_state(state: StateT) -> StateT:
    """The state with copies of all arrays, placed and typed as a step gives them back.

    A compiled step answers with arrays on the devices of the parameters, those among
    which it is split and those that are whole on each of them. Counters, weights and
    keys that lie elsewhere at first, or numbers whose type gives way to others (weak
    types), would make the second step another program.
    """
    place = _place(state)

    def own(x: Any) -> Any:
        x = _trees.copied(_trees.strong(x))
        if place is None or isinstance(x, jax.core.Tracer) or x.committed:
            return x
        return _hosts.placed(x, place)

    return jax.tree.map(own, state)


def _place(state: PyTree) -> jax.sharding.Sharding | None:
    """Whole on all devices of the first array that is bound to some; None: none is."""
    for x in jax.tree.leaves(state):
        if isinstance(x, jax.core.Tracer) or not getattr(x, "committed", False):
            continue
        if isinstance(x.sharding, jax.sharding.NamedSharding):
            whole = jax.sharding.PartitionSpec()
            return jax.sharding.NamedSharding(x.sharding.mesh, whole)
        if isinstance(x.sharding, jax.sharding.SingleDeviceSharding):
            return x.sharding
    return None
