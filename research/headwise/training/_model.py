"""What every kind of step does with its arguments: the model as one function."""

from collections.abc import Callable
from typing import Any

from headwise import _checks
from headwise import _means
from headwise import gradients
from headwise.training import _look
from headwise.training import _parts
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


def plain(values_fn: ValuesFn, has_aux: bool) -> _look.Plain:
    """`(params, *args) -> ({name: scalar}, (aux, what is told of the values))`."""
    return gradients.with_aux(_means.with_tally(values_fn, has_aux), True)


def in_parts(model: ValuesFn, microbatches: int) -> ValuesFn:
    """`model(params, batch, *others) -> (values, aux)`, going through parts of a batch.

    For passes that are differentiated again, where no pass may be run part by part from
    outside. A part's activations are computed again on the way back
    (`jax.checkpoint`), so that one part's are alive at a time; aux is that of the last.
    """
    if microbatches == 1:
        return model
    of_part = plain(model, True)

    def whole(params: PyTree, batch: Any, *others: Any) -> tuple[Any, Any]:
        parts = _parts.parted("microbatches", microbatches, batch)
        values, aux, tally = _parts.of_whole(
            "microbatches",
            lambda params, part: of_part(params, part, *others),
            params,
            parts,
            remat=True,
        )
        return _means.together(values, tally), aux

    return whole


def period(contributions: bool | int) -> int:
    """How many steps apart contributions are wanted: 1 for True, 0 for never."""
    if isinstance(contributions, bool):
        return int(contributions)
    return _checks.nonnegative_int("contributions", contributions)
