"""The gradients of many heads, head by head or leaf by leaf.

A leaf knows which heads reach it, and holds one stack of their gradients: products and
sums over heads are one operation then, however many there are::

    leaf w     heads (0, 1, 2)     [3, *shape of w]
    leaf c     heads (1,)          [1, *shape of c];  of heads 0 and 2 it is 0

Example:
    >>> from headwise import _rows
    >>> leaf = _rows.Leaf((1,), jnp.array([[5.0, 7.0]]))
    >>> rows = _rows.Rows(2, [leaf], [jnp.zeros(2)])
    >>> print(len(rows), *rows[0], *rows[1])
    2 [0. 0.] [5. 7.]
    >>> print(_rows.gramian(2, rows.leaves))
    [[ 0.  0.]
     [ 0. 74.]]
"""

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise import _numerics
from headwise import _products
from headwise import _xla
from headwise.typing import Array


class Leaf(NamedTuple):
    """The gradients of one leaf of the parameters, or of one feature."""

    heads: tuple[int, ...]
    """The heads that reach it, ascending; the gradients of all others are 0."""
    arrays: Array | Sequence[Array]
    """Of these heads: a list, or an array with a leading axis of them."""
    batch: tuple[Array, int] | None = None
    """[leaves, heads, ...] of many leaves of one kind, and which of them this is."""

    def of(self, heads: Collection[int]) -> "Leaf":
        """Of some heads alone."""
        at = [i for i, h in enumerate(self.heads) if h in heads]
        if len(at) == len(self.heads):
            return self
        mine = tuple(self.heads[i] for i in at)
        if isinstance(self.arrays, Array):
            return Leaf(mine, _at(self.arrays, at))
        return Leaf(mine, [self.arrays[i] for i in at])


class Rows(Sequence[list[Array]]):
    """[H][leaf], as a list of lists, which are made when they are asked for."""

    def __init__(self, number: int, leaves: Sequence[Leaf], like: Sequence[Any]):
        """Holds the leaves.

        Args:
            number: of heads.
            leaves: in their order.
            like: has the shape and dtype of each.
        """
        self._number = number
        self.leaves = list(leaves)
        self.like = list(like)

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, index: int) -> list[Array]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[Array]]: ...

    def __getitem__(self, index: int | slice) -> list[Array] | list[list[Array]]:
        heads = range(self._number)[index]
        if isinstance(heads, range):
            return [self[h] for h in heads]
        return [
            leaf.arrays[leaf.heads.index(heads)]
            if heads in leaf.heads
            else jnp.zeros(x.shape, x.dtype)
            for leaf, x in zip(self.leaves, self.like, strict=True)
        ]

    def __iter__(self) -> Iterator[list[Array]]:
        heads = range(self._number)
        columns = []
        for leaf, x in zip(self.leaves, self.like, strict=True):
            zeros = jnp.zeros(x.shape, x.dtype)
            rows = dict(zip(leaf.heads, _arrays(leaf), strict=True))
            columns.append([rows.get(h, zeros) for h in heads])
        return iter([[column[h] for column in columns] for h in heads])


def _arrays(leaf: Leaf) -> Sequence[Array]:
    """Of its heads, each by itself."""
    stack = leaf.arrays
    return _xla.apart(stack) if isinstance(stack, Array) else stack


def like(rows: Sequence[list[Array]]) -> Sequence[Any]:
    """What has the shape and dtype of each leaf."""
    return rows.like if isinstance(rows, Rows) else rows[0]


def by_leaf(rows: Sequence[Sequence[Array]]) -> list[Leaf]:
    """The leaves of the gradients of all heads."""
    if isinstance(rows, Rows):
        return rows.leaves
    heads = tuple(range(len(rows)))
    return [Leaf(heads, list(arrays)) for arrays in zip(*rows, strict=True)]


def spread(
    heads: Sequence[int], variables: Sequence[Any], stack: Array
) -> Iterable[tuple[Any, Leaf]]:
    """A stack of gradients, of a variable for each head, variable by variable."""
    places: dict[Any, list[int]] = {}
    for i, v in enumerate(variables):
        places.setdefault(v, []).append(i)
    for v, at in places.items():
        yield v, Leaf(tuple(heads[i] for i in at), _at(stack, at))


def _at(stack: Array, places: Sequence[int]) -> Array:
    """Some rows of a stack. Evenly spaced ones are a slice, which compilers fuse."""
    if list(places) == list(range(len(stack))):
        return stack
    steps = set(np.diff(places).tolist()) or {1}
    if places and len(steps) == 1 and min(steps) > 0:
        return lax.slice_in_dim(stack, places[0], places[-1] + 1, min(steps))
    return stack[np.asarray(places, int)]


def in_batch(stacks: Sequence[tuple[Sequence[int], Array]]) -> list[Leaf]:
    """Leaves of which each has a head in each of some stacks, as one array.

    Args:
        stacks: heads, and [heads, ...]: the first of a stack reaches the first leaf.
    """
    numbers = np.asarray([heads for heads, _ in stacks])
    order = np.argsort(numbers[:, 0])
    if (np.diff(numbers[order], axis=0) <= 0).any():
        each = [[Leaf((h,), x[i : i + 1]) for i, h in enumerate(s)] for s, x in stacks]
        return [joined(pieces) for pieces in zip(*each, strict=True)]
    batch = jnp.stack([stacks[i][1] for i in order], 1)
    return [
        Leaf(tuple(map(int, heads)), batch[i], (batch, i))
        for i, heads in enumerate(numbers[order].T)
    ]


