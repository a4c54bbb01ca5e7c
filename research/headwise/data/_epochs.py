"""Batches without replacement, epoch after epoch, of arrays that lie on the device."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise.data import _arguments
from headwise.data import _permutation
from headwise.typing import Array
from headwise.typing import PyTree

_MOST = 2**30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)  # hashed as functions are
class Epochs:
    """A function of the step that gives its batch; what `epochs` returns.

    `batches(t)` can be traced. It is a pytree whose leaves are the arrays and the key,
    so that it may be an argument of a jitted function.

    Example:
        >>> batches = hw.data.epochs(jnp.arange(6), jax.random.key(0), 2)
        >>> batches.steps_per_epoch, batches.count
        (3, 6)
        >>> jax.jit(lambda batches, t: batches(t))(batches, 0).shape
        (2,)
    """

    arrays: PyTree
    key: Array
    batch_size: int = dataclasses.field(metadata={"static": True})
    shuffle: bool = dataclasses.field(default=True, metadata={"static": True})
    last: str = dataclasses.field(default="wrap", metadata={"static": True})

    @property
    def count(self) -> int:
        """The number of examples."""
        return jax.tree.leaves(self.arrays)[0].shape[0]

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in which each example comes, but what `last` drops."""
        whole = self.count // self.batch_size
        return whole if self.last == "drop" else -(-self.count // self.batch_size)

    def __call__(self, t: Any) -> Any:
        """The batch of step t, an int >= 0 that may be traced."""
        return _batch(self, t)


def epochs(
    arrays: Any,
    key: jax.Array,
    batch_size: int,
    *,
    shuffle: bool = True,
    last: str = "wrap",
) -> Epochs:
    """Random batches without replacement: every example once an epoch, anew shuffled.

    As `sample` it is one gather inside of the training step, without host and queue,
    and a function of (key, step) alone: nothing has to be kept to resume. The rows of a
    batch are computed alone, in a time that does not depend on the number of examples::

        rows(t)[i] = permutation of epoch e at place p,  t B + i = e N + p

    with the permutation that `fold_in(key, e)` draws.

    Args:
        arrays: a pytree (dict, tuple, NamedTuple, nested) whose leaves all have the
            leading axis N, 1 <= N < 2**30. It is put on the device once.
        key: a key of `jax.random`; the same key gives the same batches. May be traced,
            one a trial of a sweep.
        batch_size: B, 1 <= B <= N.
        shuffle: False keeps the order of the examples.
        last: what becomes of the batch at the end of an epoch if B does not divide N.
            "wrap": it is filled up with the first examples of the next epoch, which
            goes on from there (as `stream` does). "drop": the N mod B examples that
            are left are not seen in this epoch; other ones in each. "mask": it is
            filled up with rows that do not count, and every batch is a pair
            (batch, where) with where bool [B], for the `where` of an objective: every
            example counts exactly once, and epochs end where steps do.

    Returns:
        `Epochs`: `batches(t)` is the batch of step t, with leading axis B.
        `steps_per_epoch` is N / B, rounded down if the last are dropped, else up.

    Raises:
        ValueError: no arrays, no rows, a scalar leaf, unequal leading axes, too many
            rows, a batch_size outside of 1 ... N, another `last`.
        TypeError: no key, shuffle is no bool.

    Example:
        >>> arrays = {"x": jnp.arange(5), "y": 10 * jnp.arange(5)}
        >>> batches = hw.data.epochs(arrays, jax.random.key(0), 2)
        >>> seen = jnp.concatenate([batches(t)["x"] for t in range(5)])
        >>> print(jnp.sort(seen[:5]), jnp.sort(seen[5:]))   # two epochs, five steps
        [0 1 2 3 4] [0 1 2 3 4]
        >>> batches = hw.data.epochs(arrays, jax.random.key(0), 2, last="mask")
        >>> batch, where = batches(2)
        >>> print(batches.steps_per_epoch, where)
        3 [ True False]
    """
    batch_size = _checks.positive_int("batch_size", batch_size)
    _checks.key("key", key)
    _checks.boolean("shuffle", shuffle)
    _checks.choice("last", ("wrap", "drop", "mask"), last)
    count = _arguments.leading_axis("arrays", arrays)
    if batch_size > count:
        raise ValueError(
            f"batch_size: expected at most the {count} examples, as none comes twice "
            f"in an epoch, got {batch_size}; hw.data.sample draws with replacement"
        )
    if count >= _MOST:
        raise ValueError(f"arrays: expected fewer than 2**30 examples, got {count}")
    arrays = jax.tree.map(jnp.asarray, arrays)
    return Epochs(arrays, key, batch_size, bool(shuffle), last)


@jax.jit
def _batch(epochs: Epochs, t: Array) -> Any:
    rows, where = _rows(epochs, jnp.asarray(t).astype(jnp.uint32))
    batch = jax.tree.map(
        lambda array: array.at[rows].get(mode="promise_in_bounds"), epochs.arrays
    )
    return (batch, where) if epochs.last == "mask" else batch


def _rows(epochs: Epochs, t: Array) -> tuple[Array, Array]:
    """The rows of a batch, and which of them count."""
    count, size = epochs.count, epochs.batch_size
    offsets = jnp.arange(size, dtype=jnp.uint32)
    wraps = epochs.last == "wrap" and count % size != 0
    if wraps:
        epoch, start = _permutation.divmod_of_product(t, size, count)
        places = start + offsets
    else:
        epoch, start = t // epochs.steps_per_epoch, t % epochs.steps_per_epoch
        places = start * size + offsets
    inside = places < count
    places = jnp.where(inside, places, places - count if wraps else count - 1)
    if epochs.shuffle:
        words = _words(epochs.key, epoch)
        if wraps:
            after = _words(epochs.key, epoch + 1)
            words = jnp.where(inside, words[:, None], after[:, None])
        places = _permutation.permuted(places, list(words), count)
    return places, inside  # unsigned: no index is looked at from the end


def _words(key: Array, epoch: Array) -> Array:
    """What chooses the permutation of an epoch."""
    drawn = jax.random.fold_in(key, epoch)
    return jax.random.bits(drawn, (_permutation.ROUNDS,), jnp.uint32)
