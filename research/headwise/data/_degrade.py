"""Turns a clean image patch into what a scanner might have recorded.

Pure functions on one patch, to be vmapped. Every strength is a traced scalar, so that a
sweep over strengths compiles once.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

_ORDER = 3  # cosine waves an axis: constant, half a wave, one wave


def _along_each_axis(matrix: ArrayLike, image: jax.Array) -> jax.Array:
    """Multiplies each of the three axes of `image` by `matrix` [new, old].

    Each pass works on the first axis and puts it last, so three restore the order.
    """
    for _ in range(3):
        image = jnp.einsum(
            "xi,ijk->jkx", matrix, image, precision=lax.Precision.HIGHEST
        )
    return image


def gaussian_blur(image: jax.Array, width: ArrayLike) -> jax.Array:
    """Blurs [s, s, s] with a Gaussian of standard deviation `width` voxels.

    The rows of the [s, s] weights sum to 1, so the blur keeps constants constant up to
    the border; width 0 gives the identity.
    """
    place = np.arange(image.shape[0], dtype=np.float32)
    square = np.square(place[:, None] - place[None, :])
    variance = jnp.maximum(jnp.square(jnp.asarray(width, jnp.float32)), 1e-9)
    return _along_each_axis(jax.nn.softmax(-0.5 * square / variance, axis=1), image)


def bias_field(normals: jax.Array, size: int) -> jax.Array:
    """Makes of 27 normal draws a smooth field [s, s, s], mean 0, average variance 1.

    A sum of products of slow cosines, one normal coefficient each; wave number k has
    weight 2 / (2 + |k|^2), so the gain of the whole patch dominates, then its slope.
    """
    wave = np.arange(_ORDER)
    cosines = np.cos(np.pi * (np.arange(size)[:, None] + 0.5) / size * wave[None, :])
    x, y, z = np.meshgrid(wave, wave, wave, indexing="ij")
    weights = 2 / (2 + x**2 + y**2 + z**2)
    mean_square = 0.5 ** ((x > 0) * 1.0 + (y > 0) + (z > 0))  # of the cosines
    weights /= np.sqrt(np.sum(weights**2 * mean_square))
    coefficients = normals.reshape(weights.shape) * weights.astype(np.float32)
    return _along_each_axis(cosines.astype(np.float32), coefficients)


def degrade(
    key: jax.Array,
    image: jax.Array,
    noise: ArrayLike,
    bias: ArrayLike,
    blur: ArrayLike,
) -> tuple[jax.Array, jax.Array]:
    """Returns (recorded, log_field): blur, times exp(log_field), plus normal noise."""
    waves = _ORDER**3  # one draw for field and noise: it is most of the compile time
    normals = jax.random.normal(key, (waves + image.size,), jnp.float32)
    log_field = jnp.multiply(bias, bias_field(normals[:waves], image.shape[0]))
    added = noise * normals[waves:].reshape(image.shape)
    return gaussian_blur(image, blur) * jnp.exp(log_field) + added, log_field
