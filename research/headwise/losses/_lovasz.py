"""Lovasz losses: the Jaccard loss of hard errors, made convex in soft ones."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from headwise import _checks
from headwise import _numerics
from headwise import _reduction
from headwise.losses import _inputs
from headwise.losses import _options
from headwise.typing import Array

_ABSENT = ("count", "zero")


def _keys(errors: Array, hard: Array) -> Array:
    """Integers that sort as the errors do, descending, with the target in bit 0.

    The bits of floats >= 0 are in the order of the floats and leave the sign bit free.
    One array of integers is sorted several times faster than a pair of arrays.
    """
    bits = {4: jnp.uint32, 8: jnp.uint64}[errors.dtype.itemsize]
    shifted = lax.shift_left(
        lax.bitcast_convert_type(errors, bits), jnp.ones(errors.shape, bits)
    )
    return ~(shifted | hard.astype(bits))


def _steps(hard: Array, dtype: jnp.dtype) -> Array:
    """What each of the sorted positions adds to the Jaccard loss, [..., N].

    With I and U the intersection and union left when the first k positions are wrong,
    a true position adds 1 / U and another one I / (U - 1) - I / U. Written as products,
    these keep their digits where differences of the loss itself have none left.
    """
    hard = hard.astype(jnp.int32)
    axis = hard.ndim - 1
    volume = jnp.sum(hard, axis, dtype=jnp.int32, keepdims=True)
    intersection = (volume - jnp.cumsum(hard, axis)).astype(dtype)
    union = (volume + jnp.cumsum(1 - hard, axis)).astype(dtype)
    rest = _numerics.safe_divide(intersection, (union - 1.0) * union, 1.0)
    return jnp.where(hard == 1, 1.0 / union, rest)


@jax.custom_jvp
def _extension(errors: Array, hard: Array) -> Array:
    """Lovasz extension [...] of the Jaccard loss at errors >= 0 [..., N].

    Positions without an error add nothing, wherever they are sorted to. So masked
    ones need no mask here, only an error of 0 and a target of False.
    """
    keys = ~lax.sort(_keys(errors, hard), is_stable=False)
    one = jnp.ones(keys.shape, keys.dtype)
    sizes = lax.bitcast_convert_type(lax.shift_right_logical(keys, one), errors.dtype)
    return jnp.sum(sizes * _steps(keys & one, errors.dtype), -1)


@_extension.defjvp
def _extension_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    errors, hard = primals
    axis = errors.ndim - 1
    # Sharded as the errors are, if that is part of their type.
    places = jnp.cumsum(jnp.ones_like(errors, jnp.int32), axis) - 1
    keys, order = lax.sort((_keys(errors, hard), places), num_keys=1)
    steps = _steps(~keys & jnp.ones(keys.shape, keys.dtype), errors.dtype)
    if _numerics.has_sharding_type(errors):
        _, weights = lax.sort((order, steps), num_keys=1)
    else:
        weights = jnp.put_along_axis(
            jnp.zeros_like(errors), order, steps, -1, inplace=False
        )
    return jnp.sum(errors * weights, -1), jnp.sum(tangents[0] * weights, -1)


def _by_class(values: Array, over_batch: bool) -> Array:
    """[B, *S, C] as [B, C, N], or [C, B N] over the batch."""
    first = 0 if over_batch else 1
    if over_batch and _numerics.has_sharding_type(values):
        # An axis is sorted in one place.
        whole = PartitionSpec(*[None] * values.ndim)
        mesh = jax.typeof(values).sharding.mesh
        values = jax.reshard(values, NamedSharding(mesh, whole))
    values = jnp.moveaxis(values, -1, first)
    return values.reshape(*values.shape[: first + 1], -1)


def _shown(errors: Array, given: Array, targets: Array) -> Array:
    """The errors, NaN where the target is: to compare it with 0.5 would hide it."""
    if not jnp.issubdtype(jnp.result_type(given), jnp.floating):
        return errors
    return jnp.where(jnp.isnan(targets), jnp.nan, errors)


def _values(errors: Array, hard: Array, absent: str, over_batch: bool) -> Array:
    hard = _by_class(hard, over_batch)
    values = _extension(_by_class(errors, over_batch), hard)
    if absent == "count":
        return values
    return jnp.where(jnp.any(hard, -1), values, jnp.zeros_like(values))


@_reduction.values_per("class")
def lovasz_softmax(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    activation: _inputs.Activation = None,
    absent: str = "count",
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Lovasz-Softmax loss, one value an example and class.

    The errors |t - p| of the positions that count are sorted, largest first. With J_k
    the Jaccard loss (1 - intersection / union) if the first k positions are wrong and
    the others right::

        loss[b, c] = Σ_k error_k (J_k - J_{k-1})

    This is the Lovasz extension of the Jaccard loss: convex and piecewise linear in
    the errors, and equal to 1 - IoU where all p are 0 or 1.

    Conventions: the class is absent from the targets of an example if no position has
    it. Then J_1 = 1, so the loss is the largest p (`absent="count"`, the "all" of the
    authors' code), or 0 without a gradient (`absent="zero"`). The authors' default
    "present" leaves absent classes out of the mean: divide the sum of the values with
    `absent="zero"` by the number of classes present. Their `per_image=False`, the
    default there, is `over_batch=True`.

    Args:
        preds: [B, *S, C] float, probabilities in [0, 1] (or logits, with
            `activation=jax.nn.softmax`, as in the paper).
        targets: integer labels [B, *S], or one-hot [B, *S, C]. The loss is defined for
            hard targets only: entries above 0.5 count as 1, others as 0.
        where, ignore, activation, background, class_weights: as in `dice`.
        absent: "count" or "zero", see above.
        over_batch: sort the positions of all examples together.

    Returns:
        [B, C] in [0, 1] ([B, C-1] without background; [C] with `over_batch`), float32
        or float64. 0 if all positions are masked.

    Raises:
        ValueError, TypeError: as `dice`; or `absent` is unknown.

    Example:
        >>> p = jnp.array([[[0.75], [0.5], [0.5], [0.0]]])
        >>> t = jnp.array([[[1.0], [1.0], [0.0], [0.0]]])
        >>> print(hw.losses.lovasz_softmax(p, t))
        [[0.4166667]]

        The errors are 0.5 (true), 0.5 (false), 0.25 (true) and 0; J_1 = 1 - 1/2,
        J_2 = 1 - 1/3, J_3 = 1: 0.5 * 1/2 + 0.5 * 1/6 + 0.25 * 1/3 = 5/12.

    References:
        Berman, Rannen Triki and Blaschko, "The Lovász-Softmax loss: a tractable
        surrogate for the optimization of the intersection-over-union measure in neural
        networks", CVPR 2018.
    """
    _checks.choice("absent", _ABSENT, absent)
    _checks.boolean("over_batch", over_batch)
    inputs = _inputs.check(preds, targets, where, ignore, activation, background)
    inputs = _options.only_weighed(inputs, class_weights)
    p, t, _ = inputs.arrays()
    hard = t > 0.5
    errors = _shown(jnp.abs(hard.astype(p.dtype) - p), targets, t)
    values = _values(errors, hard, absent, over_batch)
    return _options.weigh_classes(values, class_weights, background)


