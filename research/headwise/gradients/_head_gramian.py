"""The gramian of the head gradients, without their Jacobian."""

from collections.abc import Callable
from typing import Any

from headwise import _checks
from headwise import _means
from headwise import _trees
from headwise.gradients import _backward
from headwise.gradients import _gramian
from headwise.gradients import _head_grads
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def head_gramian(
    values_fn: ValuesFn,
    has_aux: bool = False,
    *,
    stateful: bool = False,
    wrt: Any = None,
    method: str = "auto",
    axis_name: str | tuple[str, ...] | None = None,
) -> Callable[..., tuple[Any, Array]]:
    """Transforms `values_fn` into a function that returns values and gramian.

    The same as `hw.gramian(hw.head_grads(values_fn)(...)[1])`, but the H gradients are
    never all there. In "lockstep" all heads go down the shared part side by side:
    when the gradients of one parameter are complete their products are added up and
    they are dropped, so that H gradients of one parameter and H cotangents of an
    activation are alive at a time. "sequential" keeps the gradients of the selected
    parameters, head after head, and one cotangent: less for a convolutional net, whose
    activations are larger than its parameters.

    Args:
        values_fn, has_aux, stateful: as in `hw.head_grads`.
        wrt: as in `hw.head_grads`: which parameters (None: all), or "features".
        method: "lockstep", "sequential", "batched" (lockstep, with the heads stacked),
            or "auto": batched where `hw.head_grads` is, otherwise whichever of the
            first two needs less memory by the shapes in the program. Of many heads that
            differ in data alone the gradients are kept while they take less than 256
            MiB or than what the forward pass keeps; one program makes them all.
        axis_name: as in `hw.gramian`; the gradients of a device's own rows are kept
            then.

    Returns:
        A function of the same arguments that returns `(values, gram)`, with `has_aux`
        `((values, aux), gram)`, with `stateful` `((values, rest), gram)`; gram is
        [H, H] as in `hw.gramian`, rows in sorted order of the names.

    Raises:
        TypeError, ValueError: as `hw.head_grads`.

    Example:
        >>> values, gram = hw.head_gramian(lambda p: {"u": p @ p, "v": 3 * p[0]})(
        ...     jnp.array([1.0, 2.0])
        ... )
        >>> print(gram)                       # gradients (2, 4) and (3, 0)
        [[20.  6.]
         [ 6.  9.]]
    """
    _checks.choice("method", [*_backward.ROWS, "lockstep"], method)
    plain = _head_grads.with_tally(values_fn, has_aux, stateful)
    beside = has_aux or stateful

    def transformed(params: PyTree, *args: Any, **kwargs: Any) -> tuple[Any, Array]:
        _trees.check_floating("params", params)
        features = isinstance(wrt, str) and wrt == _head_grads.FEATURES
        flags = None if features else _trees.selected("wrt", wrt, params)
        plain_values, (aux, tally), backward = _backward.linearize(
            plain, params, *args, **kwargs
        )
        values = _means.together(plain_values, tally)
        if flags is None:
            gram = _gramian.of_rows(backward.feature_rows())
        elif axis_name is not None:
            way = "auto" if method == "lockstep" else method
            rows = [_trees.chosen(row, flags) for row in backward.rows(way, flags)]
            grads = dict(zip(backward.names, rows, strict=True))
            gram = _gramian.gramian(grads, axis_name)
        else:
            gram = backward.gramian(flags, method)
        return ((values, aux) if beside else values), gram

    return transformed
