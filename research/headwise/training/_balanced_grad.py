"""One gradient of many heads, as a balancer decides."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from headwise import _checks
from headwise import _numerics
from headwise import _products
from headwise import _trees
from headwise import balancers
from headwise import gradients
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

KEPT_BYTES = 2**28
"""Head gradients that take less are kept; more are dropped for one more pass."""


class Info(NamedTuple):
    """What happened in one balanced gradient."""

    values: dict[str, Array]
    """Raw value of each head."""
    weights: dict[str, Array]
    """Effective weight of each head."""
    gramian: Array | None = None
    """[H, H] over what `wrt` says, when it was computed; NaN in a step between two
    refreshes of `balancers.every`."""
    conflicts: Array | None = None
    """Number of pairs of heads whose gradients point apart, likewise; float."""
    grads: dict[str, PyTree] | None = None
    """The head gradients, when they were computed and kept."""
    aux: Any = None
    """What `values_fn` returned beside the values, with `has_aux`."""
    present: dict[str, Array] | None = None
    """Bool: whether the head counted: it had data and, where gradients were looked at,
    a finite one."""


def balanced_grad(
    values_fn: ValuesFn,
    balancer: balancers.Balancer,
    private: str = "weighted",
    has_aux: bool = False,
    head_grads: bool = False,
    *,
    wrt: Any = None,
    stored: bool | None = None,
    method: str = "auto",
    microbatches: int = 1,
) -> Callable[..., tuple[PyTree, Info, Any]]:
    """Transforms `values_fn` into a function that returns the gradient to apply.

    Only what the balancer needs is computed, in the cheapest way:

    ========== ============================================= =======================
    needs      what runs                                     backward passes
    ========== ============================================= =======================
    values     one weighted pass                             1
    gramian    head gradients, kept and combined             H
    gramian    gramian only, then one weighted pass          H + 1, in less memory
    gramian    with wrt="features": private parts, then one  1
    grads      head gradients                                H
    ========== ============================================= =======================

    A balancer that wants several independent batches (`modo`, `sdmgrad`) gets as many
    equal parts of the first of `args` along the leading axis of its arrays: H passes
    through each of two parts, and one through the third if it wants three. A head whose
    gradient is not finite counts as absent in that step for a balancer that looks at
    gradients; `info.present` says so.

    A pass of a head goes through its own private part and the shared one; the private
    parts of all heads together cost one pass.

    Args:
        values_fn: `(params, *args) -> {name: scalar}`.
        balancer: of `hw.balancers`.
        private: what parameters that one head alone reaches get: "weighted", the
            gradient of Σ w_h value_h as everywhere (Keras); "own", their head's own
            unweighted gradient (LibMTL, TorchJD).
        has_aux: `values_fn` returns (values, aux); aux is in `info`.
        head_grads: compute the head gradients in any case, for `info.grads`.
        wrt: what a gramian is taken over. None: the *shared* parameters, those that
            two or more heads reach, found from the program (all if there are none), as
            in MGDA and its successors. A predicate on paths or a prefix of flags, as
            in `hw.head_grads`: GradNorm's last shared layer. "features": the arrays
            between the shared and the private parts (MGDA-UB).
        stored: for a balancer that needs a gramian: keep the head gradients and
            combine them (True), or drop them and run one more pass (False). None: keep
            them while they take less than 256 MiB or than what the forward pass keeps.
        method: how the heads go through the shared part, as in `hw.head_grads`.
        microbatches: cut the first of `args` into so many parts along the leading axis
            of its arrays and go through them one after the other (`lax.scan`), in the
            memory of one. Values and head gradients are means over the parts, and the
            gramian is that of these means, exactly as from the whole batch if each
            value is a plain mean over it. Head gradients are kept then, a pass a head,
            whatever the balancer needs; aux is that of the last part.

    Returns:
        `f(params, state, *args, key=None, step=None, present=None)` -> (grads, info,
        state), where state is the balancer's, `step` an int scalar for schedules and
        `present` {name: bool} or [H] bool for heads that have no data. A head of weight
        0 leaves no trace in the gradient, even where its loss or its private part is
        NaN.

    Raises:
        ValueError: unknown `private` or `method`; `wrt` selects nothing; the balancer
            lacks a signal (it names it); `microbatches` or the balancer's `batches` do
            not divide the batch, or come together or with features.

    Example:
        >>> def values_fn(p, x):
        ...     return {"a": (p["w"] * x - 1.0) ** 2, "b": (p["w"] * x + 1.0) ** 2}
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.5})
        >>> f = hw.balanced_grad(values_fn, balancer)
        >>> grads, info, _ = f({"w": 3.0}, balancer.init(["a", "b"]), 1.0)
        >>> print(grads["w"], info.values["a"], info.weights["b"])  # 1 * 4 + 0.5 * 8
        8.0 4.0 0.5
    """
    _checks.choice("private", ["weighted", "own"], private)
    _checks.choice("balancer.needs", ["values", "gramian", "grads"], balancer.needs)
    _checks.choice("method", ["auto", "sequential", "batched"], method)
    features = isinstance(wrt, str) and wrt == "features"
    if microbatches < 1 or (features and microbatches > 1):
        raise ValueError(
            "microbatches: expected a positive number, and 1 with wrt='features', got "
            f"{microbatches}"
        )
    if balancer.batches > 1 and (features or microbatches > 1):
        raise ValueError(
            f"balancer: one that wants {balancer.batches} batches goes with neither "
            "microbatches nor wrt='features'"
        )
    plain = gradients.with_aux(values_fn, has_aux)

    def transformed(
        params: PyTree,
        state: Any,
        *args: Any,
        key: Array | None = None,
        step: Array | int | None = None,
        present: Mapping[str, Array] | Array | None = None,
    ) -> tuple[PyTree, Info, Any]:
        _trees.check_floating("params", params)
        accumulated: list[list[Array]] | None = None
        backward: Any = None
        several: list[tuple] = []
        if balancer.batches > 1:
            parts = _cut("batches", balancer.batches, args[0])
            args = (jax.tree.map(lambda a: a[0], parts), *args[1:])
            several = [
                gradients.linearize(
                    plain, params, jax.tree.map(lambda a, i=i: a[i], parts), *args[1:]
                )
                for i in range(balancer.batches)
            ]
            values = jax.tree.map(
                lambda *v: sum(v[1:], v[0]) / len(v), *(s[0] for s in several)
            )
            _, aux, backward = several[-1]
        elif microbatches == 1:
            values, aux, backward = gradients.linearize(plain, params, *args)
        else:
            values, aux, accumulated = _accumulated(
                plain, params, microbatches, method, *args
            )
        names, structure = tuple(values), jax.tree.structure(params)
        if hasattr(present, "keys"):
            assert isinstance(present, Mapping)
            _checks.same_names("present", names, present)
            present = jnp.stack([jnp.asarray(present[n], bool) for n in names])
        signals = balancers.Signals(
            values=jnp.stack([values[n] for n in names]),
            step=step,
            key=key,
            present=present,
        )
        own = None
        if private == "own":
            there = jnp.ones(len(names), bool) if present is None else present
            own = jnp.asarray(there, jnp.float32)
        needs_rows = head_grads or balancer.needs == "grads" or backward is None
        over = private_leaves = reached = None
        if needs_rows or balancer.needs == "gramian" or own is not None:
            reaches = gradients.routing(plain, params, *args, has_aux=True)
            shared = jax.tree.leaves(reaches.shared)
            private_leaves = [not on for on in shared]
            reached = [jax.tree.leaves(reaches.reaches[name]) for name in names]
            over = None if features else _over(wrt, params, shared)

        def by_values() -> _Outcome:
            decision, new = balancer.update(signals, state)
            total = backward.weighted(decision.weights, own, private_leaves)
            seen = balancers.presence(signals)
            return _Outcome(total, decision.weights, new, present=seen)

        def by_gradients() -> _Outcome:
            rows, gram, grads = accumulated, None, None
            kept = needs_rows or balancer.batches == 2
            if rows is None and not kept and not several:
                kept = over is not None and _worth(stored, backward)
            if rows is None and kept:
                rows = backward.rows(method)
            if rows is not None:
                grads = {
                    name: jax.tree.unflatten(structure, row)
                    for name, row in zip(names, rows, strict=True)
                }
            if several:
                second = rows if balancer.batches == 2 else several[1][2].rows(method)
                assert second is not None
                gram = _crossed(several[0][2].rows(method), second, over)
            elif over is None:
                gram = _gramian(names, backward.feature_rows())
            elif rows is None:
                gram = backward.gramian(over, method)
            else:
                gram = _gramian(names, [_trees.chosen(row, over) for row in rows])
            seen = signals
            if balancer.needs != "values":
                shown = grads if balancer.needs == "grads" else None
                seen = signals._replace(gram=gram, grads=shown)
            here = balancers.presence(seen)
            seen = seen._replace(present=here)
            decision, new = balancer.update(seen, state)
            mine = None if own is None else jnp.where(here, own, 0.0)
            if rows is None or reached is None:
                total = backward.weighted(decision.weights, mine, private_leaves)
            else:
                total = _combined(decision, rows, reached, mine, private_leaves)
            conflicts = jnp.sum(jnp.triu(gram + gram.T, 1) < 0).astype(gram.dtype)
            return _Outcome(total, decision.weights, new, gram, conflicts, grads, here)

        if balancer.needs == "values" and not needs_rows:
            outcome = by_values()
        elif balancer.due is None or needs_rows:
            outcome = by_gradients()
        else:
            given = (params, args, state)
            outcome = _when_due(balancer.due(state), by_gradients, by_values, given)
        info = Info(
            values=dict(values),
            weights=dict(zip(names, outcome.weights, strict=True)),
            gramian=outcome.gramian,
            conflicts=outcome.conflicts,
            grads=outcome.grads,
            aux=aux,
            present=dict(zip(names, outcome.present, strict=True)),
        )
        return jax.tree.unflatten(structure, outcome.total), info, outcome.state

    return transformed


def _accumulated(
    plain: Callable[..., tuple[dict, Any]],
    params: PyTree,
    parts: int,
    method: str,
    batch: Any,
    *others: Any,
) -> tuple[dict[str, Array], Any, list[list[Array]]]:
    """Values, aux of the last part, and head gradients, one part after the other."""

    def one(part: Any) -> tuple[tuple, Any]:
        values, aux, backward = gradients.linearize(plain, params, part, *others)
        return (values, backward.rows(method)), aux

    def add(total: tuple, part: Any) -> tuple[tuple, Any]:
        found, aux = one(part)
        return jax.tree.map(jnp.add, total, found), aux

    batch = _cut("microbatches", parts, batch)
    shapes = jax.eval_shape(one, jax.tree.map(lambda a: a[0], batch))[0]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, _numerics.accumulator(x)), shapes)
    zeros = _numerics.alike(zeros, params, batch)
    total, aux = lax.scan(add, zeros, batch)
    values, rows = jax.tree.map(
        lambda x, like: (x / parts).astype(like.dtype), total, shapes
    )
    return values, jax.tree.map(lambda a: a[-1], aux), rows


def _cut(argument: str, parts: int, batch: Any) -> Any:
    """The batch with a new leading axis of so many equal parts."""

    def cut(array: Array) -> Array:
        if not jnp.ndim(array) or array.shape[0] % parts:
            raise ValueError(
                f"{argument}: expected a number that divides the leading axis of "
                f"every array of the batch, got {parts} and shape {jnp.shape(array)}"
            )
        return jnp.reshape(array, (parts, -1, *array.shape[1:]))

    return jax.tree.map(cut, batch)


def _crossed(
    rows: Sequence[Sequence[Array]],
    others: Sequence[Sequence[Array]],
    over: Sequence[bool] | None,
) -> Array:
    """[H, H] inner products of the gradients of two batches."""
    assert over is not None
    pairs = zip(
        zip(*(_trees.chosen(row, over) for row in rows), strict=True),
        zip(*(_trees.chosen(row, over) for row in others), strict=True),
        strict=True,
    )
    return jnp.asarray(sum(_products.cross(a, b) for a, b in pairs))


class _Outcome(NamedTuple):
    total: list[Array]
    weights: Array
    state: Any
    gramian: Array | None = None
    conflicts: Array | None = None
    grads: dict[str, PyTree] | None = None
    present: Any = None


def _over(wrt: Any, params: PyTree, shared: Sequence[bool]) -> list[bool]:
    """The leaves that a gramian is taken over."""
    if wrt is not None:
        return _trees.selected("wrt", wrt, params)
    return list(shared) if any(shared) else [True] * len(shared)


def _gramian(names: Sequence[str], rows: Sequence[Sequence[Array]]) -> Array:
    return gradients.gramian(dict(zip(names, rows, strict=True)))


def _worth(stored: bool | None, backward: gradients.Backward) -> bool:
    if stored is not None:
        return stored
    return backward.rows_bytes <= max(KEPT_BYTES, backward.kept_bytes)


def _combined(
    decision: balancers.Decision,
    rows: Sequence[Sequence[Array]],
    reached: Sequence[Sequence[bool]],
    own: Array | None,
    private: Sequence[bool] | None,
) -> list[Array]:
    """The gradient to apply, from those of the heads."""
    if decision.direction is not None:
        total = jax.tree.leaves(decision.direction)
    else:
        total = _weighted_sum(decision.weights, rows, reached)
    if own is None or private is None:
        return total
    apart = _weighted_sum(own, rows, reached)
    return [o if on else w for on, w, o in zip(private, total, apart, strict=True)]


def _weighted_sum(
    weights: Array,
    rows: Sequence[Sequence[Array]],
    reached: Sequence[Sequence[bool]],
) -> list[Array]:
    """Σ w g for every leaf, from the heads that reach it."""
    by_leaf = zip(zip(*rows, strict=True), zip(*reached, strict=True), strict=True)
    return [
        _products.weighted_sum(weights, heads, [h for h, on in enumerate(flags) if on])
        for heads, flags in by_leaf
    ]


def _when_due(
    due: Array,
    refresh: Callable[[], _Outcome],
    keep: Callable[[], _Outcome],
    given: PyTree,
) -> _Outcome:
    """One of the two; between two refreshes the gramian is NaN."""

    def fresh() -> _Outcome:
        return _numerics.alike(refresh()._replace(grads=None), given)

    shape = jax.eval_shape(fresh)

    def kept() -> _Outcome:
        nothing = [jnp.full(x.shape, jnp.nan, x.dtype) for x in shape[3:5]]
        outcome = keep()._replace(gramian=nothing[0], conflicts=nothing[1])
        return _numerics.alike(outcome, given)

    return lax.cond(due, fresh, kept)
