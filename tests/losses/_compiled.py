"""A loss as one program: else each operation of each shape is one by itself."""

import functools

import jax
import numpy as np

import headwise as hw


@functools.cache
def _program(loss, static):
    options = {name: value for name, _, value in static}
    return jax.jit(functools.partial(loss, **options))


def whole(loss):
    """The same loss, compiled; options that are arrays may vary."""

    @functools.wraps(loss)
    def call(preds, targets, **options):
        arrays = {
            name: value
            for name, value in options.items()
            if isinstance(value, (np.ndarray, jax.Array))
        }
        # With their types: 3 and 3.0 are equal, and one of them may be an error.
        static = tuple(
            (name, type(value), value)
            for name, value in options.items()
            if name not in arrays
        )
        return _program(loss, static)(preds, targets, **arrays)

    return call


class _Losses:
    """`hw.losses`, each one compiled."""

    def __getattr__(self, name):
        return whole(getattr(hw.losses, name))


losses = _Losses()
