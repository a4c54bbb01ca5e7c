"""Affinity: how much a step on one head alone changes the value of every other.

The mean over training steps is the user's own (`lax.scan`); cosines of gradients are in
`_gramian`; which heads to train together, from the matrix of all pairs, in `_grouping`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise import _means
from headwise import _numerics
from headwise import _trees
from headwise.gradients import _head_grads
from headwise.gradients import _routing
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def affinity(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    method: str = "measured",
    *,
    relative: bool = True,
    shared: PyTree | Callable[[str], bool] | None = None,
    has_aux: bool = False,
    stateful: bool = False,
) -> Callable[..., tuple[Any, Array]]:
    """Transforms `values_fn` into a function that returns the affinity of all heads.

    With v_k the value of head k, g_h the gradient of head h, and u_h the update that
    the optimiser makes of g_h alone, kept on the shared parameters and 0 elsewhere::

        "measured":    Z[h, k] = 1 - v_k(params + u_h) / v_k(params)
        "predicted":   Z[h, k] = -<g_k, u_h> / v_k(params)

    Row h is the head that steps, column k the head that is changed; positive means
    that the step of h helps k. "measured" is the lookahead of TAG: a forward pass a
    head on top of the head gradients. "predicted" is its first order, up to terms in
    |u|², without forward pass; it is the better one where steps are so small that the
    difference of two values is lost in their rounding (bfloat16).

    The optimiser is the one in use, momentum and preconditioner included; its state is
    read and not advanced. Momentum and weight decay are in u_h whatever h is, and shift
    all of a column by about the same: then compare within it, not with 0. Gradients
    go in whole, private part included, as a clipped global norm sees them. Entries grow
    with the learning rate: for a mean over a run whose rate decays, divide each matrix
    by its rate, as TAG's released code does. `optax.MultiSteps` gives 0 between its
    steps.

    Args:
        values_fn: `(params, *args, **kwargs) -> values`, as in `hw.head_grads`.
        optimizer: of optax.
        method: "measured" or "predicted".
        relative: divide by the value, as in TAG. False leaves the decrease of the
            value, v_k(params) - v_k(params + u_h), in its own units: for values that
            may be negative or 0 (log-likelihoods), where a ratio says nothing.
        shared: the parameters that a step moves. None means those that two or more
            heads reach (found by `hw.routing`), or all if there are none. Otherwise as
            `wrt` of `hw.head_grads`: a predicate on their path (`lambda path:
            path.startswith("trunk")`), or a prefix of their tree with bool leaves.
        has_aux, stateful: as in `hw.head_grads`. A stateful model looks ahead from the
            rest that it is given, with the same key.

    Returns:
        `f(params, optimizer_state, *args, **kwargs)` -> `(values, Z)`, with `has_aux`
        `((values, aux), Z)`, with `stateful` `((values, rest), Z)`; pure, so it may be
        jitted, vmapped and scanned. `values` is {name: scalar} before any step. `Z` is
        [H, H], rows and columns in sorted order of the names; float32 (also for
        bfloat16), float64 if the values are. Where a value is 0 its relative column is
        0, and where a head has no data (`hw.Means`) its row and column are. NaN in the
        value or gradient of a head stays in its row and column.

    Raises:
        ValueError: unknown `method`; `optimizer_state` is not built like
            `optimizer.init(params)`; `shared` is no prefix or selects nothing.
        TypeError: `optimizer` is none of optax; `relative`, `has_aux` or `stateful` is
            no bool, or `shared` holds other than bool.
        TypeError, ValueError: when called, as `hw.head_grads`.

    Example:
        >>> def values_fn(p):                          # gradients at w = 1: 2 and -4
        ...     return {"a": p["w"] ** 2, "b": (p["w"] - 3.0) ** 2}
        >>> params, optimizer = {"w": 1.0}, optax.sgd(0.25)
        >>> state = optimizer.init(params)
        >>> values, Z = hw.affinity(values_fn, optimizer)(params, state)
        >>> print(Z)              # a steps to w = 0.5: 1 - 0.25 / 1 and 1 - 6.25 / 4
        [[ 0.75   -0.5625]
         [-3.      0.75  ]]
        >>> print(hw.affinity(values_fn, optimizer, "predicted")(params, state)[1])
        [[ 1.  -0.5]
         [-2.   1. ]]

        The mean over training, in one program; off the diagonal -1.25 at w = 1.5:

        >>> step = hw.training.make_step(lambda p, _: values_fn(p), optimizer)
        >>> def measured_step(s, batch):
        ...     Z = hw.affinity(values_fn, optimizer)(s.params, s.optimizer)[1]
        ...     return step(s, batch)[0], Z
        >>> start = hw.training.init_state(["a", "b"], params, optimizer,
        ...                                hw.balancers.equal())
        >>> print(jnp.mean(jax.lax.scan(measured_step, start, jnp.zeros(2))[1], axis=0))
        [[ 0.75    -0.90625]
         [-2.125    0.75   ]]

    References:
        Fifty et al., "Efficiently identifying task groupings for multi-task learning",
        NeurIPS 2021 (arXiv 2109.04617), the section on inter-task affinity.
    """
    _checks.choice("method", ["measured", "predicted"], method)
    _checks.boolean("relative", relative)
    _checks.optimizer("optimizer", optimizer)
    plain = _head_grads.with_tally(values_fn, has_aux, stateful)
    beside = has_aux or stateful
    gradients = _head_grads.head_grads(plain, has_aux=True)

    def transformed(
        params: PyTree, optimizer_state: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, Array]:
        (values, (aux, tally)), grads = gradients(params, *args, **kwargs)
        _trees.check_optimizer_state(
            "optimizer_state", optimizer, optimizer_state, params
        )
        if shared is None:
            routing = _routing.routing(plain, params, *args, has_aux=True, **kwargs)
            none = not any(jax.tree.leaves(routing.shared))
            moved = jax.tree.map(lambda flag: flag or none, routing.shared)
        else:
            flags = _trees.selected("shared", shared, params)
            moved = jax.tree.unflatten(jax.tree.structure(params), flags)
        updates = {
            name: _trees.mask_by(
                optimizer.update(grads[name], optimizer_state, params)[0], moved
            )
            for name in values
        }
        before = _row(values)
        if method == "predicted":
            decrease = -_along(grads, updates)
        else:
            after = [
                _row(plain(optax.apply_updates(params, update), *args, **kwargs)[0])
                for update in updates.values()
            ]
            decrease = before[None, :] - jnp.stack(after)
        if relative:
            decrease = _numerics.safe_divide(decrease, before[None, :], 0.0)
        here = tally.here(values)
        if here is not None:
            both = here[:, None] & here[None, :]
            decrease = jnp.where(both, decrease, jnp.zeros_like(decrease))
        values = _means.together(values, tally)
        return ((values, aux) if beside else values), decrease

    return transformed


def _row(values: dict[str, Array]) -> Array:
    """[H], at least float32; the dict is in sorted order already."""
    row = jnp.stack([jnp.asarray(value) for value in values.values()])
    return row.astype(_numerics.accumulator(row))


def _along(grads: dict[str, PyTree], updates: dict[str, PyTree]) -> Array:
    """[H, H] the first-order change of head k (column) along the update of h (row)."""

    def rows(leaves: tuple[Array, ...]) -> Array:
        matrix = jnp.stack([jnp.ravel(leaf) for leaf in leaves])
        return matrix.astype(_numerics.accumulator(matrix))

    of_leaves = [
        jnp.matmul(rows(u), rows(g).T, precision=jax.lax.Precision.HIGHEST).real
        for u, g in zip(
            zip(*map(jax.tree.leaves, updates.values()), strict=True),
            zip(*map(jax.tree.leaves, grads.values()), strict=True),
            strict=True,
        )
    ]
    return jnp.asarray(sum(of_leaves))
