"""Metrics over a whole data set: exact for uneven batches, the host waits once."""

import functools
import logging
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from headwise import _checks
from headwise import _hosts
from headwise.training import _data
from headwise.training import _totals
from headwise.typing import PyTree

_LOG = logging.getLogger("headwise")
_MANY = 8
"""Shapes of batches, each with a program of its own, after which a line says so."""


def evaluate(
    metrics_fn: Callable[..., Any],
    params: PyTree,
    batches: Iterable[Any] | PyTree,
    *,
    rest: PyTree = (),
    batch_size: int | None = None,
    own: bool = False,
) -> dict[str, Any]:
    """The metrics of a model over all data of a stream of uneven batches.

    They are sums over everything, never means of means::

        value = Σ count * value of the batch / Σ count

    Sums stay on the device and keep the digits that additions round off; the host
    waits once, at the end. In `fit`::

        validate=lambda params, rest: evaluate(metrics_fn, params, batches, rest=rest)

    Conventions: Keras' `evaluate` and metrics that are averaged batch by batch give a
    small last batch the weight of a whole one, or leave it out.

    Args:
        metrics_fn: `(params, batch) -> {name: metric}`, or `(params, rest, batch)` if
            there is a `rest`. May be jitted; give the same function each time, so that
            it is compiled once. A metric is one of `hw.metrics`, any other pytree of
            sums (a NamedTuple), a dict of these, or a floating scalar: a mean, whose
            count `hw.Means` tells (so `objective.values` is exact under any mask) and
            is else the number of examples in the batch. With a parameter `where`
            it is given [B] bool, the examples that count, and every batch
            has the size of the largest so far: one program, whatever the sizes.
            Without it, one for each shape that comes.
        params: of the model; on whatever devices.
        batches: an iterable that ends, of batches whose arrays have the examples as
            leading axis; those without examples are passed over. Or the arrays of a
            whole data set (dict, tuple, array), with `batch_size`. Batches may
            leave out metrics of heads that they have no data for.
        rest: other state of the model (running statistics); () means none.
        batch_size: of the batches that arrays are cut into; the last one is smaller.
        own: of several processes (`jax.distributed`) each gives data of its own, as
            many batches as it has: the metrics are those of the data of all. False:
            all give the same, or arrays that lie on devices of all (`shard_batch`).

    Returns:
        {name: metric}, on the host: `Ratio` and others as they are (`.value`, `.mean`,
        `.named(classes)`), scalars as means over all data, `hw.Means` with the counts
        of all data. `fit(validate=)` takes it as it is.

    Raises:
        ValueError: no batch, or none with an example; arrays of a batch that differ in
            length, where that is the count of a mean or `where` is asked for; a metric
            that is neither sums nor a scalar; a value that is no mean over examples
            (Dice over the batch), of more than one batch.
        TypeError: `batches` is a function, or arrays without `batch_size`; a metric is
            an integer.

    Example:
        >>> def metrics_fn(params, batch):
        ...     scores = batch["x"] * params["w"]
        ...     accuracy = hw.metrics.pixel_accuracy(scores, batch["y"])
        ...     return {"accuracy": accuracy, "size": jnp.mean(scores)}
        >>> data = {"x": jnp.eye(3), "y": jnp.array([0, 1, 0])}
        >>> params = {"w": 6.0}
        >>> found = hw.training.evaluate(metrics_fn, params, data, batch_size=2)
        >>> print(f"{found['accuracy'].value:.3f} {found['size']:.1f}")  # 2 of 3
        0.667 2.0
    """
    _checks.function("metrics_fn", metrics_fn)
    _checks.boolean("own", own)
    read = functools.partial(_data.batches_of, batches, batch_size)
    if own and _hosts.several():
        own_params, own_rest = _data.own((params, rest))
        parts = _hosts.of_each(
            lambda: _sums(metrics_fn, own_params, own_rest, read(), alone=False)
        )
    else:
        parts = [_sums(metrics_fn, params, rest, read(), alone=True)]
    sums = [of_part for part in parts for of_part in part]
    if not sums:
        raise ValueError(
            "batches: expected one or more with examples, got none (a generator can be "
            "read once: give what can be read again, such as a list or a grain data "
            "set)"
        )
    return _totals.finished(functools.reduce(_totals.joined, sums))


def _sums(
    metrics_fn: Callable[..., Any],
    params: PyTree,
    rest: PyTree,
    batches: Iterable[Any],
    *,
    alone: bool,
) -> list[Any]:
    """Those of batches with each set of names, on the host; `alone`: of all data."""
    masks, size = _data.takes(metrics_fn, "where"), 0
    more = {"where": None} if masks else {}
    program = _data.compiled("metrics_fn", metrics_fn, params, rest, **more)
    kept: dict[Any, Any] = {}
    """{structure of the metrics: their sums}"""
    shapes: set[Any] = set()
    for batch in batches:
        count = _data.length(batch)
        if count == 0:
            continue
        where: dict[str, Any] = {}
        if masks:
            count = _data.examples("batch", batch)
            size = max(size, count)
            batch = _data.padded(batch, count, size)
            where = {"where": np.arange(size) < count}
        _tell_many(shapes, batch)
        found = program(batch, **where)
        structure = _structure(found)
        if kept or not alone:
            _totals.refuse_coupled(found)
        if count is None or structure not in kept:
            _totals.check(found, count)
        if structure in kept:
            kept[structure] = _totals.more(kept[structure], found, count)
        else:
            kept[structure] = _totals.start(found, count)
    return [sums for sums, _ in _hosts.fetched(list(kept.values()))]


def _structure(found: Any) -> Any:
    return jax.tree.structure(found), tuple(map(np.shape, jax.tree.leaves(found)))


def _tell_many(shapes: set[Any], batch: Any) -> None:
    """Says once that almost every batch is compiled anew."""
    if len(shapes) > _MANY:
        return
    shapes.add(_structure(batch))
    if len(shapes) > _MANY:
        _LOG.warning(
            "evaluate: batches have come in %d shapes so far, and each is compiled: "
            "pad them to a few shapes, with a mask for what was added (a metrics_fn "
            "with a parameter `where` is given one for examples)",
            len(shapes),
        )
