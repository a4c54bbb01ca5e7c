"""What every kind of step does with its arguments: the model as one function."""

from collections.abc import Callable
from typing import Any

from headwise import _checks
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def with_rest(
    values_fn: ValuesFn, stateful: bool, microbatches: int
) -> Callable[[PyTree, Any, PyTree, Array], tuple[Any, PyTree]]:
    """`(params, batch, rest, key) -> (values, rest)` of a model of either kind."""
    _checks.boolean("stateful", stateful)
    if stateful and microbatches != 1:
        raise ValueError(
            f"microbatches: expected 1 for a stateful model, got {microbatches}"
        )

    def run(params: PyTree, batch: Any, rest: PyTree, key: Array) -> Any:
        if stateful:
            return values_fn(params, rest, batch, key)
        return values_fn(params, batch), rest

    return run


def period(contributions: bool | int) -> int:
    """How many steps apart contributions are wanted: 1 for True, 0 for never."""
    if isinstance(contributions, bool):
        return int(contributions)
    return _checks.nonnegative_int("contributions", contributions)
