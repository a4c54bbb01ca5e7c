"""FAMO: every head's log value is to fall at the same rate, for O(1) cost."""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from headwise import _checks
from headwise.balancers._core import _masked
from headwise.balancers._core import _named
from headwise.balancers._core import _optimizer
from headwise.balancers._core import _signals
from headwise.balancers._core import _types
from headwise.typing import Array
from headwise.typing import PyTree


@_types.settings("minimum")
class FamoState(NamedTuple):
    """Logits with their own optimiser, and the values that they are judged by."""

    names: _types.Names
    logits: Array
    """[H]"""
    optimizer: Any
    last_log: Array
    """[H] log(value - minimum) before the parameters moved."""
    seen: Array
    """[H] bool, whether there is such a value."""
    minimum: Array
    """[H] least value that a head can reach."""


def famo(
    second_forward: bool = True,
    min_values: _named.Given = None,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float = 0.025,
    decay: float = 1e-3,
) -> _types.Balancer:
    """Fast adaptive multitask optimisation: the slowest head gets more.

    With D_h = value_h - min_h and z = softmax(logits)::

        weight_h = (z_h / D_h) / Σ (z / D)
        δ_h = log D_h before the step - log D_h after it
        logits <- Adam step along  (diag(z) - z zᵀ) δ + decay logits

    which is the gradient of Σ z_h log D_h, scaled so that the weights sum to 1. A head
    that improved more than the others, relative to its value, loses weight.

    D_h after the step is of the same batch in the paper: the model runs forward once
    more. `second_forward=False` takes the next batch's in its place, as the paper
    proposes to save that; then δ has the noise between batches in it.

    A head whose D is not positive has an equal part of the weights, 1 / H, and what is
    known of it stays; the peers add 1e-8 to D. The logits stay within ±14. The official
    code also clips the model's gradients to norm 1: chain
    `optax.clip_by_global_norm(1.0)` for that.

    Args:
        second_forward: whether the balancer has an `after`, which is to be called with
            the values of the same batch once the parameters have moved.
        min_values: {name: scalar}, one for every head: least values; None means 0.
        optimizer: of the logits; None means Adam as follows, with the decay added to
            the gradient (not decoupled), as in the official code.
        learning_rate: of the logits.
        decay: the paper's γ; 1e-3 in LibMTL, TorchJD and the official NYUv2 script,
            0.01 by default in the official code.

    Returns:
        A balancer that needs the values. The weights sum to 1.

    Raises:
        ValueError: `init` gets other names than `min_values`; a number is out of its
            range.
        TypeError: `second_forward` is not a bool, `optimizer` not one of optax.

    Example:
        >>> balancer = hw.balancers.famo(optimizer=optax.sgd(4.0))
        >>> state = balancer.init(["a", "b"])
        >>> decision, state = balancer.update(hw.Signals(jnp.array([1.0, 3.0])), state)
        >>> print(decision.weights.round(4))  # 1 / value, normalised
        [0.75 0.25]
        >>> state = balancer.after(jnp.array([1.0 / np.e, 3.0]), state)  # δ = 1, 0
        >>> print(state.logits)  # -4 * [1/2 * 1/2, -1/2 * 1/2]
        [-1.  1.]

    References:
        Liu et al., "FAMO: fast adaptive multitask optimization", NeurIPS 2023,
        algorithm 1.
    """
    _checks.boolean("second_forward", second_forward)
    _named.check("min_values", min_values, _checks.number)
    _checks.positive("learning_rate", learning_rate)
    _checks.nonnegative("decay", decay)
    optimizer = _optimizer.given_or(
        optimizer,
        optax.chain(optax.add_decayed_weights(decay), optax.adam(learning_rate)),
    )

    def init(names: Sequence[str], params: PyTree = None) -> FamoState:
        del params
        names = _types.Names(names, "famo")
        logits = jnp.zeros(len(names), jnp.float32)
        return FamoState(
            names,
            logits,
            optimizer.init(logits),
            last_log=jnp.zeros_like(logits),
            seen=jnp.zeros(len(names), bool),
            minimum=_named.row("min_values", min_values, names),
        )

    def log_of(values: Array, present: Array, state: FamoState) -> tuple[Array, Array]:
        """Logs of the distances, 0 where there is none, and which heads have one."""
        distance = values - state.minimum
        counted = present & (distance > 0)
        return jnp.log(_masked.positive(jnp.where(counted, distance, 1.0))), counted

    def judge(state: FamoState, log_distance: Array, judged: Array) -> FamoState:
        """Moves the logits of the heads whose improvement is known."""
        z = _masked.softmax(state.logits, judged)
        improved = _masked.zero_absent(state.last_log - log_distance, judged)
        slope = z * (improved - jnp.sum(z * improved))
        logits, moved = _optimizer.descend_log(
            optimizer, slope, state.logits, state.optimizer, judged
        )
        return state._replace(logits=logits, optimizer=moved)

    def update(
        signals: _types.Signals, state: FamoState
    ) -> tuple[_types.Decision, FamoState]:
        values, present = _signals.read("famo", state, signals)
        log_distance, counted = log_of(values, present, state)
        if not second_forward:
            state = judge(state, log_distance, counted & state.seen)
        weights = _masked.softmax(state.logits - log_distance, counted)
        weights = _masked.beside(weights, counted, present)
        seen = counted if second_forward else counted | state.seen
        last_log = jnp.where(counted, log_distance, state.last_log)
        new = state._replace(last_log=last_log, seen=seen)
        return _types.Decision(weights), new

    def after(values: Array, state: FamoState) -> FamoState:
        signals = _types.Signals(values=values, present=state.seen)
        values, judged = _signals.read("famo", state, signals)
        log_distance, judged = log_of(values, judged, state)
        return judge(state, jax.lax.stop_gradient(log_distance), judged)

    return _types.Balancer(init, update, after=after if second_forward else None)
