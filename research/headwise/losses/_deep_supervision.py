"""One loss on the outputs of several resolutions of a network."""

import functools
from collections.abc import Callable
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _reduction
from headwise.losses import _parts
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

_HALVING, _LEAST = 0.5, 0.0625


def _resized(x: Array | None, space: tuple[int, ...]) -> Array | None:
    """The array [B, *S, ...] with the given S, from the nearest positions."""
    if x is None:
        return None
    x = jnp.asarray(x)
    for axis, length in enumerate(space, start=1):
        if axis < x.ndim and x.shape[axis] not in (1, length):
            # Centre of each new position in the old grid, as "nearest-exact" elsewhere.
            step = x.shape[axis] / length
            centres = jnp.floor((jnp.arange(length) + 0.5) * step).astype(jnp.int32)
            x = jnp.take(x, centres, axis)
    return x


def deep_supervision(
    loss: Loss, weights: Sequence[float | Array] | None = None
) -> Loss:
    """One loss on outputs of several resolutions, as one loss.

    For outputs o_0 (the finest) to o_K::

        loss[b] = Σ_k weight_k * mean over the entries of loss(o_k, targets at o_k)[b]

    Targets and mask are brought to the shape of each output by taking the nearest
    position, as MONAI does ("nearest-exact"), so labels stay labels and no class is
    invented; the outputs are left as they are.

    Args:
        loss: any loss; its values may be of any shape with the batch first.
        weights: one a resolution, finest first. May be traced. None is
            max(0.5^k, 0.0625), MONAI's "exp". They are not normalised: nnU-Net divides
            by their sum. One of exactly 0 drops its output from value and gradient
            even if it is NaN.

    Returns:
        `loss(preds, targets, *, where=None)` -> [B], where preds is a sequence of
        arrays [B, *S_k, C], finest first.

    Raises:
        TypeError: `loss` takes other arguments; `weights` or preds is no sequence.
            ValueError: their numbers differ, or numbers of spatial axes do.

    Example:
        >>> l2 = optax.losses.squared_error
        >>> deep = hw.losses.deep_supervision(l2, weights=[1.0, 0.5])
        >>> outputs = [jnp.zeros((1, 4, 1)), jnp.ones((1, 2, 1))]
        >>> targets = jnp.array([[[0.0], [0.0], [0.0], [2.0]]])
        >>> print(deep(outputs, targets))  # 4 / 4, plus half of mean(1, 1) at 1 and 3
        [1.5]

    References:
        Lee et al., "Deeply-supervised nets", AISTATS 2015.
    """
    _checks.takes("loss", loss, "preds", "targets")
    if weights is not None and not hasattr(weights, "__len__"):
        raise TypeError(
            "weights: expected one for each output, finest first, got "
            f"{_checks.kind(weights)}"
        )

    def entries(
        preds: PyTree, targets: PyTree, where: Array | None
    ) -> _reduction.Entries:
        if not isinstance(preds, tuple | list) or not preds:
            raise TypeError(
                "preds: expected a sequence of outputs, finest first, got "
                f"{type(preds).__name__}"
            )
        factors = weights
        if factors is None:
            factors = [max(_HALVING**k, _LEAST) for k in range(len(preds))]
        if len(factors) != len(preds):
            raise ValueError(
                f"weights: expected one for each of {len(preds)} outputs, got "
                f"{len(factors)}"
            )
        parts = []
        for k, (output, weight) in enumerate(zip(preds, factors)):
            output = _checks.array(f"preds[{k}]", output)
            if output.ndim != jnp.ndim(preds[0]):
                raise ValueError(
                    f"preds[{k}]: expected {jnp.ndim(preds[0])} axes as in preds[0], "
                    f"got shape {output.shape}"
                )
            there = functools.partial(_resized, space=output.shape[1:-1])
            parts.append(
                _parts.Part(
                    f"preds[{k}]",
                    loss,
                    weight,
                    output,
                    jax.tree.map(there, targets),
                    there(where),
                )
            )
        return _parts.entries(parts)

    def remade(change: Callable[[Loss], Loss]) -> Loss:
        return deep_supervision(change(loss), weights)

    return _reduction.made_of(entries, remade)
