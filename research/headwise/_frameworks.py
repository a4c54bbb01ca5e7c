"""Models of other libraries where parameters are expected: how to part them.

A class is known by its name and its module: nothing is imported for it.
"""

from typing import Any

import jax

from headwise.typing import PyTree

_WAYS = {
    ("flax.nnx", "Module"): (
        "apply, params, rest = hw.nn.functional(model) parts them, or nnx.split"
    ),
    ("flax.linen", "Module"): "params = model.init(key, x) are its parameters",
    ("equinox", "Module"): (
        "params, static = eqx.partition(model, eqx.is_inexact_array) parts them"
    ),
    ("keras", "KerasVariable"): "take its .value, as model.stateless_call does",
    ("keras", "Variable"): "take its .value, as model.stateless_call does",
}


def state(tree: PyTree) -> tuple[tuple, str] | None:
    """(path, type) of a variable in a module of NNX that is no parameter, or None.

    In a tree without a module (of `nnx.split` with a filter) the user chose them.
    """
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_variable):
        if _is_variable(node) and not _is_a(node, "flax.nnx", "Param"):
            found = _holds(tree, "flax.nnx", "Module")
            return (path, type(node).__name__) if found else None
    return None


def way_out(tree: PyTree) -> str:
    """What to do with a tree that holds more than floating arrays."""
    for (package, name), way in _WAYS.items():
        if _holds(tree, package, name):
            return way
    return "keep what is not trained out of the parameters"


_CALLS = {
    ("flax.nnx", "Module"): "apply, params, rest = hw.nn.functional(model) makes one",
    ("flax.linen", "Module"): "model.apply(params, inputs) is one already",
}


def module(got: Any) -> str | None:
    """What makes a function of a model of another library; None: it is none."""
    for (package, name), way in _CALLS.items():
        if _is_a(got, package, name):
            return way
    return None


def of_state(got: Any) -> str:
    """What is said of a state or optimiser of another library in place of ours."""
    if _is_a(got, "flax.training", "TrainState"):
        made_of = "state.params and state.tx"
    elif _is_a(got, "flax.nnx", "Optimizer"):
        made_of = "the parameters and optimizer.tx"
    else:
        return ""
    return (
        f" of Flax; make one of {made_of}, or keep yours: "
        "grads = hw.balanced_grad(values_fn, balancer)(...) goes into it"
    )


def _is_variable(node: Any) -> bool:
    return _is_a(node, "flax.nnx", "Variable")


def _holds(tree: PyTree, package: str, name: str) -> bool:
    def found(node: Any) -> bool:
        return _is_a(node, package, name)

    return any(map(found, jax.tree.leaves(tree, is_leaf=found)))


def _is_a(node: Any, package: str, name: str) -> bool:
    return any(
        base.__name__ == name and f"{base.__module__}.".startswith(f"{package}.")
        for base in type(node).__mro__
    )
