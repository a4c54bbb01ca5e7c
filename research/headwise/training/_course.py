"""What follows from the records of a run: its end, its best, what is set anew.

All of it are pure functions of records: `stop`, `best`, `adjust` of `fit`, and
`eval_params`, whose parameters are looked at in place of those that are trained.
"""

import contextlib
import logging
import pathlib
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from headwise import _checks
from headwise import _described
from headwise import _hosts
from headwise import _trees
from headwise.training import _best
from headwise.training import _record
from headwise.training import _series
from headwise.training import _stop
from headwise.training import _validation

_LOG = logging.getLogger("headwise")


class Course:
    """What `fit` does with its records beside writing them.

    Args:
        stop, best, adjust, eval_params, validate: of `fit`.
        validate_every: of `fit`; None: at the end alone.

    Raises:
        TypeError, ValueError: one of them is no such, or looks at validations that do
            not come.
    """

    def __init__(
        self,
        stop: _stop.Stop | None,
        best: Any,
        adjust: Callable[[Any, Sequence[Mapping[str, Any]]], Any] | None,
        eval_params: Callable[[Any], Any] | None,
        validate: Callable[[Any, Any], Any] | None,
        validate_every: int | None,
    ):
        for name, function in (
            ("stop", stop),
            ("adjust", adjust),
            ("eval_params", eval_params),
        ):
            if function is not None:
                _checks.function(name, function)
        self._stop, self._adjust, self._eval_params = stop, adjust, eval_params
        self._validate = validate
        self._best = None if best is None else _best.check(best)
        self._keeper: _best.Keeper | None = None
        self._begun = 0.0
        self._past: dict[Any, _series.Past] = {}
        """What functions of records made of all but the newest."""
        self.shared: Callable[[Any], Any] = lambda value: value
        """What the first of several processes that train together has."""
        self._timed = "seconds" in _stop.metrics(stop)
        looked_at = [("stop", metric) for metric in _stop.metrics(stop)]
        looked_at += [] if self._best is None else [("best", self._best[0])]
        for name, metric in looked_at:
            if metric.split("/")[0] != "validation":
                continue
            for wanted, given in (
                ("validate", validate),
                ("validate_every", validate_every),
            ):
                if given is None:
                    raise ValueError(
                        f"{wanted}: expected one, since {name} looks at {metric!r}, "
                        "got None"
                    )

    def shown(self, state: Any) -> Any:
        """The state with the parameters to evaluate in place of those trained."""
        if self._eval_params is None:
            return state
        return state._replace(params=self._eval_params(state))

    def validation(self, state: Any) -> dict[str, Any]:
        """What `validate` says of the parameters to evaluate."""
        assert self._validate is not None
        return self.shared(_validation.validation(self._validate, self.shown(state)))

    @property
    def acts(self) -> bool:
        """Whether anything follows from records, so that each needs the state."""
        return any(x is not None for x in (self._stop, self._best, self._adjust))

    def start(
        self,
        opened: contextlib.ExitStack,
        workdir: pathlib.Path | None,
        first: int,
        history: Sequence[Mapping[str, Any]],
        state: Any,
    ) -> bool:
        """Takes up a run after `first` steps; whether its records say that it ended."""
        self._begun = time.monotonic()
        if self._timed and history:
            self._begun -= history[-1].get("seconds", 0.0)
        if self._best is not None:
            folder = None if workdir is None else workdir / "best"
            self._keeper = opened.enter_context(_best.Keeper(*self._best, folder))
            self._keeper.start(first, history, self.shown(state))
        reason = self._reason(history) if history else None
        if reason is not None:
            _LOG.warning("stopped after step %d: %s", first, reason)
        elif history and "stopped" in history[-1]:
            words = history[-1]["stopped"]
            _LOG.warning("goes on after step %d, where it stopped: %s", first, words)
        return reason is not None

    def follow(
        self, before: Sequence[Mapping[str, Any]], record: dict[str, Any], state: Any
    ) -> tuple[Any, bool]:
        """Completes the newest record, and acts on it.

        Args:
            before: the records before it.
            record: changed in place.
            state: after its steps.

        Returns:
            (state, ended): as `adjust` sets it, and whether the run ends here.
        """
        if not self.acts:
            return state, False
        history = _series.Records([*before, record], self._past)
        if self._timed:
            record["seconds"] = self.shared(round(time.monotonic() - self._begun, 3))
        if self._adjust is not None and (found := hyperparams(state)):
            record["hyperparams"] = found
        reason = self._reason(history)
        if reason is not None:
            record["stopped"] = reason
            _LOG.warning("stopped after step %d: %s", record["step"], reason)
            if self._validate is not None and "validation" not in record:
                record["validation"] = self.validation(state)
        if self._keeper is not None:
            self._keeper.see(record, self.shown(state))
        if self._adjust is not None:
            state = adjusted(self._adjust, state, history)
        return state, reason is not None

    def answer(self, state: Any, history: list[dict[str, Any]]) -> Any:
        """What `fit` returns: the state, the records, and the best if it was kept."""
        if self._keeper is None:
            return state, history
        return state, history, self._keeper.best

    def write(self, done: int) -> None:
        """Writes what is the best so far, before the checkpoint of step `done`."""
        if self._keeper is not None:
            self._keeper.write(done)

    def _reason(self, history: Sequence[Mapping[str, Any]]) -> str | None:
        reason = None if self._stop is None else self.shared(self._stop(history))
        if reason is None or (isinstance(reason, str) and reason):
            return reason
        raise TypeError(
            "stop: expected why the run ends, a str, or None if it goes on, got "
            f"{_checks.kind(reason)}"
        )


def hyperparams(state: Any) -> dict[str, float | None]:
    """{name: number} of those that `optax.inject_hyperparams` keeps in a state."""
    parts = jax.tree.leaves(getattr(state, "optimizer", ()), is_leaf=_injected)
    found = [part.hyperparams for part in parts if _injected(part)]
    numbers = {n: x for names in found for n, x in names.items() if np.shape(x) == ()}
    return _record.plain(_hosts.fetched(numbers))


def adjusted(
    adjust: Callable[[Any, Sequence[Mapping[str, Any]]], Any],
    state: Any,
    history: Sequence[Mapping[str, Any]],
) -> Any:
    """`adjust(state, history)` with the types and places of the state before.

    So that the next step is the same compiled program.

    Raises:
        TypeError, ValueError: it returned something else; names what differs.
    """
    new = adjust(state, history)
    if _trees.structure(new) != _trees.structure(state):
        raise TypeError(
            "adjust: expected the state with other numbers, got "
            + (
                "one of another structure"
                if type(new) is type(state)
                else _checks.kind(new)
            )
        )
    leaves = []
    rows = zip(_described.names(state), jax.tree.leaves(state), jax.tree.leaves(new))
    for name, old, leaf in rows:
        if leaf is old:
            leaves.append(old)
            continue
        if np.shape(leaf) != np.shape(old):
            raise ValueError(
                f"adjust: expected {name} of shape {np.shape(old)}, got "
                f"{np.shape(leaf)}"
            )
        leaf = jnp.asarray(leaf).astype(old.dtype)
        committed = getattr(old, "committed", False)
        leaves.append(_hosts.placed(leaf, old.sharding) if committed else leaf)
    return jax.tree.unflatten(_trees.structure(state), leaves)


def _injected(part: Any) -> bool:
    return isinstance(part, tuple) and hasattr(part, "hyperparams")
