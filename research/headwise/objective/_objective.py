"""The weighted multi-task objective: total = Σ_h weight_h * value_h, by name."""

from collections.abc import Mapping
from typing import Any

from headwise import _checks
from headwise import _numerics
from headwise import _text
from headwise import _weights
from headwise.objective import _value
from headwise.typing import Array
from headwise.typing import Loss
from headwise.typing import PyTree
from headwise.typing import Schedule
from headwise.typing import Values

Weight = float | Array | Schedule


class Objective:
    """Named losses and weights: outputs and targets to raw values and the total.

    What is minimised, and nothing else::

        total = Σ_h w_h * value_h
        value_h = Σ_b s_b Σ_e loss_h[b, e] / number of entries

    where e runs over the entries that a loss returns for example b (classes,
    positions), s is the per-example weight (1 if not given) and, with a mask, only
    the entries that count are summed and counted. This is Keras'
    `sum_over_batch_size`. Everything goes by name; nothing is matched by position.

    Derivatives go both ways and any number of times, as far as the losses' own do:
    `jax.grad`, `jax.jvp`, `jax.linearize`, `jax.jacfwd`, `jax.hessian`.

    Args:
        losses: {name of output: loss}. A loss is `loss(preds, targets)` -> values
            with the batch as leading axis: those of `hw.losses`, of optax, or any
            callable. `None` marks an output without a loss. Several losses on one
            output: `hw.losses.mix`.
        weights: {name: float, array or schedule of the step}, one for every name
            that has a loss; None means 1 each. Arrays may be traced. A weight of
            exactly 0 drops its head from total and gradient even if the value is
            NaN. (Up to the head's output: what the model does before it is not seen
            from here, so that a decoder with NaN parameters still spoils its trunk.)
            They travel with `values`: a training step without a balancer minimises
            `total`. One with a balancer has the balancer's weights, not these.

    Raises:
        ValueError: names missing, unknown or duplicate; no head has a loss.
        TypeError: no dict; a loss is not callable.

    Example:
        >>> objective = hw.Objective(
        ...     {"y1": optax.losses.squared_error, "y2": optax.losses.squared_error},
        ...     weights={"y1": 0.5, "y2": 0.3},
        ... )
        >>> outputs = {"y1": jnp.array([1.0, 3.0]), "y2": jnp.array([2.0, 0.0])}
        >>> targets = {"y1": jnp.zeros(2), "y2": jnp.zeros(2)}
        >>> total, values = objective(outputs, targets)
        >>> print({name: float(value) for name, value in values.items()})
        {'y1': 5.0, 'y2': 2.0}
        >>> print(f"{total:.2f}")                              # 0.5 * 5 + 0.3 * 2
        3.10
    """

    def __init__(
        self,
        losses: Mapping[str, Loss | None],
        weights: Mapping[str, Weight] | None = None,
    ):
        _checks.mapping("losses", losses)
        _checks.head_names("losses", losses)
        for name, loss in losses.items():
            if loss is not None and not callable(loss):
                several = "; several losses on one output: hw.losses.mix"
                hint = several if isinstance(loss, list | tuple) else ""
                raise TypeError(
                    f"losses[{name!r}]: expected a callable or None, got "
                    f"{type(loss).__name__}{hint}"
                )
        self._losses: dict[str, Any] = dict(losses)
        self._names = tuple(sorted(n for n, loss in losses.items() if loss is not None))
        if not self._names:
            raise ValueError("losses: expected at least one head with a loss, got none")
        self._weights: dict[str, Any] = dict.fromkeys(self._names, 1.0)
        if weights is not None:
            self._weights = self._checked_weights(weights)
        self._own = _weights.of_objective(self._weights)

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, that is the outputs with a loss, in sorted order."""
        return self._names

    @property
    def weights(self) -> dict[str, Weight]:
        """The weight or schedule of each head."""
        return dict(self._weights)

    def __repr__(self) -> str:
        pairs = ((n, _text.weight(self._weights[n])) for n in self.names)
        parts = (f"{_text.printable(name)}: {weight}" for name, weight in pairs)
        return f"Objective({', '.join(parts)})"

    def _checked_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        _checks.mapping("weights", weights)
        _checks.same_names("weights", self._names, weights)
        return {
            name: weight
            if callable(weight)
            else _checks.scalar(f"weights[{name!r}]", weight)
            for name, weight in weights.items()
        }

    def __call__(
        self,
        outputs: Mapping[str, PyTree],
        targets: Mapping[str, PyTree],
        weights: Mapping[str, Weight] | None = None,
        step: Any = None,
        *,
        sample_weights: Any = None,
        where: Any = None,
        partial: bool = False,
    ) -> tuple[Array, dict[str, Array]]:
        """(total, raw values): `values`, then `total`. Arguments as there.

        With `jax.value_and_grad(..., has_aux=True)` the values come for free.
        """
        values = self.values(outputs, targets, sample_weights, where, partial)
        return self.total(values, weights, step), values

    def values(
        self,
        outputs: Mapping[str, PyTree],
        targets: Mapping[str, PyTree],
        sample_weights: Mapping[str, Array] | Array | None = None,
        where: Mapping[str, Array] | Array | None = None,
        partial: bool = False,
    ) -> dict[str, Array]:
        """The raw, unweighted value of each head.

        Args:
            outputs: {name: array or pytree}, one for every name in `losses`.
            targets: the same names; those of outputs without a loss may be left out.
            sample_weights: [B] for all heads, or {name: [B]} for some of them (more
                axes than the batch are allowed if the loss has them); value =
                Σ weight * loss / number of entries. An example with weight 0 is
                counted but not seen: nothing of it gets into a value or gradient.
            where: bool, for all heads or {name: mask} for some: True where an entry
                counts. [B, *S] or any prefix of it. The mean is over what counts,
                and 0 if nothing does (or the batch is empty).
            partial: heads left out of `outputs` and `targets` are absent, with count 0.

        Returns:
            {name: float32 scalar} in sorted order, float64 if the loss is. With a mask,
            an ignored label, weights of examples or an empty batch it is `hw.Means`,
            which tells of how many entries each value is the mean: a head without data
            is absent in a step then, and parts of a batch add up to the whole. So
            it tells a step its weights; `|` keeps them, a new dict `{**values}` not.

        Raises:
            ValueError: names or shapes do not fit; a loss returned more values than it
                was given, no batch for weights, or it couples examples without `where`.

        Example:
            >>> objective = hw.Objective({"y": optax.losses.squared_error})
            >>> y, t = {"y": jnp.array([1.0, jnp.nan])}, {"y": jnp.zeros(2)}
            >>> print(objective.values(y, t, where=jnp.array([True, False]))["y"])
            1.0
            >>> weights = jnp.array([3.0, 0.0])                     # 3 * 1 / 2
            >>> print(objective.values(y, t, sample_weights=weights)["y"])
            1.5
        """
        _checks.mapping("outputs", outputs)
        _checks.mapping("targets", targets)
        _checks.boolean("partial", partial)
        here = {n for n in self._losses if not partial or n in outputs}
        _checks.same_names("outputs", here, outputs)
        optional = here.difference(self._names, targets)
        _checks.same_names("targets", here - optional, targets)
        weights = _value.by_head("sample_weights", self._names, sample_weights)
        masks = _value.by_head("where", self._names, where)
        return _value.values(
            {
                n: _value.value(
                    n,
                    self._losses[n],
                    outputs[n],
                    targets[n],
                    weights.get(n),
                    masks.get(n),
                    partial,
                )
                if n in here
                else _value.absent()
                for n in self._names
            },
            self._own,
        )

    def total(
        self,
        values: Values,
        weights: Mapping[str, Weight] | None = None,
        step: Any = None,
    ) -> Array:
        """Σ weight * value over the heads.

        Args:
            values: {name: scalar}, one for every head.
            weights: instead of the objective's own; the same names. May be traced,
                so that one compiled program serves a whole sweep.
            step: int scalar, for weights that are schedules.

        Returns:
            A scalar, at least float32. Heads with weight 0 count for nothing, even if
            NaN; the total's derivative with respect to such a weight is 0.

        Raises:
            ValueError: names differ, a value or weight is not a scalar, or a weight
                is a schedule and no step is given.

        Example:
            >>> loss = optax.losses.squared_error
            >>> ramp = optax.linear_schedule(0.0, 1.0, transition_steps=10)
            >>> objective = hw.Objective({"a": loss, "b": loss}, {"a": 1.0, "b": ramp})
            >>> print(objective.total({"a": 2.0, "b": 4.0}, step=5))   # 2 + 0.5 * 4
            4.0
        """
        _checks.mapping("values", values)
        _checks.same_names("values", self._names, values)
        given = self._weights if weights is None else self._checked_weights(weights)
        total: Array | None = None
        for name in self._names:
            weight = given[name]
            if callable(weight):
                if step is None:
                    raise ValueError(
                        f"step: expected a step, since the weight of {name!r} is a "
                        "schedule; got None"
                    )
                weight = _checks.scalar(f"weights[{name!r}](step)", weight(step))
            value = _checks.scalar(f"values[{name!r}]", values[name])
            value = value.astype(_numerics.accumulator(value))
            part = _numerics.drop_zero_weight(weight, value)
            total = part if total is None else total + part
        assert total is not None
        return total
