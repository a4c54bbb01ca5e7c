"""Many steps as one compiled program: a chunk.

How many steps it runs is an argument of the program, and each goes through the same
body with its row of the stacked batches, so that the length of a chunk changes no bit.
What the steps told stays on the device, a row a step, and is fetched once.
"""

import functools
import math
import weakref
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _packing
from headwise import _traced
from headwise import _trees
from headwise import _xla
from headwise.training import _told
from headwise.typing import Array

StateT = TypeVar("StateT")

ROWS, BYTES = 512, 2**24
"""The most steps of a chunk, and the most that its batches, or what it tells, take."""


class Kind(NamedTuple):
    """Batches that one program takes: structure, shapes and types."""

    structure: Any
    types: tuple[jax.ShapeDtypeStruct, ...]
    still: tuple[bool, ...]
    """Which leaves are the same array in every step, and are not stacked."""

    def batch(self, still: Sequence[Any], moving: Sequence[Any]) -> Any:
        """A batch from its two sorts of leaves."""
        parts = iter(still), iter(moving)
        leaves = [next(parts[0 if fixed else 1]) for fixed in self.still]
        return jax.tree.unflatten(self.structure, leaves)

    @property
    def moving(self) -> list[jax.ShapeDtypeStruct]:
        """The types of the leaves that are stacked."""
        return [x for x, fixed in zip(self.types, self.still, strict=True) if not fixed]

    @property
    def like(self) -> Any:
        """A batch of types."""
        return jax.tree.unflatten(self.structure, self.types)


def kind(batch: Any, still: Sequence[bool] | None = None) -> Kind:
    """That of a batch."""
    leaves, structure = jax.tree.flatten(batch)
    fixed = (False,) * len(leaves) if still is None else tuple(still)
    return Kind(structure, tuple(map(typed, leaves)), fixed)


def typed(x: Any) -> jax.ShapeDtypeStruct:
    """Shape and type of an array or a number, as a program sees it."""
    aval = jax.typeof(x)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def rows(types: Sequence[Any], most: int = ROWS) -> int:
    """How many steps there is room for; 0: one alone takes too much memory."""
    nbytes = sum(math.prod(x.shape) * x.dtype.itemsize for x in types)
    room = min(most, BYTES // max(nbytes, 1))
    return power_of_two(room + 1) // 2


def power_of_two(number: int) -> int:
    """The least that is not smaller: so that programs are few."""
    return 1 << (number - 1).bit_length() if number > 0 else 0


class Chunk(NamedTuple):
    """The program of a step for batches of one kind."""

    run: Callable[..., tuple[Any, Any]]
    """`run(state, still, moving, number)` -> (state, what the steps told); the state's
    arrays are given for good."""
    told: Callable[[Any, int], _told.Told]
    """(what `run` gave, how many steps) -> what they told, on the host."""


_CHUNKS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""{program of a step: {what else decides: its chunk}}: a step that is trained again
compiles no more. JAX holds the program for as long as the step lives."""


def begun(step: Any, state: StateT, batch: Any) -> tuple[StateT, int, str | None]:
    """What a run in chunks begins with.

    Args:
        step: jitted.
        state: the first.
        batch: the first, or its types.

    Returns:
        The state, copied if the step leaves it to the caller; how many steps a chunk
        has room for; and if it is 1 the reason in words. It depends on the program
        alone, so that a run that goes on goes the same way.
    """
    if not hasattr(step, "trace"):
        return state, 1, "the step cannot be traced"
    if any(len(on) > 1 for on in map(devices, jax.tree.leaves((state, batch)))):
        return state, 1, "state or batch lies on several devices"
    traced = step.trace(state, batch)
    if traced.jaxpr not in _ROOMS:
        _ROOMS[traced.jaxpr] = _room(traced, state)
    room, why = _ROOMS[traced.jaxpr]
    if why is None and not all(x.donated for x in jax.tree.leaves(traced.args_info[0])):
        state = _trees.copied(state)
    return state, room, why


_ROOMS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
"""{program of a step: (room, why)}"""


def _room(traced: Any, state: Any) -> tuple[int, str | None]:
    if traced.jaxpr.effects:
        return 1, "the step has effects"
    given = traced.out_info
    if not isinstance(given, tuple | list) or len(given) != 2:
        return 1, "the step gives back no pair"  # which is an error when it runs
    if _types(given[0]) != _types(state):
        return 1, "the step gives back another type of state than it takes"
    if _xla.slow_in_loops(traced.jaxpr):
        return 1, "convolutions are slow in loops"
    number = rows(jax.tree.leaves(_told.told(given[1])))
    return (number, None) if number > 1 else (1, "the step tells too much")


def chunk(step: Any, state: Any, kind: Kind, room: int) -> Chunk:
    """The program for so many steps at most; compiled once for all calls."""
    traced = step.trace(jax.tree.map(typed, state), kind.like)
    made = _CHUNKS.setdefault(traced.jaxpr, {})
    if (kind, room) not in made:
        made[kind, room] = _made(traced, kind, room)
    return made[kind, room]


def _made(traced: Any, kind: Kind, room: int) -> Chunk:
    jaxpr, shape = weakref.ref(traced.jaxpr), traced.out_info
    leaves, structure = jax.tree.flatten(_told.told(shape[1]))
    widths = _packing.widths(leaves)
    row = functools.partial(lax.dynamic_index_in_dim, keepdims=False)
    put = functools.partial(lax.dynamic_update_index_in_dim, axis=0)

    def run(
        state: Any, still: list[Array], moving: list[Array], number: Array
    ) -> tuple[Any, dict[str, Array]]:
        alive = jaxpr()
        assert alive is not None
        program = _traced.Traced(alive, shape)

        def body(i: Array, carry: tuple) -> tuple:
            state, told = carry
            batch = kind.batch(still, [row(x, i) for x in moving])
            state, info = program(state, batch)
            packed = _packing.packed(jax.tree.leaves(_told.told(info)))
            return state, {name: put(told[name], packed[name], i) for name in told}

        told = {name: jnp.zeros((room, n), name) for name, n in widths.items()}
        return lax.fori_loop(0, number, body, (state, told))

    fetch = functools.partial(_fetched, leaves, structure)
    return Chunk(jax.jit(run, donate_argnums=0), fetch)


def _fetched(
    leaves: Sequence[Any], structure: Any, packed: dict[str, Array], number: int
) -> _told.Told:
    """The first rows of what was packed."""
    rows = {name: x[:number] for name, x in jax.device_get(packed).items()}
    return jax.tree.unflatten(structure, _packing.unpacked(leaves, rows))


def devices(x: Any) -> Any:
    """Those that an array lies on."""
    return x.sharding.device_set if isinstance(x, jax.Array) else ()


def _types(tree: Any) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype) for x in leaves]
