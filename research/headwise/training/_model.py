"""What every kind of step does with its arguments: the model as one function."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise import _frameworks
from headwise import _means
from headwise import _values_fn
from headwise import gradients
from headwise.training import _look
from headwise.training import _parts
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def with_rest(
    values_fn: ValuesFn, stateful: bool
) -> Callable[[PyTree, Any, PyTree, Array], tuple[Any, PyTree]]:
    """`(params, batch, rest, key) -> (values, rest)` of a model of either kind."""
    model, _ = _values_fn.as_one(values_fn, stateful=stateful)

    def run(params: PyTree, batch: Any, rest: PyTree, key: Array) -> Any:
        if stateful:
            returned = model(params, rest, batch, key)
            _check_dict(returned[0])
            return returned
        returned = model(params, batch)
        _check_dict(returned)
        return returned, rest

    return run


def _check_dict(returned: Any) -> None:
    if not isinstance(returned, Mapping):
        gradients.with_aux(lambda: returned, False)()  # says what is wrong


def check_state(kind: type, made_by: str, got: Any) -> None:
    """Raises TypeError unless a step is given a state of its kind."""
    if not isinstance(got, kind):
        raise TypeError(
            f"state: expected a {kind.__name__} of hw.training.{made_by}, got "
            f"{_checks.kind(got)}{_frameworks.of_state(got)}"
        )


def plain(values_fn: ValuesFn, has_aux: bool) -> _look.Plain:
    """`(params, *args) -> ({name: scalar}, (aux, what is told of the values))`."""
    return gradients.with_aux(_means.with_tally(values_fn, has_aux), True)


def in_parts(model: ValuesFn, microbatches: int) -> ValuesFn:
    """A model of `with_rest`, going through parts of a batch one after the other.

    For passes that are differentiated again, where no pass may be run part by part from
    outside. A part's activations are computed again on the way back
    (`jax.checkpoint`), so that one part's are alive at a time. Parts hand on the rest,
    and draw by keys of their own.
    """
    microbatches = _checks.positive_int("microbatches", microbatches)
    if microbatches == 1:
        return model
    of_part = plain(model, True)

    def whole(
        params: PyTree, batch: Any, rest: PyTree, key: Array
    ) -> tuple[Any, PyTree]:
        parts = _parts.parted("microbatches", microbatches, batch)
        values, rest, tally = _parts.of_whole(
            "microbatches",
            of_part,
            params,
            parts,
            rest,
            key,
            stateful=True,
            remat=True,
        )
        return _means.together(values, tally), rest

    return whole
