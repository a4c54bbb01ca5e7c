"""Values that say of how much they are means, and whether they are there.

A value of 0 looks the same whether a head is perfect or has no label in the batch, and
a mean of means is no mean. So what a head counted travels with its value: `Means` for
users, `Tally` beside plain values inside of the library.
"""

import dataclasses
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _values_fn
from headwise import _weights
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

Coupled = tuple[tuple[str, str], ...]
"""(head, what couples its examples), of some heads."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tally:
    """What is told of values beside them; heads that are not in it all counted."""

    counts: dict[str, Array]
    """Of how many entries a value is the mean; float."""
    present: dict[str, Array]
    """Of the same heads: not 0 where the head has data; float."""
    coupled: Coupled = dataclasses.field(default=(), metadata={"static": True})
    weights: _weights.Weights | None = dataclasses.field(
        default=None, metadata={"static": True}
    )
    """Those of the Objective that made the values, for a step without a balancer."""

    def __bool__(self) -> bool:
        return bool(self.counts or self.coupled)

    def of(self, names: Iterable[str]) -> "Tally":
        """What is told of these heads alone."""
        names = set(names)
        return Tally(
            {n: x for n, x in self.counts.items() if n in names},
            {n: x for n, x in self.present.items() if n in names},
            tuple(pair for pair in self.coupled if pair[0] in names),
        )

    def here(self, names: Iterable[str]) -> Array | None:
        """[H] bool, whether each head has data; None if all are known to have."""
        if not self.present:
            return None
        certain = jnp.ones((), bool)
        return jnp.stack([self.present.get(name, certain) != 0 for name in names])

    def refuse_coupled(self, argument: str) -> None:
        """Raises ValueError if a value of parts says nothing about the whole."""
        if self.coupled:
            (name, loss), *_ = self.coupled
            raise ValueError(
                f"{argument}: the value of head {name!r} is no mean over examples, so "
                f"those of parts do not make that of the batch: {loss}"
            )


@jax.tree_util.register_pytree_with_keys_class
class Means(dict[str, Array]):
    """Values by name of head, each with the number of entries that it is the mean of.

    A dict as any other, made by `hw.Objective.values` where a mask, an ignored label, a
    weight of an example or an empty batch may leave a head without data. Parts of a
    batch (`microbatches`, `hw.objective.pmean`, the records of `hw.training.fit`) are
    put together as::

        value = Σ count * value / Σ count

    and a head that is not present counts as if it did not exist. A plain dict says that
    every head has data and that each value is a plain mean.

    `values | {"extra": x}`, `values["extra"] = x`, `jax.jit` and `jax.tree.map` keep
    what is told of the heads; `{**values}`, `dict(values)` and comprehensions lose it.

    Args:
        values: {name: scalar}.
        counts: {name: scalar >= 0} for some heads: the denominator of the mean. None
            for those in `present`: 1 where they are present.
        present: {name: bool} for some heads: whether there is any data. None for those
            in `counts`: the count is not 0.
        coupled: {name: text} of heads whose value is no mean over examples (Dice over
            the batch, a contrastive loss), with a word on the reason: they are refused
            where a batch is cut.

    Raises:
        ValueError: a name that is not in `values`. TypeError: an argument is no dict.

    Example:
        >>> def values_fn(w, batch):            # labels of "b" may be missing: NaN
        ...     known = ~jnp.isnan(batch["b"])
        ...     errors = jnp.where(known, w - batch["b"], 0.0) ** 2
        ...     count = jnp.sum(known)
        ...     b = jnp.sum(errors) / jnp.maximum(count, 1)
        ...     return hw.Means({"a": w**2, "b": b}, counts={"b": count})
        >>> values = values_fn(1.0, {"b": jnp.array([3.0, jnp.nan])})
        >>> print(values["b"], values.counts["b"], values.present["b"])
        4.0 1.0 1.0
        >>> balancer = hw.balancers.mgda()
        >>> f = hw.balanced_grad(values_fn, balancer)
        >>> nothing = {"b": jnp.array([jnp.nan])}
        >>> grads, info, _ = f(1.0, balancer.init(["a", "b"]), nothing)
        >>> print(grads, info.weights["a"], info.present["b"])
        2.0 1.0 False
    """

    counts: dict[str, Array]
    present: dict[str, Array]
    coupled: dict[str, str]
    weights: _weights.Weights | None = None

    def __init__(
        self,
        values: Mapping[str, Any],
        counts: Mapping[str, Any] | None = None,
        present: Mapping[str, Any] | None = None,
        coupled: Mapping[str, str] | None = None,
    ):
        _checks.mapping("values", values)
        super().__init__(values)
        given = {"counts": counts, "present": present, "coupled": coupled}
        for argument, of_heads in given.items():
            if of_heads is not None:
                _checks.mapping(argument, of_heads)
                _checks.known_names(argument, values, of_heads)
        counted = {n: _told("counts", n, x) for n, x in (counts or {}).items()}
        here = {n: _told("present", n, x) for n, x in (present or {}).items()}
        self.counts = here | counted
        self.present = {n: _data(x != 0) for n, x in (counted | here).items()}
        self.coupled = dict(coupled or {})

    def __or__(self, other: Any) -> Any:
        return _merged(self, other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return _merged(other, self) if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        return _merged(self, other)

    def copy(self) -> "Means":
        """The same, as `dict.copy`."""
        return together(self, tally_of(self), always=True).with_weights(self.weights)

    def with_weights(self, weights: _weights.Weights | None) -> "Means":
        """Itself, with the weights of the Objective that made it."""
        self.weights = weights
        return self

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """Leaves: the values in sorted order of names, then counts and presence."""
        names = tuple(sorted(self))
        values = [(jax.tree_util.DictKey(name), self[name]) for name in names]
        beside = [
            (jax.tree_util.GetAttrKey(field), getattr(self, field))
            for field in ("counts", "present")
        ]
        coupled = tuple(sorted(self.coupled.items()))
        return (*values, *beside), (names, coupled, self.weights)

    @classmethod
    def tree_unflatten(cls, static: tuple, leaves: Iterable[Any]) -> "Means":
        """From what `tree_flatten_with_keys` gives."""
        names, coupled, weights = static
        *values, counts, present = leaves
        means = cls.__new__(cls)
        means.update(zip(names, values, strict=True))
        means.counts, means.present, means.coupled = counts, present, dict(coupled)
        return means.with_weights(weights)


def _told(argument: str, name: str, number: Any) -> Array:
    return _data(_checks.array(f"{argument}[{name!r}]", number))


def _data(number: Any) -> Array:
    """A float that is not differentiated."""
    array = lax.stop_gradient(jnp.asarray(number))
    if jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return array.astype(jnp.float32)


def tally_of(values: Mapping[str, Any]) -> Tally:
    """What is told of these values: nothing, if they are a plain dict."""
    if not isinstance(values, Means):
        return Tally({}, {})
    coupled = tuple(sorted(values.coupled.items()))
    told = Tally(dict(values.counts), dict(values.present), coupled).of(values)
    return dataclasses.replace(told, weights=values.weights)


def together(values: Mapping[str, Any], tally: Tally, always: bool = False) -> Any:
    """Values with what is told of them; a plain dict if there is nothing to tell."""
    if not tally and not always:
        return dict(values)
    means = Means(values)
    means.counts, means.present = dict(tally.counts), dict(tally.present)
    means.coupled = dict(tally.coupled)
    return means


def flags(names: Iterable[str], present: Any) -> Array:
    """[H] bool of {name: bool}, or of [H] in the order of these names."""
    names = tuple(names)
    if hasattr(present, "keys"):
        _checks.same_names("present", names, present)
        return jnp.stack([_flag(n, present[n]) for n in names])
    here = _checks.array("present", present).astype(bool)
    if here.shape != (len(names),):
        raise ValueError(f"present: expected [{len(names)}], got shape {here.shape}")
    return here


def _flag(name: str, given: Any) -> Array:
    array = _checks.array(f"present[{name!r}]", given)
    if array.shape != ():
        raise ValueError(f"present[{name!r}]: expected a bool, got {array.shape}")
    return array.astype(bool)


def without_absent(trees: Mapping[str, PyTree], here: Array) -> dict[str, PyTree]:
    """Each head's arrays, 0 for the heads that are not here, even where NaN was.

    Args:
        trees: {name: pytree of arrays}.
        here: [H] bool, in sorted order of the names.
    """

    def zeroed(h: int, tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda x: _numerics.zero_where(~here[h], jnp.asarray(x)), tree
        )

    order = {name: h for h, name in enumerate(sorted(trees))}
    return {name: zeroed(order[name], tree) for name, tree in trees.items()}


def _merged(values: Mapping[str, Any], others: Mapping[str, Any]) -> Means:
    """As `|` of dicts; what is told of a head goes with its value."""
    kept = tally_of(values).of(set(values) - set(others))
    new = tally_of(others)
    tally = Tally(
        kept.counts | new.counts,
        kept.present | new.present,
        tuple(sorted(kept.coupled + new.coupled)),
    )
    whole: Means = together({**values, **others}, tally, always=True)
    old = tally_of(values).weights
    return whole.with_weights(_weights.merged(old, new.weights, others))


def unpacked(result: Any, has_aux: bool) -> tuple[Any, Any]:
    """(values, aux) of what a values_fn returned; aux is None without `has_aux`."""
    if not has_aux:
        return result, None
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            "values_fn: expected (values, aux) with has_aux=True, got "
            f"{_checks.kind(result)}"
        )
    first, second = result
    if isinstance(first, jax.Array | float) and isinstance(second, Mapping) and second:
        raise TypeError(
            "values_fn: expected ({name of head: scalar}, aux) with has_aux=True, got "
            f"({_checks.kind(first)}, {_checks.kind(second)}): the values come first"
        )
    return result


def with_tally(
    values_fn: ValuesFn, has_aux: bool, stateful: bool = False
) -> Callable[..., tuple[Any, tuple[Any, Tally]]]:
    """`values_fn`, of either kind, as one that returns (values, (aux, tally))."""
    model, beside = _values_fn.as_one(values_fn, has_aux, stateful)

    def told(*args: Any, **kwargs: Any) -> tuple[Any, tuple[Any, Tally]]:
        values, aux = unpacked(model(*args, **kwargs), beside)
        return values, (aux, jax.tree.map(lax.stop_gradient, tally_of(values)))

    return told
