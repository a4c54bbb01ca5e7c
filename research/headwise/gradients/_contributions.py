"""What each head contributes to every module: length, share, agreement."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _means
from headwise import _numerics
from headwise import _products
from headwise import _trees
from headwise.gradients import _gramian
from headwise.gradients import _shares
from headwise.gradients import _tables
from headwise.typing import Array
from headwise.typing import PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Contributions:
    """Per module and head: gradient norm, share of the update, cosines.

    A pytree of arrays (M modules, H heads, sorted names), so it can leave `jax.jit`
    and be averaged over steps with `jax.tree.map`. `print` shows a table.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    """The heads, in sorted order."""
    modules: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    """The modules, in the order of the parameters."""
    norm: Array
    """[M, H] norm of each head's raw gradient."""
    share: Array
    """[M, H] share of the applied update: w <g, u> / Σ w <g, u>. Sums to 1 over the
    heads (to 0 where nothing moves); negative where a head is moved against."""
    cosine: Array
    """[M, H, H] cosines between the head gradients."""
    pull: Array | None = None
    """[M, H] w <g, u>, which the shares are in parts of their sum: add these up to have
    shares over several steps. Where one head alone reaches a module, the head's weight,
    or 0 if nothing moves. None: not known."""

    @property
    def conflict(self) -> Array:
        """[M] the most negative cosine between two heads; 0 where none is."""
        return jnp.minimum(jnp.min(self.cosine, axis=(-2, -1)), 0.0)

    def __str__(self) -> str:
        return _tables.contributions(self)

    def _repr_html_(self) -> str:
        from headwise.gradients import _html

        return _html.contributions(self)

    def plot(self, ax: Any = None) -> Any:
        """Bars of every head's share of the update, a module a row.

        Args:
            ax: matplotlib axes; None makes new ones.

        Returns:
            The axes. Needs matplotlib (`pip install "headwise[plots]"`).
        """
        from headwise.gradients import _plots

        return _plots.contributions(self, ax)


