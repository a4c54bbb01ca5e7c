"""MultiMNIST: two overlapping digits in one picture, one head for each."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise.data import _arguments
from headwise.data import _digits


class MultiMnist(NamedTuple):
    """Pictures of two digits."""

    inputs: jax.Array
    """[N, S, S, 1] float32 in [0, 1]"""
    left: jax.Array
    """[N] int32, the class of the digit at the top left"""
    right: jax.Array
    """[N] int32, the class of the digit at the bottom right"""


def multi_mnist(
    digits: _digits.Digits, key: jax.Array, count: int, *, size: int = 36
) -> MultiMnist:
    """Pictures of two overlapping digits with the class of each.

    For each picture two digits are drawn independently and with replacement. On a
    canvas of size x size, one lies in the top left corner and one in the bottom right::

        inputs = max(top_left, bottom_right) / 255

    With size 36 and digits of 28, the two frames share 20 x 20 pixels. Conventions
    differ between papers: the first one (Sabour et al.) shifts digits at random and
    never pairs equal classes; here, as in later multi-task work, places are fixed and
    the classes may agree (1 in 10). Where strokes cross we take the maximum; a clipped
    sum differs in grey pixels only.

    Args:
        digits: images [M, H, H] and labels [M]; split them first, see `split_digits`.
        key: a key of `jax.random`; the same key gives the same pictures.
        count: N >= 1 (static under jit).
        size: the edge S of the canvas, at least H (static).

    Returns:
        `MultiMnist` on the device: 5 MB for each 1000 pictures of 36 x 36.

    Raises:
        ValueError: images not [M, H, H], unequal numbers of images and labels, no
            digits, size < H, count or size is no positive int.

    Example:
        >>> import jax
        >>> from headwise import data
        >>> train, test = data.split_digits(data.load_digits(), jax.random.key(0))
        >>> pictures = data.multi_mnist(train, jax.random.key(1), 64)
        >>> pictures.inputs.shape, pictures.left.shape
        ((64, 36, 36, 1), (64,))

    References:
        Sabour, Frosst, Hinton: Dynamic routing between capsules, NeurIPS 2017. Sener,
        Koltun: Multi-task learning as multi-objective optimization, NeurIPS 2018. Lin
        et al.: Pareto multi-task learning, NeurIPS 2019.
    """
    count = _checks.positive_int("count", count)
    size = _checks.positive_int("size", size)
    total = _arguments.leading_axis("digits", digits)
    shape = np.shape(digits.images)
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"digits.images: expected [M, H, H], got shape {shape}")
    margin = size - shape[1]
    if margin < 0:
        raise ValueError(f"size: expected at least {shape[1]}, got {size}")
    left, right = jax.random.randint(key, (2, count), 0, total)
    images, labels = jnp.asarray(digits.images), jnp.asarray(digits.labels, jnp.int32)
    first = jnp.pad(images[left], ((0, 0), (0, margin), (0, margin)))
    second = jnp.pad(images[right], ((0, 0), (margin, 0), (margin, 0)))
    inputs = jnp.maximum(first, second)[..., None].astype(jnp.float32) / 255
    return MultiMnist(inputs, labels[left], labels[right])
