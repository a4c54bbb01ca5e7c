"""Batches from the host through grain, for data that does not fit on the device."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from headwise import _checks
from headwise.data import _grain
from headwise.data import _rows

if TYPE_CHECKING:
    import grain


def stream(
    records: Any,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    epochs: int | None = None,
    share: tuple[int, int] | None = None,
) -> grain.IterDataset:
    """A grain data set of batches over arrays, or anything with a length and an index.

    A thin chain of grain's own parts: source, seed, shuffle (anew each epoch), repeat,
    threads that read ahead, batch. The result is an ordinary grain data set: extend it
    with `.map`, `.filter` or `.mp_prefetch`. Batches all have the same shape, so a step
    compiles once: they run on over the end of an epoch, and at the very end a rest
    smaller than a batch is dropped.

    `iterator = iter(dataset)` has `get_state()` and `set_state(state)`. The state is a
    small dict, and an iterator that is set to it goes on with exactly the batches that
    would have come next.

    Args:
        records: arrays whose leading axis counts the records, in a dict by names, a
            tuple or a NamedTuple, nested as you like: NumPy's, also mapped from a file,
            or JAX's, which are copied to the host. Or anything else with
            `len(records)` and `records[i]`, such as a list, where a record is a pytree
            of arrays or numbers (all of one structure and shape); threads read it.
        batch_size: B >= 1.
        seed: 0 <= seed < 2**32; the same seed gives the same batches.
        shuffle: False keeps the order of the records.
        epochs: how often to go through the records; None (default) for ever.
        share: (index, number): of every batch the part that one of so many processes
            reads, `(jax.process_index(), jax.process_count())`. Together, in this
            order, they are the batch; `batch_size` is that of all. The state of an
            iterator suits any share, (0, 1) among them. None: the whole batch.

    Returns:
        `grain.IterDataset` whose elements are records with a leading axis B, or
        B / number.

    Raises:
        ModuleNotFoundError: grain is not installed.
        TypeError: records without length or index, shuffle is no bool.
        ValueError: no records, fewer in all epochs than batch_size, arrays with unequal
            leading axes (two are named), a number that is no int or out of range, a
            batch_size that the number of processes does not divide.

    Example:
        >>> from headwise import data
        >>> batches = data.stream(range(6), batch_size=4, seed=0, shuffle=False)
        >>> iterator = iter(batches)
        >>> next(iterator).tolist()
        [0, 1, 2, 3]
        >>> state = iterator.get_state()
        >>> next(iterator).tolist()
        [4, 5, 0, 1]
        >>> iterator.set_state(state)
        >>> next(iterator).tolist()
        [4, 5, 0, 1]
    """
    batch_size = _checks.positive_int("batch_size", batch_size)
    seed = _grain.seed(seed)
    _checks.boolean("shuffle", shuffle)
    if epochs is not None:
        epochs = _checks.positive_int("epochs", epochs)
    rows = _rows.rows("records", records)
    _grain.enough("batch_size", batch_size, len(rows), epochs)
    take = _rows.part(rows.batch, share, "batch_size", batch_size)
    grain = _grain.module("stream")
    if isinstance(rows, _rows.Columns) or share is not None:
        # A batch is one gather: a threads' work a record would cost more than reading.
        indices = _grain.order(grain.MapDataset.range(len(rows)), seed, shuffle, epochs)
        batches = indices.batch(batch_size, drop_remainder=True, batch_fn=take)
        return _grain.ahead(batches)
    ordered = _grain.order(grain.MapDataset.source(records), seed, shuffle, epochs)
    # grain would read 500 records ahead, which is much for volumes.
    ahead = grain.ReadOptions(prefetch_buffer_size=max(16, 2 * batch_size))
    return ordered.to_iter_dataset(ahead).batch(batch_size, drop_remainder=True)
