"""Components: heads that are linked by what they share, each a problem of its own.

A balancer weighs heads against each other because they pull at the same parameters.
Heads that pull at none in common have nothing to weigh: an actor-critic whose critic
is a network of its own has two components::

    actor moved by policy, entropy; critic by value   ->   (entropy, policy), (value,)

The balancer is asked about each component of several heads as if the others were not
there. A head alone is not asked about: it keeps its own gradient.

Example:
    >>> from headwise.training import _components
    >>> reached = [[True, False], [True, False], [False, True]]      # two leaves
    >>> _components.connected(reached, [True, True])
    [(0, 1), (2,)]
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from headwise import _numerics
from headwise import _products
from headwise import _trees
from headwise import _xla
from headwise import balancers
from headwise.training import _layout
from headwise.typing import Array
from headwise.typing import PyTree

Group = tuple[int, ...]
"""Heads, by their place in sorted order of names."""


def connected(reached: Sequence[_layout.Flags], over: _layout.Flags) -> list[Group]:
    """The heads in groups, linked by flagged leaves that two of them move."""
    groups = [{h} for h in range(len(reached))]
    for *moves, on in zip(*reached, over, strict=True):
        heads = {h for h, moved in enumerate(moves) if moved and on}
        linked = [group for group in groups if group & heads]
        groups = [group for group in groups if not group & heads]
        groups += [set().union(*linked)] if linked else []
    return sorted(tuple(sorted(group)) for group in groups)


def apart(
    balancer: balancers.Balancer,
    names: Sequence[str],
    layout: Callable[[], _layout.Layout],
    params: PyTree,
) -> balancers.Balancer:
    """The balancer, asked about each component by itself; as it is if there is one.

    Args:
        balancer: of any needs; one that weighs by values alone is never changed.
        names: of the heads, sorted.
        layout: the layout of the model. The components are those of the leaves that a
            gramian is taken over, or of all that is shared for a balancer of gradients.
        params: the parameters, which a state may be like.

    Raises:
        ValueError: the balancer looks again after the step, and that cannot be told
            apart; while it is asked: its state cannot be put together.
    """
    if balancer.needs == "values" or balancer.together:
        return balancer
    reached, over = layout().reached, layout().over
    if isinstance(over, str) or balancer.needs == "grads":
        over = layout().shared
    found = connected(reached, over)
    if len(found) == 1:
        return balancer
    # About nobody, if all heads are alone: what counts the updates goes on.
    groups = [group for group in found if len(group) > 1] or [()]
    masks = [np.isin(np.arange(len(names)), group) for group in groups]
    if balancer.after is not None and len(groups) > 1:
        raise ValueError(
            "balancer: expected one that does not look at the values after the step, "
            f"since {_told(names, groups)} share no parameter; give each its own "
            "balancer and step"
        )

    def update(
        signals: balancers.Signals, state: Any
    ) -> tuple[balancers.Decision, Any]:
        here = balancers.presence(signals)

        def answer(asked: Array) -> tuple[balancers.Decision, Any]:
            shown = signals._replace(present=here & asked, asked=asked)
            return balancer.update(shown, state)

        answers = _answers(answer, masks, signals)
        decisions = [decision for decision, _ in answers]
        states = [new for _, new in answers]
        new = states[0]
        if len(groups) > 1:
            new = _joined(names, groups, masks, params, states)
        alone = 1.0 if balancer.alone is None else balancer.alone(new)
        weights = jnp.where(here, alone, 0.0).astype(decisions[0].weights.dtype)
        for mask, decision in zip(masks, decisions, strict=True):
            weights = jnp.where(mask, decision.weights, weights)
        direction = None
        if decisions[0].direction is not None:
            direction = _direction(signals, weights, reached, groups, decisions)
        return balancers.Decision(weights, direction), new

    return balancer._replace(update=update)


def _answers(
    answer: Callable[[Array], tuple[balancers.Decision, Any]],
    masks: Sequence[np.ndarray],
    signals: balancers.Signals,
) -> list[tuple[balancers.Decision, Any]]:
    """About each group. With many heads one program answers in turn."""
    typed = _numerics.has_sharding_type(signals.values)
    if len(masks) < 2 or len(masks[0]) < _xla.ALIKE_HEADS or typed:
        return [answer(jnp.asarray(asked)) for asked in masks]
    stacked = lax.map(answer, jnp.asarray(np.stack(masks)))
    return [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(masks))]


def _told(names: Sequence[str], groups: Sequence[Group]) -> str:
    """The groups for an error text."""
    return " and ".join(str([names[h] for h in group]) for group in groups)


def _direction(
    signals: balancers.Signals,
    weights: Array,
    reached: Sequence[_layout.Flags],
    groups: Sequence[Group],
    decisions: Sequence[balancers.Decision],
) -> PyTree:
    """Every leaf from the answer about the heads that move it, or from a head alone."""
    if signals.grads is None:
        raise ValueError(
            "balancer: expected weights from one that is not shown the gradients, got "
            "a direction"
        )
    rows = [jax.tree.leaves(signals.grads[name]) for name in sorted(signals.grads)]
    answers = [jax.tree.leaves(decision.direction) for decision in decisions]
    leaves = []
    for i, moves in enumerate(zip(*reached, strict=True)):
        heads = [h for h, moved in enumerate(moves) if moved]
        of = [g for g, group in enumerate(groups) if set(group) & set(heads)]
        if of or not heads:
            leaves.append(answers[of[0] if of else 0][i])
        else:
            mine = [jnp.asarray(row[i]) for row in rows]
            leaves.append(_products.weighted_sum(weights, mine, heads))
    return jax.tree.unflatten(jax.tree.structure(decisions[0].direction), leaves)


def _joined(
    names: Sequence[str],
    groups: Sequence[Group],
    masks: Sequence[np.ndarray],
    params: PyTree,
    states: Sequence[Any],
) -> Any:
    """One state of those that a balancer has after the answer about each group.

    What belongs to a head is taken from the answer about its group: rows of arrays
    whose leading axis is that of the heads, and what stands under its name. A number
    for all heads (a count of updates, a measure for the log) is the largest one. Heads
    alone were absent in every answer.
    """
    shapes = [(len(names), *jnp.shape(p)) for p in jax.tree.leaves(params)]
    structure = _trees.structure(params)
    group_of = {names[h]: g for g, group in enumerate(groups) for h in group}

    def is_stacked(tree: Any) -> bool:
        """Like the parameters, with a leading axis of heads."""
        alike = _trees.structure(tree) == structure
        return alike and [jnp.shape(x) for x in jax.tree.leaves(tree)] == shapes

    def is_by_name(tree: Any) -> bool:
        return type(tree) is dict and set(tree) == set(names)

    def whole(tree: Any) -> bool:
        return is_stacked(tree) or is_by_name(tree)

    def rows(*leaves: Array) -> Array:
        joined = jnp.asarray(leaves[0])
        for mask, leaf in zip(masks[1:], leaves[1:], strict=True):
            column = jnp.reshape(mask, (-1,) + (1,) * (joined.ndim - 1))
            joined = jnp.where(column, leaf, joined)
        return joined

    def join(path: Any, *parts: Any) -> Any:
        if is_stacked(parts[0]):
            return jax.tree.map(rows, *parts)
        if is_by_name(parts[0]):
            return {name: parts[group_of.get(name, 0)][name] for name in names}
        shape, dtype = jnp.shape(parts[0]), jnp.result_type(parts[0])
        if shape[:1] == (len(names),):
            return rows(*parts)
        if not shape and not jnp.issubdtype(dtype, jax.dtypes.extended):
            return jnp.max(jnp.stack(parts), axis=0)
        raise ValueError(
            f"balancer: expected a state of numbers, and of arrays whose leading axis "
            f"is that of the {len(names)} heads, got {dtype} of shape {shape} at "
            f"'{jax.tree_util.keystr(path)}'; {_told(names, groups)} share no "
            "parameter, and what it holds of each cannot be told apart; give each its "
            "own balancer and step"
        )

    return jax.tree_util.tree_map_with_path(join, *states, is_leaf=whole)
