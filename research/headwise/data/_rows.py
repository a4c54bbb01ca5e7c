"""The examples of one source on the host, and how a batch of them is put together."""

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from headwise import _checks
from headwise.data import _arguments


@dataclasses.dataclass(frozen=True)
class Columns:
    """Arrays that all have the leading axis of the examples."""

    arrays: Any

    def __len__(self) -> int:
        return jax.tree.leaves(self.arrays)[0].shape[0]

    def batch(self, rows: Sequence[int]) -> Any:
        """These rows of every array."""
        index = np.asarray(rows)
        return jax.tree.map(lambda array: array[index], self.arrays)


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples that are read one by one: anything with a length and an index."""

    records: Any

    def __len__(self) -> int:
        return len(self.records)

    def batch(self, rows: Sequence[int]) -> Any:
        """These records, stacked."""
        return jax.tree.map(lambda *x: np.stack(x), *(self.records[i] for i in rows))


def part(
    take: Callable[[Sequence[Any]], Any],
    share: tuple[int, int] | None,
    argument: str,
    batch_size: int,
) -> Callable[[Sequence[Any]], Any]:
    """`take` of a process's part of the rows of a batch.

    Args:
        take: puts the rows of a batch together.
        share: (index, number) of the process, None: the whole.
        argument, batch_size: the number of rows, and its name.

    Raises:
        ValueError: there is no such process; the rows cannot be dealt out evenly.
    """
    if share is None:
        return take
    if not isinstance(share, tuple | list) or len(share) != 2:
        raise TypeError(
            "share: expected (index, number) of this process, such as "
            f"(jax.process_index(), jax.process_count()), got {_checks.kind(share)}"
        )
    index = _checks.nonnegative_int("share: index", share[0])
    number = _checks.positive_int("share: number", share[1])
    if index >= number:
        raise ValueError(f"share: expected index < number, got {index} of {number}")
    if batch_size % number:
        raise ValueError(
            f"{argument}: expected rows that {number} processes divide (share), got "
            f"{batch_size}"
        )
    own = batch_size // number
    return functools.partial(_of_part, take, slice(index * own, (index + 1) * own))


def _of_part(
    take: Callable[[Sequence[Any]], Any], own: slice, rows: Sequence[Any]
) -> Any:
    return take(rows[own])


def rows(name: str, examples: Any) -> Columns | Records:
    """Columns of a dict by names, a NamedTuple, a tuple of arrays; else records.

    Raises:
        TypeError: neither. ValueError: none of them; unequal leading axes.
    """
    if _is_columns(examples):
        _arguments.leading_axis(name, examples)
        # Arrays of the device are copied once; what is mapped from a file stays there.
        on_host = jax.tree.map(
            lambda x: np.asarray(x) if isinstance(x, jax.Array) else x, examples
        )
        return Columns(on_host)
    if not (hasattr(examples, "__len__") and hasattr(examples, "__getitem__")):
        raise TypeError(
            f"{name}: expected arrays (a dict, a tuple), or a length and an index, got "
            f"{_checks.kind(examples)}"
        )
    if len(examples) == 0:
        raise ValueError(f"{name}: expected at least one record, got none")
    return Records(examples)


def _is_columns(examples: Any) -> bool:
    """A tuple of numbers, texts or objects is a sequence of records, as a list is."""
    if isinstance(examples, Mapping):
        return not examples or any(isinstance(name, str) for name in examples)
    if isinstance(examples, tuple):
        leaves = jax.tree.leaves(examples)
        arrays = bool(leaves) and all(getattr(x, "ndim", 0) > 0 for x in leaves)
        return arrays or hasattr(examples, "_fields")
    return False
