"""What a loss declares: of what it returns one value each, what it masks and ignores.

A loss is asked, whatever stands around it: options bound with `functools.partial`, a
function that `functools.wraps` dressed up, `jax.jit`. The losses of the library declare
their layout (`values_per`), those made of others how they are made (`made_of`), and
any loss what a keyword-only `where` or `ignore` of its signature says.

Example:
    >>> import functools
    >>> from headwise import _declared
    >>> loss = jax.jit(functools.partial(hw.losses.cross_entropy, ignore=255))
    >>> _declared.layout_of(loss), _declared.takes_where(loss)
    ('position', True)
    >>> _declared.ignored_label(loss)
    255
"""

import functools
import inspect
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Literal
from typing import TypeAlias
from typing import TypeVar

import jax

from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree

Layout = Literal["example", "class", "position", "entry"]
LossFn = TypeVar("LossFn", bound=Callable[..., Array])
Entries: TypeAlias = tuple[Array, Array | None]
"""Values, and a bool array of their shape that says which of them count, or None."""


def values_per(layout: Layout) -> Callable[[LossFn], LossFn]:
    """Declares of what a loss returns one value each, and that it masks by itself.

    "example" [B], "class" [B, C], "position" [B, *S], "entry" the shape of preds.
    With `over_batch=True` the first two have no axis of the batch; `background=False`
    leaves C - 1 classes. The function stays as it is, but for an attribute
    `values_per`.
    """

    def declare(loss: LossFn) -> LossFn:
        loss.__dict__["values_per"] = layout
        return loss

    return declare


def made_of(
    entries_of: Callable[..., Entries],
    remade: Callable[[Callable[[Loss], Loss]], Loss],
) -> Loss:
    """A loss [B] whose values and what counts of them come from other losses.

    Args:
        entries_of: `(preds, targets, where) -> (values, which count or None)`.
        remade: `(change) -> loss`: the same of changed losses.
    """

    @values_per("example")
    def loss(preds: PyTree, targets: PyTree, *, where: Array | None = None) -> Array:
        return entries_of(preds, targets, where)[0]

    loss.__name__ = entries_of.__qualname__.split(".")[0]
    loss.__dict__.update(entries_of=entries_of, remade=remade)
    return loss


def layout_of(loss: Loss) -> Layout | None:
    """What a loss declares, whatever is wrapped around it; None if it is foreign."""
    inner: Any = loss
    while inner is not None:
        layout: Layout | None = getattr(inner, "values_per", None)
        if layout is not None:
            return layout
        partial = isinstance(inner, functools.partial)
        inner = inner.func if partial else getattr(inner, "__wrapped__", None)
    return None


def itself(loss: Loss) -> Loss | None:
    """The declared loss that options are bound to; None if anything else is between."""
    while isinstance(loss, functools.partial):
        if loss.args:
            return None
        loss = loss.func
    declared = "values_per" in getattr(loss, "__dict__", {})
    return loss if declared and not hasattr(loss, "__wrapped__") else None


def _parameters(loss: Loss, own: bool = False) -> Mapping[str, inspect.Parameter]:
    """Of a loss, or of the very function that stands around it."""
    try:
        return inspect.signature(loss, follow_wrapped=not own).parameters
    except (TypeError, ValueError):
        return {}


def takes_any(loss: Loss) -> bool:
    """Whether it hands on keywords that it does not name (`**options`)."""
    parameters = _parameters(loss, own=True).values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def takes_where(loss: Loss) -> bool:
    """Whether the loss masks by itself: it declares so, or has a keyword-only `where`.

    In optax's losses `where` means the classes of one example, to be left out of the
    reduction over `axis`. It is no mask over examples and positions, and is left
    alone: there it is not keyword-only or stands beside a parameter `axis`.
    """
    if layout_of(loss) is not None:
        own = _parameters(loss, own=True)
        return not own or "where" in own or takes_any(loss)
    parameters = _parameters(loss)
    parameter = parameters.get("where")
    if parameter is None or "axis" in parameters:
        return False
    return parameter.kind is parameter.KEYWORD_ONLY


def ignored_label(loss: Loss) -> int | Array | None:
    """The label that a loss ignores: what its keyword-only `ignore` is bound to.

    `functools.partial(hw.losses.cross_entropy, ignore=255)` ignores 255; positions
    with that label then do not count in means either.
    """
    ignored: int | Array | None = bound(loss, "ignore")
    return ignored


def takes(loss: Loss) -> Literal["logits", "probabilities"] | None:
    """What a loss of the library on channels expects of preds; None of another one."""
    parameters = _parameters(loss)
    if layout_of(loss) is None or "ignore" not in parameters:
        return None
    if "activation" in parameters and parameters["activation"].default is None:
        return "probabilities"
    return "logits"


def is_exclusive(loss: Loss) -> bool:
    """Whether one class alone is right at a position: the loss has a softmax."""
    if "activation" in _parameters(loss):
        return bound(loss, "activation") is jax.nn.softmax
    return layout_of(loss) == "position"


def is_array(x: Any) -> bool:
    """Whether it is one array, not a pytree of some."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def bound(loss: Loss, option: str) -> Any:
    """What a keyword-only option is bound to; None if the loss has no such option."""
    parameter = _parameters(loss).get(option)
    if parameter is None or parameter.kind is not parameter.KEYWORD_ONLY:
        return None
    return parameter.default
