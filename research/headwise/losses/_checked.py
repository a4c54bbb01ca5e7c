"""For debugging: a loss that looks at the values that it gets."""

import functools

from jax.experimental import checkify

from headwise import _checks
from headwise import _declared
from headwise import _look
from headwise.typing import Array
from headwise.typing import Loss


def checked(loss: Loss) -> Loss:
    """A loss that checks its values, for use inside `checkify`.

    The losses look at shapes and dtypes alone: values that make no sense pass. This
    wrapper finds, at the positions that count:

    - preds that are not finite;
    - preds outside [0, 1] where the loss takes probabilities;
    - preds that are probabilities already (in [0, 1], with sum 1 over the channels)
      where it takes logits: a softmax was applied twice;
    - integer labels outside 0..C-1 that are not its `ignore`;
    - soft targets outside [0, 1];
    - targets of classes that exclude each other (softmax) whose sum over the last axis
      is more than 1: the channels are elsewhere, or several classes hold at once. Of
      other losses, one-hot pictures with the channels first.

    Of a loss that is not on channels, or none of the library, preds that are not finite
    are all that can be found. `hw.training.fit` looks for the same in its first batch.

    Args:
        loss: one of `hw.losses`, a `functools.partial` of one, or a loss made of some
            (`mix`, `deep_supervision`), each of which is checked.

    Returns:
        `loss(preds, targets, *, where=None)` with the same values. It must run inside
        `jax.experimental.checkify.checkify`, which returns the first finding beside
        the result, also under jit, vmap and grad.

    Raises:
        TypeError: `loss` is no callable.

    Example:
        >>> from jax.experimental import checkify
        >>> dice = checkify.checkify(hw.losses.checked(hw.losses.dice))
        >>> error, _ = dice(jnp.array([[[2.0, -1.0]]]), jnp.array([[0]]))
        >>> print(error.get().splitlines()[0])
        preds: expected probabilities in [0, 1], got -1.0 to 2.0 (`check` failed)
    """
    _checks.function("loss", loss)
    remade = getattr(_declared.itself(loss), "remade", None)
    if remade is not None:
        return remade(checked)

    @functools.wraps(loss)
    def checking(preds: Array, targets: Array, **options: Array | None) -> Array:
        where = options.get("where")
        for found in _look.findings(loss, preds, targets, where):
            least, most = found.least, found.most
            checkify.check(found.ok, found.expected, least=least, most=most)
        return loss(preds, targets, **options)

    return checking
