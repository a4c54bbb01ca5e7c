"""The raw value of one head: what counts of its loss, weighed and averaged."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from headwise import _checks
from headwise import _coupling
from headwise import _look
from headwise import _means
from headwise import _numerics
from headwise import _reduction
from headwise import _weights
from headwise.objective import _gate
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree


class Mean(NamedTuple):
    """The value of a head, and of what it is the mean."""

    value: Array
    number: Array | None
    """Of entries that count, float; None: all do, as is known without data."""
    present: Array | None
    """bool, whether there is any data; None likewise."""
    coupling: str | None
    """Why it is no mean over examples, if it is none."""


def absent() -> Mean:
    """Of a head of which a batch holds nothing."""
    return Mean(jnp.zeros(()), jnp.zeros(()), jnp.zeros((), bool), None)


def by_head(argument: str, names: Sequence[str], given: Any) -> dict[str, Any]:
    """{name: what is given for it}, of one for all heads or of a dict for some."""
    if given is None:
        return {}
    if hasattr(given, "keys"):
        _checks.known_names(argument, names, given)
        return dict(given)
    return dict.fromkeys(names, given)


def value(
    name: str,
    loss: Loss,
    outputs: PyTree,
    targets: PyTree,
    sample_weights: Array | None,
    where: Array | None,
    counted: bool = False,
) -> Mean:
    """Σ sample weight * loss / number of entries that count, behind a gate.

    The gate lets a total with weight 0 leave no trace in the gradient, NaN or not.

    Args:
        name: of the head, for error texts.
        loss: `(preds, targets) -> values`, as in `hw.Objective`.
        outputs, targets, sample_weights, where: of this head, as in
            `hw.Objective.values`.
        counted: tell the number of entries also where all count, as is known.
    """
    unreduced: list[jax.ShapeDtypeStruct] = []

    def of_arrays(
        outputs: PyTree, targets: PyTree, weights: Array | None, mask: Array | None
    ) -> Array:
        if any(x.shape[:1] == (0,) for x in jax.tree.leaves(outputs)):
            return jnp.zeros(())  # no example: there is nothing to ask a loss
        shown = None if weights is None else _shown(name, loss, outputs, weights)
        entries, valid = _reduction.entries(name, loss, outputs, targets, mask, shown)
        unreduced.append(jax.ShapeDtypeStruct(entries.shape, entries.dtype))
        if weights is not None:
            entries = _weigh_examples(name, entries, weights, outputs)
        return _reduction.mean(entries, valid, None)

    arrays = jax.tree.map(jnp.asarray, (outputs, targets, sample_weights, where))
    outputs, targets, sample_weights, where = arrays
    # Findings are made at the level of the caller, who takes them along.
    made = of_arrays(*arrays) if _look.is_on() else _gate.gate(of_arrays, *arrays)
    if not unreduced:
        return absent()._replace(value=made)
    # Counted out here: the gate lets one value pass. The loss is not run for it.
    entries = unreduced[-1]
    number, present = _counted(
        name, loss, outputs, targets, sample_weights, where, entries
    )
    if counted and number is None:
        number = jnp.asarray(entries.size, entries.dtype)
        present = jnp.ones((), bool)
    coupling = _coupling.reason(loss, outputs, entries.shape)
    return Mean(made, number, present, coupling)


def values(
    means: Mapping[str, Mean], weights: _weights.Weights | None
) -> dict[str, Array]:
    """A plain dict, or `Means` if there is something to tell of a head."""
    plain = {name: mean.value for name, mean in means.items()}
    counted = {n: m for n, m in means.items() if m.number is not None}
    coupled = {n: m.coupling for n, m in means.items() if m.coupling is not None}
    if not counted and not coupled and weights is None:
        return plain
    return _means.Means(
        plain,
        {name: mean.number for name, mean in counted.items()},
        {name: mean.present for name, mean in counted.items()},
        coupled,
    ).with_weights(weights)


def _counted(
    name: str,
    loss: Loss,
    outputs: PyTree,
    targets: PyTree,
    sample_weights: Array | None,
    where: Array | None,
    entries: jax.ShapeDtypeStruct,
) -> tuple[Array | None, Array | None]:
    """How many entries count, and whether any of them has a weight."""
    valid = _reduction.counted(name, loss, outputs, targets, where, entries.shape)
    if valid is None and sample_weights is None:
        return None, None
    count = jnp.asarray(entries.size, entries.dtype)
    if valid is None:
        valid = jnp.ones(entries.shape, bool)
    else:
        count = jnp.sum(valid, dtype=entries.dtype)
    if sample_weights is None:
        return count, count != 0
    weights = _reduction.align("sample_weights", sample_weights, entries.shape)
    return count, jnp.any((weights != 0) & valid)


def _shown(name: str, loss: Loss, outputs: PyTree, sample_weights: Array) -> Array:
    """What a loss may see: what has weight 0 is not there, NaN or not.

    Weights of positions tell of positions where the loss has a value for each.
    """
    shown = sample_weights.astype(bool)
    examples = jnp.any(shown, tuple(range(1, shown.ndim)))
    for leaf in jax.tree.leaves(outputs):
        _reduction.align(f"sample_weights of head {name!r}", examples, leaf.shape)
    if _reduction.layout_of(loss) in ("position", "entry"):
        return shown
    if _reduction.layout_of(loss) is None and not _reduction.takes_where(loss):
        return shown
    return examples


def _weigh_examples(
    name: str, entries: Array, sample_weights: Array, outputs: PyTree
) -> Array:
    examples = jax.tree.leaves(outputs)[0].shape[0]
    if entries.ndim < 1 or entries.shape[0] != examples:
        raise ValueError(
            f"sample_weights of head {name!r}: the loss must return values with the "
            f"batch ({examples}) as leading axis, got shape {entries.shape}"
        )
    weights = _reduction.align(
        f"sample_weights of head {name!r}", sample_weights, entries.shape
    )
    kept = jnp.where(weights.astype(bool), entries, jnp.zeros_like(entries))
    weights = jnp.broadcast_to(weights, entries.shape)
    dtype = _numerics.common(kept, weights)
    return kept.astype(dtype) * weights.astype(dtype)
