"""One gradient of many heads, as a balancer decides."""

import functools
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import jax

from headwise import _checks
from headwise import _trees
from headwise import balancers
from headwise.training import _components
from headwise.training import _decide
from headwise.training import _default
from headwise.training import _head_gradients
from headwise.training import _in_turn
from headwise.training import _info
from headwise.training import _layout
from headwise.training import _look
from headwise.training import _model
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn


def balanced_grad(
    values_fn: ValuesFn,
    balancer: balancers.Balancer | None = None,
    private: str = "weighted",
    has_aux: bool = False,
    head_grads: bool = False,
    *,
    wrt: Any = None,
    stored: bool | None = None,
    method: str = "auto",
    microbatches: int = 1,
    axis_name: str | tuple[str, ...] | None = None,
) -> Callable[..., tuple[PyTree, _info.Info, Any]]:
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

    A pass of a head goes through its own private part and the shared one; the private
    parts of all heads together cost one pass.

    Heads that share no parameter are problems of their own: such a balancer is asked
    about each group of heads that are linked as if the others were not there, and a
    head alone keeps its own gradient, with weight 1.

    A balancer that wants several independent batches (`modo`, `sdmgrad`) gets as many
    equal parts of the first of `args` along the leading axis of its arrays: H passes
    through each of two parts, and one through the third if it wants three.

    A head is absent in a step if `values_fn` says so (`hw.Means`: all masked) or
    `present` does, or if its gradient is not finite and the balancer looks at gradients
    (`info.broken`). Its weight is 0 then, and the balancer is shown `present` and 0 for
    all that concerns it. `info.present` tells.

    Args:
        values_fn: `(params, *args) -> {name: scalar}`.
        balancer: of `hw.balancers`; None means the weights of the `hw.Objective` that
            made the values, 1 each without any: see `hw.training.make_step`.
        private: what parameters that one head alone reaches get: "weighted", the
            gradient of Σ w_h value_h as everywhere (Keras); "own", their head's own
            unweighted gradient (LibMTL, TorchJD).
        has_aux: `values_fn` returns (values, aux); aux is in `info`.
        head_grads: compute the head gradients in any case, for `info.grads`.
        wrt: what a gramian is taken over. None: the *shared* parameters, those that
            two or more heads reach, found from the program (and those of heads that
            reach none), as in MGDA and its successors. A predicate on paths or a prefix
            of flags, as in `hw.head_grads`: GradNorm's last shared layer. "features":
            the arrays between the shared and the private parts (MGDA-UB).
        stored: for a balancer that needs a gramian: keep the head gradients and
            combine them (True), or drop them and run one more pass (False). None: keep
            them while they take less than 256 MiB or than what the forward pass keeps.
        method: how the heads go through the shared part, as in `hw.head_grads`.
        microbatches: cut the first of `args` into so many parts along the leading axis
            of its arrays and go through them one after the other (`lax.scan`), in the
            memory of one; part i holds the examples i, i + n, i + 2 n ... Values and
            head gradients, and so the gramian, are those of the whole batch: Σ count *
            mean / Σ count with the counts of `hw.Means`, or means over the parts for
            values in a plain dict, which must be plain means then. Head gradients are
            kept, a pass a head. A balancer that needs the values alone takes one
            weighted pass, after a forward pass through all parts that tells it the
            values, or with static weights none. aux is that of the last part; every
            part gets the same other arguments.
        axis_name: inside of `jax.shard_map`, of an axis (or several) over which
            parameters are split and gathered where they are used (FSDP): the gramian is
            that of all devices' rows. Head gradients are kept then.

    Returns:
        `f(params, state, *args, key=None, step=None, present=None)` -> (grads, info,
        state), where state is the balancer's, `step` an int scalar for schedules and
        `present` {name: bool} or [H] bool for heads that have no data. A head of weight
        0 leaves no trace in the gradient, even if its loss or private part is NaN.

    Raises:
        ValueError: unknown `private` or `method`; `wrt` selects nothing; the state is
            of other heads; the balancer lacks a signal (it names it); `microbatches` or
            the balancer's `batches` do not divide the batch, come together or with
            features, or meet a head whose value is no mean over examples (Dice over
            the batch); `axis_name` with features, or with a balancer that looks at
            gradients themselves, whose lengths it cannot add up.

    Example:
        >>> def values_fn(p, x):
        ...     return {"a": (p["w"] * x - 1.0) ** 2, "b": (p["w"] * x + 1.0) ** 2}
        >>> balancer = hw.balancers.constant({"a": 1.0, "b": 0.5})
        >>> f = hw.balanced_grad(values_fn, balancer)
        >>> grads, info, _ = f({"w": 3.0}, balancer.init(["a", "b"]), 1.0)
        >>> print(grads["w"], info.values["a"], info.weights["b"])  # 1 * 4 + 0.5 * 8
        8.0 4.0 0.5
    """
    balanced = balanced_grad_and_layout(
        values_fn,
        balancer,
        private,
        has_aux,
        head_grads,
        wrt=wrt,
        stored=stored,
        method=method,
        microbatches=microbatches,
        axis_name=axis_name,
    )

    def transformed(
        params: PyTree,
        state: Any,
        *args: Any,
        key: Array | None = None,
        step: Array | int | None = None,
        present: Mapping[str, Array] | Array | None = None,
    ) -> tuple[PyTree, _info.Info, Any]:
        result, _ = balanced(params, state, args, key, step, present)
        return result

    return transformed


def balanced_grad_and_layout(
    values_fn: ValuesFn,
    balancer: balancers.Balancer | None,
    private: str,
    has_aux: bool,
    head_grads: bool,
    *,
    wrt: Any,
    stored: bool | None = None,
    method: str = "auto",
    microbatches: int,
    stateful: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Callable[..., tuple[tuple[PyTree, _info.Info, Any], Callable[[], _layout.Layout]]]:
    """`balanced_grad`, and a call for the layout: one trace of the model knows both.

    With `stateful` the arguments are (batch, rest, key), and aux is the next rest:
    parts of a batch hand it on, and draw by keys of their own.
    """
    by_default = balancer is None
    balancer = balancers.equal() if balancer is None else balancer
    _checks.choice("private", ["weighted", "own"], private)
    _checks.balancer("balancer", balancer)
    _checks.choice("balancer.needs", ["values", "gramian", "grads"], balancer.needs)
    _checks.choice("method", ["auto", "sequential", "batched"], method)
    microbatches = _checks.positive_int("microbatches", microbatches)
    features = _layout.is_features(wrt)
    if features and microbatches > 1:
        raise ValueError(
            f"microbatches: expected 1 with wrt='features', got {microbatches}"
        )
    if balancer.batches > 1 and (features or microbatches > 1):
        raise ValueError(
            f"balancer: one that wants {balancer.batches} batches goes with neither "
            "microbatches nor wrt='features'"
        )
    if axis_name is not None and (features or balancer.needs == "grads"):
        raise ValueError(
            "axis_name: expected None with wrt='features' or a balancer that needs "
            f"'grads', got {axis_name!r}"
        )
    plain = _model.plain(values_fn, has_aux)
    asked = head_grads or balancer.needs == "grads"
    alone = balancer.needs == "values" and not asked
    ways = (balancer.batches, microbatches, method, alone, stateful)
    look_at = _in_turn.looker(plain, *ways)

    def transformed(
        params: PyTree,
        state: Any,
        args: tuple,
        key: Array | None,
        step: Array | int | None,
        present: Mapping[str, Array] | Array | None,
        heads: balancers.Names | None = None,
    ) -> tuple[tuple[PyTree, _info.Info, Any], Callable[[], _layout.Layout]]:
        _trees.check_floating("params", params)
        look = look_at(params, args)
        names = balancers.Names(look.values)
        here = _decide.data(names, look.tally.here(names), present)
        signals = _decide.signals_of(names, look.values, key, step, here, heads)

        @functools.cache
        def layout() -> _layout.Layout:
            made = _layout.make_layout(look.reaches(), wrt, params)
            return made._replace(axis_name=axis_name)

        asked_of = balancer
        if by_default:
            asked_of = _default.default(look.tally.weights, names, state)
        each = _components.apart(asked_of, names, layout, params)
        own = layout().private if private == "own" else None

        def by_values(made_of: _head_gradients.HeadGradients) -> _decide.Outcome:
            return _decide.by_values(each, signals, state, made_of, own)

        def by_gradients(
            look: _look.Whole | _look.Several | _look.Accumulated,
        ) -> _decide.Outcome:
            kept = asked or bool(axis_name)
            kept = kept or look.keeps(False if features else stored)
            gram, made_of = look.gradients(layout(), kept, method)
            grads = made_of.trees(names, params)
            return _decide.by_gradients(each, signals, state, gram, made_of, grads, own)

        if isinstance(look, _in_turn.InTurn):
            outcome = by_values(_head_gradients.Later())
            look, total = look.passed(*outcome.total)
            outcome = outcome._replace(total=total)
        elif isinstance(look, _look.Accumulated) or asked:
            outcome = by_gradients(look)
        elif balancer.needs == "values":
            outcome = by_values(_head_gradients.OneMorePass(look.backward))
        elif balancer.due is None:
            outcome = by_gradients(look)
        else:
            one_more = _head_gradients.OneMorePass(look.backward)
            outcome = _decide.when_due(
                balancer.due(state),
                functools.partial(by_gradients, look),
                functools.partial(by_values, one_more),
            )
        info = _info.make_info(look, outcome)
        grads = jax.tree.unflatten(jax.tree.structure(params), outcome.total)
        return (grads, info, outcome.state), layout

    return transformed