def contributions(
    grads: Mapping[str, PyTree],
    weights: Mapping[str, Array] | Array | None = None,
    update: PyTree | None = None,
    depth: int | None = None,
    reaches: Mapping[str, PyTree] | None = None,
    present: Mapping[str, Array] | Array | None = None,
) -> Contributions:
    """How much each head contributes to every module, from its gradient.

    With g_h the gradient of head h in one module, and u the update there::

        norm_h = |g_h|
        share_h = w_h <g_h, u> / Σ_k w_k <g_k, u>,    u = Σ_k w_k g_k unless given
        cosine_hk = <g_h, g_k> / (|g_h| |g_k|)

    The share says who moves a module: what part of the first-order decrease of the
    total along u comes from head h. Give the optimiser's own step as `update` to see
    the shares of the update that was applied (Adam rescales every parameter).
    A head of weight 0 has share 0 and changes no other share, even if its gradient
    is NaN. A module that one head alone reaches is that head's share, 1, if both its
    gradient and the update are not 0. In a module that the update leaves as it is
    (`optax.set_to_zero`) all shares are 0.

    Args:
        grads: {name: pytree like the parameters}, as `hw.head_grads` returns.
        weights: {name: scalar} or [H] in sorted order of the names; None means 1.
        update: pytree like the parameters, up to sign and scale; None means Σ w g.
        depth: group the parameters by the first `depth` parts of their path; None
            groups by all but the last part (`trunk/0` for `trunk/0/kernel`).
        reaches: {name: pytree of bool}, `hw.routing(...).reaches`; gradients of
            parameters that a head does not reach are known to be 0 then and not read,
            which saves most of the work where decoders are large. A module whose
            parameters are reached by different heads is split into its parts, as in
            the table of `hw.routing`. None reads all and splits none: a gradient that
            is 0 in this batch is no missing path.
        present: {name: bool} or [H] bool: a head that has no data has norm and share 0,
            whatever its gradient holds. None: all have.

    Returns:
        `Contributions`; computed inside `jax.jit` without host transfer.

    Raises:
        ValueError: names or structures differ; `depth` is no positive int.

    Example:
        >>> grads = {
        ...     "y1": {"trunk": {"w": jnp.array([3.0, 4.0])}, "c": {"w": jnp.ones(1)}},
        ...     "y2": {"trunk": {"w": jnp.array([5.0, 0.0])}, "c": {"w": jnp.zeros(1)}},
        ... }
        >>> c = hw.contributions(grads)
        >>> print(c.modules, c.names)
        ('c', 'trunk') ('y1', 'y2')
        >>> print(c.norm)
        [[1. 0.]
         [5. 5.]]
        >>> print(c.share)    # trunk: (25 + 15) / 80 and (15 + 25) / 80
        [[1.  0. ]
         [0.5 0.5]]
    """
    _checks.mapping("grads", grads)
    names = _checks.head_names("grads", grads)
    w = _checked_weights(names, weights)
    if present is not None:
        grads = _means.without_absent(grads, _means.flags(names, present))
    rows = _gramian.rows_by_leaf(grads)
    first = grads[names[0]]
    reached: Sequence[Sequence[int]] = [range(len(names))] * len(rows)
    if reaches is not None:
        reached = _reached(names, first, reaches)
    updates = None if update is None else _checked_update(update, first)
    kinds = None if reaches is None else [tuple(heads) for heads in reached]
    of_leaf = _trees.modules(first, depth, kinds)
    modules = tuple(dict.fromkeys(of_leaf))
    leaves = [[i for i, name in enumerate(of_leaf) if name == m] for m in modules]
    grams = [
        jnp.asarray(sum(_products.products(rows[i], reached[i]) for i in mine))
        for mine in leaves
    ]
    if updates is None:
        pull = [_shares.along_sum(gram, w) for gram in grams]
    else:
        pull = _shares.along_update(leaves, grams, rows, updates, reached)
    gram = jnp.stack(grams)
    weighted = _numerics.drop_zero_weight(w[None, :], jnp.stack(pull))
    total = jnp.sum(weighted, axis=1, keepdims=True)
    return Contributions(
        names=names,
        modules=modules,
        norm=jnp.sqrt(jnp.diagonal(gram, axis1=1, axis2=2)),
        share=_numerics.safe_divide(weighted, total, 0.0),
        cosine=_gramian.cosines(gram),
        pull=weighted,
    )


def _checked_weights(
    names: Sequence[str], weights: Mapping[str, Array] | Array | None
) -> Array:
    """[H] in the order of the names."""
    if weights is None:
        return jnp.ones(len(names))
    if hasattr(weights, "keys"):
        _checks.same_names("weights", names, weights)
        return jnp.stack([_checks.scalar(f"weights[{n!r}]", weights[n]) for n in names])
    w = _checks.array("weights", weights)
    if w.shape != (len(names),):
        raise ValueError(f"weights: expected [{len(names)}], got shape {w.shape}")
    return w


def _checked_update(update: PyTree, first: PyTree) -> list[Array]:
    """The leaves of the update, which is built like the gradient of a head."""
    same = _trees.structure(update) == _trees.structure(first)
    if not same or [jnp.shape(u) for u in jax.tree.leaves(update)] != [
        jnp.shape(g) for g in jax.tree.leaves(first)
    ]:
        raise ValueError("update: expected a pytree like the gradients")
    return [jnp.asarray(u) for u in jax.tree.leaves(update)]


def _reached(
    names: Sequence[str], first: PyTree, reaches: Mapping[str, PyTree]
) -> list[list[int]]:
    """For every leaf the heads that reach it."""
    _checks.mapping("reaches", reaches)
    _checks.same_names("reaches", names, reaches)
    for name in names:
        if _trees.structure(reaches[name]) != _trees.structure(first):
            raise ValueError(
                f"reaches[{name!r}]: expected a pytree of bool like the gradients"
            )
    flags = zip(*(jax.tree.leaves(reaches[name]) for name in names), strict=True)
    return [[h for h, on in enumerate(leaf) if on] for leaf in flags]
