"""Options that several losses share: weights of classes, smoothing, factors."""

import jax.numpy as jnp

from headwise import _checks
from headwise import _numerics
from headwise.losses import _class_axis
from headwise.losses import _inputs
from headwise.typing import Array

Smooth = float | Array | tuple[float | Array, float | Array]


def is_zero(option: float | Array) -> bool:
    """Whether an option is the number 0, known before tracing."""
    return isinstance(option, float | int) and option == 0


def smoothing(
    smooth: Smooth, shape: tuple[int, ...]
) -> tuple[float | Array, float | Array]:
    """What is added to the numerator and to the denominator, arrays of this shape."""
    pair = smooth if isinstance(smooth, tuple) else (smooth, smooth)
    if len(pair) != 2:
        raise ValueError(
            "smooth: expected a float or (numerator, denominator), got "
            f"{len(pair)} entries"
        )
    for part in pair:
        _checks.nonnegative("smooth", part, axes=True)
        _checks.broadcastable("smooth", part, shape)
    return pair


def class_weights_of(
    class_weights: Array | None, channels: int, background: bool = True
) -> Array | None:
    """The weights [C] of the channels that are left; the background has one too."""
    if class_weights is None:
        return None
    class_weights = _checks.array("class_weights", class_weights)
    if class_weights.shape != (channels,):
        raise ValueError(
            f"class_weights: expected one entry a channel, shape ({channels},) "
            f"(background included), got {class_weights.shape}"
        )
    return class_weights if background else class_weights[1:]


def only_weighed(inputs: _inputs.Inputs, class_weights: Array | None) -> _inputs.Inputs:
    """The inputs, but predictions of a class of weight 0 are not looked at.

    For losses of one value a class. A softmax of labels takes all classes in any case.
    """
    weights = class_weights_of(class_weights, inputs.preds.shape[-1])
    if weights is None:
        return inputs
    weighed = (weights != 0).reshape((1,) * (inputs.preds.ndim - 1) + (-1,))
    return inputs._replace(weighed=weighed)


def only_weighed_positions(
    inputs: _inputs.Inputs, weights: Array | None
) -> _inputs.Inputs:
    """The inputs without the positions of whose classes none has a weight.

    For losses of one value a position, with the weights [C] of all channels.
    """
    if weights is None:
        return inputs
    t, where, there = inputs.targets, inputs.where, weights != 0
    if _inputs.are_labels(inputs.preds, t):
        known = (t >= 0) & (t < len(weights))
        of_label = jnp.broadcast_to(there, (*t.shape, len(weights)))
        there = ~known | _class_axis.at(jnp.where(known, t, -1), of_label)
    else:
        there = there.reshape((1,) * (t.ndim - 1) + (-1,))
        there = jnp.any((t != 0) & there, -1) | jnp.all(t == 0, -1)
    there = there[..., None]
    return inputs._replace(where=there if where is None else where & there)


def weigh_classes(
    values: Array, class_weights: Array | None, background: bool = True
) -> Array:
    """Values whose last axis are the classes that are left, times their weights."""
    channels = values.shape[-1] + (0 if background else 1)
    return times_classes(values, class_weights_of(class_weights, channels, background))


def times_classes(values: Array, of_class: Array | None) -> Array:
    """Values [..., C] times one factor a class; 0 for a factor of 0, NaN or not."""
    if of_class is None:
        return values
    of_class = jnp.broadcast_to(of_class, values.shape)
    return _numerics.drop_zero_weight(of_class, values)


def times_labels(values: Array, labels: Array, of_class: Array | None) -> Array:
    """Values [B, *S] times the factor [C] of each label; 0 where it is no class."""
    if of_class is None:
        return values
    shape = (*labels.shape, len(of_class))
    return values * _class_axis.at(labels, jnp.broadcast_to(of_class, shape))


def unit_mean(class_weights: Array | None) -> Array | None:
    """The weights over their mean; all 0 stays 0."""
    if class_weights is None:
        return None
    mean = jnp.broadcast_to(jnp.mean(class_weights), class_weights.shape)
    return _numerics.safe_divide(class_weights, mean, 0.0)


def per_channel(argument: str, option: float | Array, like: Array) -> Array:
    """An option that is a scalar or [C], in the shape of [B, *S, C]."""
    option = _checks.array(argument, option).astype(like.dtype)
    if option.shape not in ((), like.shape[-1:]):
        raise ValueError(
            f"{argument}: expected a scalar or one entry a channel, shape "
            f"({like.shape[-1]},), got {option.shape}"
        )
    return jnp.broadcast_to(option, like.shape)