@_reduction.values_per("class")
def lovasz_hinge(
    preds: Array,
    targets: Array,
    *,
    where: Array | None = None,
    ignore: int | None = None,
    absent: str = "count",
    background: bool = True,
    class_weights: Array | None = None,
    over_batch: bool = False,
) -> Array:
    """Lovasz hinge loss of logits, each channel on its own.

    As `lovasz_softmax`, of the hinge errors::

        error = max(0, 1 - x)  where t is 1,  max(0, 1 + x)  where it is 0

    Conventions: the margin is 1, and x = 0 is undecided, as in the authors' code. A
    class absent from the targets has the loss max(error) with `absent="count"`, as
    there.

    Args:
        preds: [B, *S, C] float logits; no activation is applied.
        targets, where, ignore, absent: as in `lovasz_softmax`.
        background, class_weights, over_batch: as in `lovasz_softmax`.

    Returns:
        [B, C], >= 0 and not bounded ([B, C-1] without background; [C] with
        `over_batch`). 0 if all logits are right by 1 or more; at logits of -1 and 1
        twice the Jaccard loss.

    Raises:
        ValueError, TypeError: as `lovasz_softmax`.

    Example:
        >>> x = jnp.array([[[2.0], [0.5], [-0.5], [-2.0]]])
        >>> t = jnp.array([[[1.0], [1.0], [1.0], [0.0]]])
        >>> print(hw.losses.lovasz_hinge(x, t))       # 1.5 * 1/3 + 0.5 * 1/3
        [[0.6666667]]

    References:
        Berman, Rannen Triki and Blaschko, as in `lovasz_softmax`; Yu and Blaschko,
        "Learning submodular losses with the Lovász hinge", ICML 2015.
    """
    _checks.choice("absent", _ABSENT, absent)
    _checks.boolean("over_batch", over_batch)
    inputs = _inputs.check(preds, targets, where, ignore, None, background)
    inputs = _options.only_weighed(inputs, class_weights)
    x, t, where = inputs.arrays()
    hard = t > 0.5
    errors = _shown(jax.nn.relu(1.0 - jnp.where(hard, x, -x)), targets, t)
    if where is not None:
        errors = jnp.where(where, errors, jnp.zeros_like(errors))
    values = _values(errors, hard, absent, over_batch)
    return _options.weigh_classes(values, class_weights, background)