def _as_batch(leaves: Sequence[Leaf]) -> Array:
    """[leaves, heads, ...] of leaves of one shape, each a stack."""
    whole = leaves[0].batch[0] if leaves[0].batch else None
    places = [leaf.batch[1] for leaf in leaves if leaf.batch and leaf.batch[0] is whole]
    if whole is not None and places == [*range(len(leaves))] == [*range(len(whole))]:
        return whole
    return jnp.stack([stacked(leaf.arrays) for leaf in leaves])


def joined(pieces: Sequence[Leaf]) -> Leaf:
    """One leaf from the gradients of some heads and those of others."""
    if len(pieces) == 1:
        return pieces[0]
    heads = [h for piece in pieces for h in piece.heads]
    order = np.argsort(heads)
    arrays = jnp.concatenate([jnp.asarray(stacked(piece.arrays)) for piece in pieces])
    if (order != np.arange(len(order))).any():
        arrays = arrays[order]
    return Leaf(tuple(sorted(heads)), arrays)


def stacked(arrays: Array | Sequence[Array]) -> Array:
    """With a leading axis of heads."""
    return arrays if isinstance(arrays, Array) else jnp.stack(list(arrays))


def all_joined(pieces: Mapping[Any, list[Leaf]], variables: Iterable[Any]) -> list:
    """A leaf for each variable; one that no head reaches has an empty list."""
    return [joined(pieces[v]) if v in pieces else Leaf((), []) for v in variables]


def gramian(
    number: int,
    leaves: Iterable[Leaf],
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """[H, H] over these leaves, those that are split over an axis too."""
    grams = []
    together = axis_name is None and number >= _xla.ALIKE_HEADS
    few: list[Leaf] = []
    for leaf in leaves:
        heads, arrays, _ = leaf
        if heads and len(heads) < number and together:
            few.append(leaf)
        elif heads:
            gram = _products.products(arrays)
            if len(heads) < number:
                at = np.ix_(heads, heads)
                gram = jnp.zeros((number, number), gram.dtype).at[at].set(gram)
            grams.append(gram)
    grams += [_of_few(number, few)] if few else []
    if not grams:
        return jnp.zeros((number, number))
    return _numerics.total_over_devices(grams, axis_name)


def _of_few(number: int, leaves: Iterable[Leaf]) -> Array:
    """[H, H] over leaves that some of many heads reach: few products, one scatter."""
    groups: dict[tuple, list[Leaf]] = {}
    for i, leaf in enumerate(leaves):
        key: tuple = (i,)
        if isinstance(x := leaf.arrays, Array) and x.size < _xla.PAIRWISE_SIZE:
            key = (x.shape, x.dtype)
        groups.setdefault(key, []).append(leaf)
    places, entries = [], []
    for same in groups.values():
        if len(same) == 1:
            grams = _products.products(same[0].arrays)
        else:
            grams = _products.of_each(_as_batch(same))
        entries.append(grams.ravel())
        at = [np.ix_(leaf.heads, leaf.heads) for leaf in same]
        places += [np.ravel_multi_index(i, (number, number)).ravel() for i in at]
    flat = jnp.concatenate(entries)
    total = jnp.zeros(number * number, flat.dtype)
    return total.at[np.concatenate(places)].add(flat).reshape(number, number)


def cross(
    number: int,
    leaves: Iterable[Leaf],
    others: Iterable[Leaf],
    axis_name: str | tuple[str, ...] | None = None,
) -> Array:
    """[H, H] inner products of the gradients of two batches over these leaves."""
    grams = []
    for (heads, arrays, _), (more, of_more, _) in zip(leaves, others, strict=True):
        if heads and more:
            gram = _products.cross(stacked(arrays), stacked(of_more))
            total = jnp.zeros((number, number), gram.dtype)
            grams.append(total.at[np.ix_(heads, more)].set(gram))
    if not grams:
        return jnp.zeros((number, number))
    return _numerics.total_over_devices(grams, axis_name)


def weighted_sums(
    weights: Array, leaves: Sequence[Leaf], like: Sequence[Any]
) -> list[Array]:
    """[*shape] for each leaf, Σ weight * gradient over the heads that reach it.

    Args:
        weights: [H].
        leaves: of the parameters.
        like: has the shape and dtype of each.
    """
    each: list[Array] = []
    sums: list[Any] = []
    alike: dict[tuple, list[int]] = {}
    for i, ((heads, arrays, _), x) in enumerate(zip(leaves, like, strict=True)):
        sums.append(None)
        if not heads:
            sums[i] = jnp.zeros(x.shape, x.dtype)
        elif isinstance(arrays, Array):
            alike.setdefault((arrays.shape, arrays.dtype), []).append(i)
        else:
            each = each or list(weights)
            mine = [each[h] for h in heads]
            sums[i] = _products.weighted_sum(mine, arrays, range(len(heads)))
    for places in alike.values():
        same = [leaves[i] for i in places]
        long = like[places[0]].size >= _xla.PAIRWISE_SIZE
        if long or len(same) < _xla.ALIKE_HEADS:
            pairs = [(_at(weights, leaf.heads), stacked(leaf.arrays)) for leaf in same]
            totals = [_products.of_stack(mine, stack) for mine, stack in pairs]
        else:
            each_mine = weights[np.asarray([leaf.heads for leaf in same])]
            together = jax.vmap(_products.of_stack)(each_mine, _as_batch(same))
            totals = _xla.apart(together)
        for i, total in zip(places, totals, strict=True):
            sums[i] = total
    return sums
