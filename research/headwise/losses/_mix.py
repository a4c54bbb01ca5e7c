"""Several losses on one output, as one loss."""

from collections.abc import Callable
from collections.abc import Mapping

from headwise import _checks
from headwise import _reduction
from headwise.losses import _parts
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree


def mix(losses: Mapping[str, tuple[Loss, float | Array]]) -> Loss:
    """Weighted sum of several losses of one output, as one loss.

    For example b::

        loss[b] = Σ_k weight_k * mean over the entries of loss_k[b]

    The mean runs over classes and positions that count, so losses of different
    shapes ([B, C] of Dice, [B, *S] of cross entropy) may be mixed.

    Args:
        losses: {name: (loss, weight)}. A weight may be traced; one of exactly 0
            drops its loss from value and gradient even if that is NaN, and from what
            counts.

    Returns:
        `loss(preds, targets, *, where=None)` -> [B]; `where` reaches every part. In
        means an example counts if it does for a part that has a weight: what a part
        ignores or masks is known outside.

    Raises:
        ValueError: empty. TypeError: an entry is not (callable, weight).

    Example:
        >>> both = hw.losses.mix({
        ...     "iou": (hw.losses.iou, 1.0),
        ...     "l2": (optax.losses.squared_error, 0.5),
        ... })
        >>> p, t = jnp.array([[[0.5], [1.0]]]), jnp.array([[[1.0], [1.0]]])
        >>> print(f"{both(p, t)[0]:.4f}")  # (1 - 1.5 / 2) + 0.5 * mean(0.25, 0)
        0.3125
    """
    _checks.mapping("losses", losses, "; give {name: (loss, weight)}")
    names = _checks.head_names("losses", losses)
    for name in names:
        entry = losses[name]
        if not (isinstance(entry, tuple) and len(entry) == 2 and callable(entry[0])):
            raise TypeError(
                f"losses[{name!r}]: expected (loss, weight) with a callable loss, got "
                f"{entry!r}"
            )

    def entries(
        preds: PyTree, targets: PyTree, where: Array | None
    ) -> _reduction.Entries:
        return _parts.entries(
            [_parts.Part(name, *losses[name], preds, targets, where) for name in names]
        )

    def remade(change: Callable[[Loss], Loss]) -> Loss:
        return mix({name: (change(losses[name][0]), losses[name][1]) for name in names})

    return _reduction.made_of(entries, remade)
