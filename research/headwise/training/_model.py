"""What every kind of step does with its arguments: the model as one function."""

from collections.abc import Callable
from typing import Any

import jax

from headwise import _checks
from headwise import _traced
from headwise.training import _look
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def with_rest(
    values_fn: ValuesFn, stateful: bool, microbatches: int
) -> Callable[[PyTree, Any, PyTree, Array], tuple[Any, PyTree]]:
    """`(params, batch, rest, key) -> (values, rest)` of a model of either kind."""
    _checks.boolean("stateful", stateful)
    microbatches = _checks.positive_int("microbatches", microbatches)
    if stateful and microbatches != 1:
        raise ValueError(
            f"microbatches: expected 1 for a stateful model, got {microbatches}"
        )

    def run(params: PyTree, batch: Any, rest: PyTree, key: Array) -> Any:
        if stateful:
            return values_fn(params, rest, batch, key)
        return values_fn(params, batch), rest

    return run


def in_parts(plain: _look.Plain, microbatches: int) -> _look.Plain:
    """`plain(params, batch, *others)` as means over parts of the batch.

    For passes that are differentiated again, where no pass may be run part by part from
    outside. A part's activations are computed again on the way back
    (`jax.checkpoint`), so that one part's are alive at a time; aux is that of the last.
    """
    if microbatches == 1:
        return plain

    def means(params: PyTree, batch: Any, *others: Any) -> tuple[dict, Any]:
        parts = _look.parted("microbatches", microbatches, batch)
        program = _traced.traced(
            lambda params, part: plain(params, part, *others),
            params,
            jax.tree.map(lambda a: a[0], parts),
        )
        run = jax.checkpoint(program)
        return _look.summed(lambda part: run(params, part), program.types[0], parts)

    return means


def period(contributions: bool | int) -> int:
    """How many steps apart contributions are wanted: 1 for True, 0 for never."""
    if isinstance(contributions, bool):
        return int(contributions)
    return _checks.nonnegative_int("contributions", contributions)
