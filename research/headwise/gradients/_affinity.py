"""Affinity: how much a step on one head alone changes the value of every other.

From the matrix of all pairs, which heads should be trained together. The mean over
training steps is the user's own (`lax.scan`); cosines of gradients are in `_gramian`.
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from headwise import _checks
from headwise import _numerics
from headwise import _trees
from headwise.gradients import _head_grads
from headwise.gradients import _routing
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

_MOST_HEADS = 16
"""Heads that `group_heads` takes: some seconds; with each more the work triples."""

_TIE = 1e-12
"""Scores that differ by less, relative to their terms, count as equal."""


def affinity(
    values_fn: ValuesFn,
    optimizer: optax.GradientTransformation,
    method: str = "measured",
    *,
    relative: bool = True,
    shared: PyTree | Callable[[str], bool] | None = None,
    has_aux: bool = False,
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
        values_fn: `(params, *args, **kwargs) -> {name: scalar}`, as in `hw.head_grads`.
        optimizer: of optax.
        method: "measured" or "predicted".
        relative: divide by the value, as in TAG. False leaves the decrease of the
            value, v_k(params) - v_k(params + u_h), in its own units: for values that
            may be negative or 0 (log-likelihoods), where a ratio says nothing.
        shared: the parameters that a step moves. None means those that two or more
            heads reach (found by `hw.routing`), or all if there are none. Otherwise as
            `wrt` of `hw.head_grads`: a predicate on their path (`lambda path:
            path.startswith("trunk")`), or a prefix of their tree with bool leaves.
        has_aux: `values_fn` returns (values, aux), as in `jax.grad`.

    Returns:
        `f(params, optimizer_state, *args, **kwargs)` -> `(values, Z)`, or
        `((values, aux), Z)` with `has_aux`; pure, so it may be jitted, vmapped and
        scanned. `values` is {name: scalar} before any step. `Z` is [H, H], rows and
        columns in sorted order of the names; float32 (also for bfloat16), float64 if
        the values are. Where a value is 0 its relative column is 0. NaN in the value or
        gradient of a head stays in its row and column.

    Raises:
        ValueError: unknown `method`; `optimizer_state` is not built like
            `optimizer.init(params)`; `shared` is no prefix or selects nothing.
        TypeError: `optimizer` is none of optax; `shared` holds other than bool.
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
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            "optimizer: expected an optax.GradientTransformation, got "
            f"{type(optimizer).__name__}"
        )
    plain = _head_grads.with_aux(values_fn, has_aux)
    gradients = _head_grads.head_grads(plain, has_aux=True)

    def transformed(
        params: PyTree, optimizer_state: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, Array]:
        (values, aux), grads = gradients(params, *args, **kwargs)
        _check_state(optimizer, optimizer_state, params)
        if shared is None:
            found = _routing.routing(plain, params, *args, has_aux=True, **kwargs)
            none = not any(jax.tree.leaves(found.shared))
            moved = jax.tree.map(lambda flag: flag or none, found.shared)
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
        return ((values, aux) if has_aux else values), decrease

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

    found = [
        jnp.matmul(rows(u), rows(g).T, precision=jax.lax.Precision.HIGHEST).real
        for u, g in zip(
            zip(*map(jax.tree.leaves, updates.values()), strict=True),
            zip(*map(jax.tree.leaves, grads.values()), strict=True),
            strict=True,
        )
    ]
    return jnp.asarray(sum(found))


def _check_state(
    optimizer: optax.GradientTransformation, state: Any, params: PyTree
) -> None:
    expected = _trees.structure(jax.eval_shape(optimizer.init, params))
    if _trees.structure(state) != expected:
        raise ValueError(
            "optimizer_state: expected what optimizer.init(params) returns "
            f"({expected}), got {_trees.structure(state)}"
        )


class Grouping(NamedTuple):
    """Which heads to train together, as `hw.group_heads` finds it.

    Example:
        >>> Z = [[0.0, 0.5], [-0.25, 0.0]]
        >>> hw.group_heads(Z, ["a", "b"], budget=2, alone=0.0)
        Grouping(groups=(('a',), ('a', 'b')), serves={'a': 0, 'b': 1}, score=0.5)
    """

    groups: tuple[tuple[str, ...], ...]
    """The heads that each network trains on, sorted; a head may be in several."""
    serves: dict[str, int]
    """{head: index of the group whose network is used for it}."""
    score: float
    """Σ of the affinities onto all heads, each in the group that serves it."""


def group_heads(
    affinity: Any, names: Iterable[str], budget: int, alone: float = 1e-6
) -> Grouping:
    """Which heads to train together, given their affinities and a number of networks.

    Every network trains on a group of heads, and every head is served by one network
    that trains on it; a head may be in more groups, to help others there. With Z the
    affinities (row: the head that steps), the affinity onto head j in group G is::

        a(G, j) = mean of Z[i, j] over the other heads i in G;   alone if there are none

    Of all choices of at most `budget` groups, the one with the largest Σ_j a(G_j, j),
    where G_j is the group that serves j. The search is exact. It goes over sets of
    served heads, of which each takes its best group, and so costs 3^H steps, not
    (2^H)^budget: 0.05 s for 10 heads, some seconds for 16. Where scores are equal up to
    rounding (1e-12 of their terms), fewer and smaller groups win.

    Convention: the default of `alone`, 1e-6, leaves a head alone if every group would
    harm it and the budget allows it. For that 0 has to mean "no effect", which momentum
    makes untrue (see `hw.affinity`). TAG's released code has -1e6 there: no head is
    alone that could be with others, and a constant added to a column changes no choice;
    pass `alone=-1e6` for that. The diagonal of Z, what a head does for itself, is not
    read: it would nearly always win. Their table is the transpose of Z (row: the head
    that is changed), and their score the mean over the heads.

    Args:
        affinity: [H, H] array, of `hw.affinity`, best the mean over training. Rows and
            columns in sorted order of the names; finite beside the diagonal.
        names: of the H heads, in any order (`values`, `objective.names`); they are
            sorted.
        budget: 1 or more, the largest number of groups.
        alone: the affinity onto a head in a group of its own.

    Returns:
        `Grouping(groups, serves, score)`; NumPy on the host, not for use inside jit.

    Raises:
        ValueError: `affinity` is not [H, H] or not finite (the pair is named);
            duplicate names; `budget` below 1; `alone` not finite; more than 16 heads.
        TypeError: `budget` is no int; names are not strings.

    Example:
        >>> names = ["a", "b", "c"]             # a and b help each other, both harm c
        >>> Z = [[0.0, 0.5, -0.25], [0.25, 0.0, -0.75], [0.125, -0.5, 0.0]]
        >>> found = hw.group_heads(Z, names, budget=2, alone=0.0)
        >>> print(found.groups, found.score)                    # a 0.25, b 0.5, c 0
        (('a', 'b'), ('c',)) 0.75
        >>> found = hw.group_heads(Z, names, budget=2, alone=-1e6)
        >>> print(found.groups, found.serves, found.score)      # a 0.25, b 0.5, c -0.25
        (('a', 'b'), ('a', 'c')) {'a': 0, 'b': 0, 'c': 1} 0.5

    References:
        Fifty et al., "Efficiently identifying task groupings for multi-task learning",
        NeurIPS 2021 (arXiv 2109.04617), the section on network selection; code in
        google-research/tag/network_selection.
    """
    heads = _checks.head_names("names", names)
    matrix = _checked_affinity(affinity, heads)
    if not isinstance(budget, int | np.integer):
        raise TypeError(f"budget: expected an int, got {type(budget).__name__}")
    if budget < 1:
        raise ValueError(f"budget: expected 1 or more, got {budget}")
    if not math.isfinite(alone):
        raise ValueError(f"alone: expected a finite number, got {alone}")
    onto = _affinity_onto(matrix, float(alone))
    group_of, value = _best_groups(onto)
    best: tuple[float, dict[int, int]] | None = None
    for blocks in _best_partitions(value, min(int(budget), len(heads))):
        chosen = {j: int(group_of[block]) for block in blocks for j in _members(block)}
        terms = [float(onto[group, j]) for j, group in sorted(chosen.items())]
        score = math.fsum(terms)
        if best is None or score > best[0] + _TIE * math.fsum(map(abs, terms)):
            best = score, chosen
    assert best is not None
    score, chosen = best
    order = sorted(set(chosen.values()), key=_members)
    return Grouping(
        groups=tuple(tuple(heads[j] for j in _members(group)) for group in order),
        serves={heads[j]: order.index(group) for j, group in sorted(chosen.items())},
        score=score,
    )


def _checked_affinity(affinity: Any, heads: tuple[str, ...]) -> np.ndarray:
    """[H, H] float64 with a diagonal of zeros."""
    number = len(heads)
    if number > _MOST_HEADS:
        raise ValueError(
            f"names: expected at most {_MOST_HEADS} heads for the exact search, got "
            f"{number}; group the heads in parts, or drop some"
        )
    matrix = np.array(affinity, np.float64)
    if matrix.shape != (number, number):
        raise ValueError(
            f"affinity: expected [{number}, {number}] for the heads "
            f"{_checks.listing(heads)}, got shape {matrix.shape}"
        )
    np.fill_diagonal(matrix, 0.0)
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"affinity: expected finite entries, got {matrix[row, column]} for a step "
            f"of {heads[row]!r} on {heads[column]!r}"
        )
    return matrix


# Below, a set of heads is an int used as a bit set, and an index into arrays [2^H].


def _members(group: int) -> list[int]:
    return [j for j in range(int(group).bit_length()) if group >> j & 1]


def _subsets(group: int) -> np.ndarray:
    """All subsets of a set, [2^size], the empty one first."""
    found = np.zeros(1, np.int64)
    for j in _members(group):
        found = np.concatenate([found, found | 1 << j])
    return found


def _affinity_onto(matrix: np.ndarray, alone: float) -> np.ndarray:
    """[2^H, H] the affinity onto each head in each group (of its members only)."""
    number = len(matrix)
    groups = np.arange(1 << number)[:, None] >> np.arange(number)[None, :] & 1
    others = np.sum(groups, axis=1, keepdims=True) - 1
    mean = (groups @ matrix) / np.maximum(others, 1)
    return np.where(others > 0, mean, alone)


def _best_groups(onto: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each set of served heads the best group that holds it, and their score."""
    size = len(onto)
    group_of = np.zeros(size, np.int64)
    value = np.full(size, -np.inf)
    for group in sorted(range(1, size), key=lambda group: (group.bit_count(), group)):
        sets = _subsets(group)
        scores = terms = np.zeros(1)
        for j in _members(group):
            scores = np.concatenate([scores, scores + onto[group, j]])
            terms = np.concatenate([terms, terms + abs(onto[group, j])])
        better = scores > value[sets] + _TIE * terms
        value[sets[better]] = scores[better]
        group_of[sets[better]] = group
    return group_of, value


def _best_partitions(value: np.ndarray, budget: int) -> list[list[int]]:
    """The best partition of all heads into at most 1, 2, ..., budget sets."""
    size = len(value)
    # [b, set]: the best score of a set that b blocks serve, and the first block of it.
    best = np.full((budget + 1, size), -np.inf)
    first = np.zeros((budget + 1, size), np.int64)
    best[:, 0] = 0.0
    for whole in range(1, size):
        lowest = whole & -whole
        blocks = _subsets(whole ^ lowest) | lowest
        scores = value[blocks] + best[:-1, whole ^ blocks]
        which = np.argmax(scores, axis=1)
        best[1:, whole] = scores[np.arange(budget), which]
        first[1:, whole] = blocks[which]
    found = []
    for blocks_left in range(1, budget + 1):
        partition, left = [], size - 1
        for b in range(blocks_left, 0, -1):
            if left:
                partition.append(int(first[b, left]))
                left ^= partition[-1]
        found.append(partition)
    return found
