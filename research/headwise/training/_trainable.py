"""A part of the parameters is trained; the others are constants of the model.

A step of a part is the step of the whole, of a model that has the part for parameters
and closes over the rest. So nothing in it knows of frozen parameters: no pass goes to
them, no head reaches them, and an optimiser remembers nothing of them.

Example:
    >>> from headwise.training import _trainable
    >>> params = {"trunk": 1.0, "head": 2.0}
    >>> part, whole = _trainable.parted(lambda path: path == "head", params)
    >>> part
    {'head': 2.0, 'trunk': None}
    >>> whole({"head": 5.0, "trunk": None})
    {'head': 5.0, 'trunk': 1.0}
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from headwise import _trees
from headwise import _values_fn
from headwise.typing import PyTree
from headwise.typing import ValuesFn

Step = Callable[[Any, Any], tuple[Any, Any]]


def parted(trainable: Any, params: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """The part to train, None in place of the others, and what makes it whole again.

    Args:
        trainable: a predicate on paths, or a prefix of the parameters' tree with bool
            leaves.
        params: the parameters.
    """
    flags = _trees.selected("trainable", trainable, params)
    leaves, structure = jax.tree.flatten(params)

    def tree(leaves: list[Any]) -> PyTree:
        return jax.tree.unflatten(structure, leaves)

    def whole(part: PyTree) -> PyTree:
        mine = iter(jax.tree.leaves(part))
        pairs = zip(flags, leaves, strict=True)
        return tree([next(mine) if on else leaf for on, leaf in pairs])

    part = [leaf if on else None for on, leaf in zip(flags, leaves, strict=True)]
    return tree(part), whole


def part(trainable: Any, params: PyTree) -> PyTree:
    """The part to train; None trains all."""
    return params if trainable is None else parted(trainable, params)[0]


def of_step(
    make: Callable[[ValuesFn], Step], values_fn: ValuesFn, trainable: Any
) -> Step:
    """The step that `make` makes, of a part of the state's parameters.

    Args:
        make: from a values_fn, of all parameters that it is given, to a step.
        values_fn: of the whole parameters.
        trainable: as in `parted`; None trains all.
    """
    of_all = make(values_fn)
    if trainable is None:
        return of_all

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        if not (hasattr(state, "_replace") and hasattr(state, "params")):
            return of_all(state, batch)  # says what is wrong
        part, whole = parted(trainable, state.params)

        @functools.wraps(values_fn)
        def of_part(part: PyTree, *args: Any) -> Any:
            return values_fn(whole(part), *args)

        new, info = make(of_part)(state._replace(params=part), batch)
        return new._replace(params=whole(new.params)), info

    step.__dict__.update(of_all.__dict__)
    return step


def others_fixed(values_fn: ValuesFn, trainable: Any) -> ValuesFn:
    """A function of all parameters that hangs on a part of them alone."""
    if trainable is None:
        return values_fn
    _values_fn.check(values_fn)

    @functools.wraps(values_fn)
    def fixed(params: PyTree, *args: Any, **kwargs: Any) -> Any:
        _, whole = parted(trainable, jax.lax.stop_gradient(params))
        return values_fn(whole(part(trainable, params)), *args, **kwargs)

    return fixed
