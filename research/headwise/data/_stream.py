"""Batches from the host through grain, for data that does not fit on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import TYPE_CHECKING

from headwise import _checks

if TYPE_CHECKING:
    import grain


def stream(
    records: Sequence[Any],
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    epochs: int | None = None,
) -> grain.IterDataset:
    """A grain data set of batches over anything with a length and an index.

    A thin chain of grain's own parts: source, seed, shuffle (anew each epoch), repeat,
    threads that read ahead, batch. The result is an ordinary grain data set: extend it
    with `.map`, `.filter` or `.mp_prefetch`. Batches all have the same shape, so a step
    compiles once: they run on over the end of an epoch, and at the very end a rest
    smaller than a batch is dropped.

    `iterator = iter(dataset)` has `get_state()` and `set_state(state)`. The state is a
    small dict, and an iterator that is set to it goes on with exactly the batches that
    would have come next.

    Args:
        records: `len(records)` and `records[i]`, where a record is a pytree of arrays
            or numbers (all of one structure and shape); threads read it.
        batch_size: B >= 1.
        seed: 0 <= seed < 2**32; the same seed gives the same batches.
        shuffle: False keeps the order of the records.
        epochs: how often to go through the records; None (default) for ever.

    Returns:
        `grain.IterDataset` whose elements are records with a leading axis B.

    Raises:
        ModuleNotFoundError: grain is not installed.
        TypeError: records without length or index, shuffle is no bool.
        ValueError: no records, fewer in all epochs than batch_size, a number that is no
            int or out of range.

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
    seed = _checks.nonnegative_int("seed", seed, 2**63 - 1)
    if seed >= 2**32:
        raise ValueError(f"seed: expected 0 <= seed < 2**32, got {seed}")
    _checks.boolean("shuffle", shuffle)
    if not (hasattr(records, "__len__") and hasattr(records, "__getitem__")):
        raise TypeError(
            f"records: expected a length and an index, got {type(records).__name__}"
        )
    if len(records) == 0:
        raise ValueError("records: expected at least one record, got none")
    if epochs is not None:
        total = _checks.positive_int("epochs", epochs) * len(records)
        if total < batch_size:
            raise ValueError(
                f"batch_size: expected at most the {total} records of all epochs, "
                f"got {batch_size}"
            )
    try:
        import grain
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "headwise.data.stream needs the package 'grain'. "
            'Install it with: pip install "headwise[data]"',
            name="grain",
        ) from error
    dataset = grain.MapDataset.source(records).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    # grain would read 500 records ahead, which is much for volumes.
    ahead = grain.ReadOptions(prefetch_buffer_size=max(16, 2 * batch_size))
    ordered = dataset.repeat(epochs).to_iter_dataset(ahead)
    return ordered.batch(batch_size, drop_remainder=True)
