"""The gradient to apply: looking, layout and deciding, put together.

`_look` runs the passes, `_layout` knows where the heads go, `_decide` asks the
balancer.
"""

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


def gradient_to_apply(
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
    in_step: bool = False,
    axis_name: str | tuple[str, ...] | None = None,
) -> Callable[..., tuple[tuple[PyTree, _info.Info, Any], Callable[[], _layout.Layout]]]:
    """As `balanced_grad`, and a call for the layout: one trace of the model knows both.

    With `stateful` the arguments are (batch, rest, key), and aux is the next rest:
    parts of a batch hand it on, and draw by keys of their own. A step has no use for
    head gradients that nobody asked for: `in_step` they are not made into trees.
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
            grads = None if in_step and not asked else made_of.trees(names, params)
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
