"""The kernels that convolutions begin with: the same numbers, drawn by few axes."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax

from headwise import _checks
from headwise import _xla

Initializer = Callable[..., jax.Array]
"""`initializer(key, shape, dtype)`, as those of `nnx.initializers`."""


def flat_initializer(initializer: Initializer | None = None) -> Initializer:
    """An initializer of convolutions that is compiled in a third of the time.

    A kernel [*K, in, out] is drawn as [prod(K), in, out], the default, which sees but
    the fan-in, as a matrix: on CPU a second or more of a network's start is XLA's at
    each new shape, for a loop nest of five axes. For `kernel_init` of `nnx.Conv`, of
    any number of spatial axes; `UNet3D` and `ConvNet` draw theirs so.

    Args:
        initializer: of `nnx.initializers`, or `initializer(key, shape, dtype)` of your
            own. None: that of `nnx.Conv`, `lecun_normal()`.

    Returns:
        `initializer` of the same arguments and, where numbers are drawn by their place
        in the whole array and scaled by the fans of the last two axes, of the same
        bits: all of `nnx.initializers` but `delta_orthogonal`, which looks for the
        middle of each spatial axis. Shapes of fewer axes, and what is given an
        `out_sharding`, are drawn as they are.

    Raises:
        TypeError: `initializer` is not a function of a key, a shape and a dtype; or,
            when it is called, makes an initializer, as `he_normal` without `()` does.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> he = nnx.initializers.he_normal()
        >>> key, shape = jax.random.key(0), (3, 3, 3, 2, 4)
        >>> kernel = hw.nn.flat_initializer(he)(key, shape)
        >>> kernel.shape, bool(np.all(kernel == he(key, shape)))
        ((3, 3, 3, 2, 4), True)
    """
    draw = jax.nn.initializers.lecun_normal() if initializer is None else initializer
    axes = 2 if initializer is None else 3
    _checks.takes("initializer", draw, "key", "shape", "dtype")

    def init(
        key: jax.Array, shape: Sequence[int], *args: Any, **options: Any
    ) -> jax.Array:
        if len(args) > 1 or options.get("out_sharding") is not None:
            return draw(key, shape, *args, **options)
        drawn = draw(key, _xla.drawn_as(shape, axes), *args, **options)
        if callable(drawn):
            name = getattr(draw, "__name__", "it")
            raise TypeError(
                "initializer: expected one that draws an array, got one that makes an "
                f"initializer: {name}() in place of {name}"
            )
        return drawn.reshape(shape)

    return init
