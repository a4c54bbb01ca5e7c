"""What a bilevel step reports of its heads, when asked: conflicts and contributions."""

from collections.abc import Callable
from typing import Any

from headwise import gradients
from headwise.training import _bilevel
from headwise.training import _decide
from headwise.training import _head_gradients
from headwise.training import _layout
from headwise.training import _sampled
from headwise.typing import Array
from headwise.typing import PyTree
from headwise.typing import ValuesFn

Report = tuple[Array | None, gradients.Contributions | None]
"""Conflicts and contributions, each None where it is not known."""


def reporter(model: ValuesFn, contributions: bool | int) -> Callable[..., Report]:
    """`report(state, args, backward, weights, updates, here, after)` of a step.

    Of the training gradients; `after` is the optimiser's next state.

    Args:
        model: `(params, *args) -> (values, aux)`.
        contributions: True, a number of steps, or False, as in `make_bilevel_step`.
    """
    every = _sampled.period(contributions)
    monitor = None
    if every > 1:
        monitor = gradients.monitor(model, every, has_aux=True)

    def report(
        state: _bilevel.BilevelState,
        args: tuple,
        backward: gradients.Backward,
        weights: dict[str, Array],
        updates: PyTree,
        here: Array | None,
        after: Any,
    ) -> Report:
        if monitor is not None:
            step = _sampled.as_step(every, state.step, state.optimizer, after)
            return None, monitor(
                step, state.params, *args, weights=weights, update=updates
            )
        if every == 0:
            return None, None
        layout = _layout.make_layout(backward.reaches(), None, state.params)
        kept = _head_gradients.Kept(backward.rows(), layout.reached)
        names = list(weights)
        shares = gradients.contributions(
            kept.trees(names, state.params),
            weights,
            updates,
            reaches=layout.trees(names, state.params),
            present=here,
        )
        assert not isinstance(layout.over, str)
        return _decide.conflicts(kept.gramian(layout.over)), shares

    return report
