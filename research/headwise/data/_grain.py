"""Grain where it is installed, and an order of rows through it."""

from __future__ import annotations

from typing import Any
from typing import TYPE_CHECKING

from headwise import _checks

if TYPE_CHECKING:
    import grain


def module(function: str) -> Any:
    """Raises ModuleNotFoundError that says what to install for this function."""
    try:
        import grain
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"headwise.data.{function} needs the package 'grain'. "
            'Install it with: pip install "headwise[data]"',
            name="grain",
        ) from error
    return grain


def seed(got: Any) -> int:
    """As an int that grain takes; raises ValueError otherwise."""
    number = _checks.nonnegative_int("seed", got, 2**63 - 1)
    if number >= 2**32:
        raise ValueError(f"seed: expected 0 <= seed < 2**32, got {number}")
    return number


def enough(batch_size: str, size: int, count: int, epochs: int | None) -> None:
    """Raises ValueError if there is not a single batch; names the argument."""
    if epochs is not None and epochs * count < size:
        raise ValueError(
            f"{batch_size}: expected at most the {epochs * count} records of all "
            f"epochs, got {size}"
        )


def order(
    examples: grain.MapDataset, seed: int, shuffle: bool, epochs: int | None
) -> grain.MapDataset:
    """All of them, epoch after epoch, each in an order of its own."""
    seeded = examples.seed(seed)
    return (seeded.shuffle() if shuffle else seeded).repeat(epochs)


def ahead(batches: grain.MapDataset) -> grain.IterDataset:
    """Batches that are made ahead by a few threads: each holds memory of its own."""
    options = module("stream").ReadOptions(num_threads=4, prefetch_buffer_size=4)
    return batches.to_iter_dataset(options)
