"""A values function of either kind, and what is said of one that is called otherwise.

Stateless: `(params, *args) -> values`, or `(values, aux)` with `has_aux`. Stateful, of
a model with running statistics or random numbers: `(params, rest, batch, key) ->
(values, rest)`. To what is computed the rest is an aux, so that both kinds are one.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise import _frameworks
from headwise.typing import ValuesFn

STATEFUL = ("params", "rest", "batch", "key")


def check(values_fn: Any) -> None:
    """Raises TypeError unless it is a function, and no Objective."""
    _checks.function("values_fn", values_fn)
    if hasattr(values_fn, "total") and hasattr(values_fn, "values"):
        raise TypeError(
            f"values_fn: expected a function, got {_checks.kind(values_fn)}: one that "
            "runs the model and returns objective.values(outputs, targets)"
        )


def as_one(
    values_fn: ValuesFn, has_aux: bool = False, stateful: bool = False
) -> tuple[ValuesFn, bool]:
    """The function, and whether it returns something beside the values: (values, it).

    Args:
        values_fn: of either kind.
        has_aux: a stateless one returns (values, aux).
        stateful: it is the other kind, and returns (values, rest).

    Raises:
        TypeError: it is no function, a flag no bool. ValueError: both flags.
    """
    check(values_fn)
    _checks.boolean("has_aux", has_aux)
    _checks.boolean("stateful", stateful)
    if has_aux and stateful:
        raise ValueError(
            "has_aux: expected False with stateful=True, whose rest is what comes back "
            "beside the values (it may hold more), got True"
        )

    def stateless(*args: Any, **kwargs: Any) -> Any:
        return called(values_fn, args, kwargs)

    def with_rest(*args: Any, **kwargs: Any) -> Any:
        check_number(len(args) + len(kwargs))
        returned = called(values_fn, args, kwargs, stateful=True)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise TypeError(
                "values_fn: expected it to return ({name of head: scalar}, rest) with "
                f"stateful=True, got {_checks.kind(returned)}"
            )
        return returned

    return (with_rest, True) if stateful else (stateless, has_aux)


def check_number(arguments: int) -> None:
    """Raises TypeError unless a stateful function is given what it takes."""
    if arguments != len(STATEFUL):
        raise TypeError(
            f"stateful=True: expected the arguments ({', '.join(STATEFUL)}), got "
            f"{arguments} of them"
        )


def called(
    values_fn: ValuesFn,
    args: tuple,
    kwargs: Mapping[str, Any] | None = None,
    *,
    stateful: bool = False,
) -> Any:
    """What it returns; an error says so if it takes other arguments."""
    kwargs = kwargs or {}
    try:
        return values_fn(*args, **kwargs)
    except Exception as error:
        way = _frameworks.module(values_fn)
        if way is not None:
            raise TypeError(
                f"values_fn: expected a function, got the module "
                f"{_checks.kind(values_fn)}: one that runs it and returns {{name of "
                f"head: scalar}}; {way}"
            ) from error
        if isinstance(error, TypeError):
            _explain(values_fn, args, kwargs, stateful, error)
        raise


def _explain(
    values_fn: ValuesFn,
    args: tuple,
    kwargs: Mapping[str, Any],
    stateful: bool,
    error: TypeError,
) -> None:
    """Raises TypeError if the function takes other arguments than it is given."""
    try:
        signature = inspect.signature(values_fn)
    except (TypeError, ValueError):  # it does not tell
        return
    if _binds(signature, args, kwargs):
        return
    other = (None, None) if stateful else STATEFUL
    hint = f"; stateful={not stateful} calls it so" if _binds(signature, other) else ""
    raise TypeError(
        f"values_fn: expected values_fn({_words(args, kwargs, stateful)}) with "
        f"stateful={stateful}, got values_fn{signature}{hint}"
    ) from error


def _binds(
    signature: inspect.Signature, args: tuple, kwargs: Mapping[str, Any] | None = None
) -> bool:
    try:
        signature.bind(*args, **(kwargs or {}))
    except TypeError:
        return False
    return True


def _words(args: tuple, kwargs: Mapping[str, Any], stateful: bool) -> str:
    """What a function is given, by the names of the house."""
    more = len(args) - 1
    rest = {0: (), 1: ("batch",)}.get(more, (f"{more} more",))
    names = STATEFUL if stateful and not kwargs else ("params", *rest)
    return ", ".join([*names, *(f"{name}=" for name in kwargs)])
