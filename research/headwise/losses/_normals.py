"""Surface normals: one minus the cosine of the angle between two vectors."""

import jax.numpy as jnp

from headwise import _reduction
from headwise.losses import _inputs
from headwise.typing import Array


def _unit(vectors: Array) -> tuple[Array, Array]:
    """Vectors of length 1 (0 stays 0, with zero gradient), and which are not 0."""
    squares = jnp.sum(vectors * vectors, -1, keepdims=True)
    known = squares != 0  # NaN is no zero
    length = jnp.sqrt(jnp.where(known, squares, 1))
    return jnp.where(known, vectors, 0) / length, known[..., 0]


@_reduction.values_per("position")
def normal_cosine(preds: Array, targets: Array, *, where: Array | None = None) -> Array:
    """Cosine distance of vectors such as surface normals, one value a position.

    For every position that counts, with the vectors along the last axis::

        loss = 1 - p · t / (|p| |t|)

    computed as half the squared distance of the unit vectors, which is the same and
    keeps its digits near 0.

    Conventions: both vectors are normalised here, so the length of preds has no
    effect and no gradient. A target that is the zero vector says that no normal is
    known there: value 0 and zero gradient. `hw.Objective` still counts such a
    position in its mean; also give `where = jnp.any(targets != 0, -1)` for the mean
    over known normals.

    Args:
        preds: [B, *S, D] floating, any length; D = 3 for normals.
        targets: of the same shape.
        where: bool, True where a position counts: [B], [B, *S] or any prefix. With a
            mask of the shape of preds, masked components are left out of both
            vectors.

    Returns:
        [B, *S] in [0, 2], float32 or float64: 0 for equal directions, 1 for right
        angles, 2 for opposite ones. A prediction that is the zero vector has value 1
        and zero gradient. Masked positions are 0.

    Raises:
        ValueError: shapes differ, preds have no last axis, or the mask does not fit.
        TypeError: preds not floating, `where` not bool.

    Example:
        >>> p = jnp.array([[[0.0, 0.0, 5.0], [3.0, 4.0, 0.0]]])
        >>> t = jnp.array([[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]])
        >>> loss = hw.losses.normal_cosine(p, t)
        >>> print(f"{loss[0, 0]:.4f} {loss[0, 1]:.4f}")  # 1 - 1, 1 - 3 / 5
        0.0000 0.4000

    References:
        Eigen and Fergus, "Predicting depth, surface normals and semantic labels with
        a common multi-scale convolutional architecture", ICCV 2015 (up to the sign
        and the constant).
    """
    pair = _inputs.regression(preds, targets, where, axes=_inputs.CHANNELS)
    p, p_known = _unit(pair.preds)
    t, t_known = _unit(pair.targets)
    distance = jnp.sum((p - t) ** 2, -1) / 2
    return jnp.where(t_known, jnp.where(p_known, distance, 1), 0)
