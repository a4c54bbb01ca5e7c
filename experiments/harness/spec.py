"""What an experiment is: a `Spec` that costs nothing, and what `build` makes of it."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import optax


class Spec(NamedTuple):
    """What is asked and varied. Cheap: it holds no data and no model."""

    heads: tuple[str, ...]
    """Their names."""
    metrics: Mapping[str, bool]
    """{metric: whether more is better}, the most important first."""
    front: tuple[str, str]
    """Two metrics to draw against each other."""
    steps: int
    """Of one training."""
    seeds: tuple[int, ...]
    """Of the sweep."""
    defaults: Mapping[str, bool | int | float | str]
    """{setting: value}; `--set=NAME=VALUE` gives another of the same type."""
    design: Mapping[str, np.ndarray] | None = None
    """The weightings of the sweep; None if they follow from the data (`Experiment`)."""
    remark: str = ""
    """What a reader of the sweep should know."""
    batched: bool | None = None
    """Without effect since how a sweep runs is measured; older files say it."""

    def smoke(self) -> "Spec":
        """A version of a few seconds."""
        return self._replace(steps=12, seeds=self.seeds[:2])


class Experiment(NamedTuple):
    """A model, its data and metrics, ready to be trained with any weights."""

    init: Callable[[Any], tuple[Any, Any]]
    """`init(key)` -> (params, rest)."""
    values_fn: Callable[..., tuple[dict, Any]]
    """`(params, rest, batch, key)` -> (raw values, rest)."""
    batch: Callable[[jax.Array], Any]
    """`batch(key)` -> one batch."""
    evaluate: Callable[[Any, Any], dict[str, jax.Array]]
    """`(params, rest)` -> {metric: scalar} on held-out data, as `fit(validate=)`. Like
    all functions here it can be traced."""
    optimizer: Callable[..., optax.GradientTransformation]
    """`optimizer(steps)`. A setting that it also takes, `optimizer(steps, lr=0.01)`, is
    an array in a sweep: rates differ between trials of one program. Such a setting is
    used nowhere else."""
    design: Mapping[str, np.ndarray] | None = None
    """The weightings of the sweep where they follow from the data."""
