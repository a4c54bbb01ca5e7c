"""Periods of fit that do not divide: each thing comes when due, and resumes exactly."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

NAMES = ("a", "b")
OPTIMIZER = optax.sgd(0.1)
BALANCER = hw.balancers.uncertainty()
STEPS = 13
PERIODS = ("log_every", "validate_every", "checkpoint_every", "report_every")

# No two alike, some that divide others and some larger than the run.
COMBINATIONS = [
    (4, 6, 5, None),
    (5, None, 2, 3),
    (6, 4, None, 4),
    (1, 3, 4, 2),
    (20, 5, 3, 7),
    (3, 20, 20, 1),
]


def values_fn(params, rest, batch, key):
    """`b` has a label in some steps alone, and counts twice in some of these."""
    h = params["w"] * batch["x"] + 0.01 * jax.random.normal(key, ())
    values = {"a": jnp.mean((h - 1.0) ** 2), "b": jnp.mean((h + 1.0) ** 2)}
    return hw.Means(values, counts={"b": batch["labels"]}), {"calls": rest["calls"] + 1}


def batch_at(t):
    x = jax.random.normal(jax.random.fold_in(jax.random.key(7), t), (3,))
    return {"x": x, "labels": jnp.float32(t % 3)}


@functools.cache
def compiled(contributions):
    options = {"stateful": True, "contributions": contributions}
    return jax.jit(hw.training.make_step(values_fn, OPTIMIZER, BALANCER, **options))


def first_state():
    rest = {"calls": jnp.zeros((), jnp.int32)}
    parts = ({"w": jnp.ones(3)}, OPTIMIZER, BALANCER, rest, jax.random.key(3))
    return hw.training.init_state(NAMES, *parts)


def validate(params, rest):
    return {"norm": jnp.sum(params["w"] ** 2), "calls": rest["calls"]}


def fit(periods, workdir=None, batches=batch_at, steps=STEPS):
    options = dict(zip(PERIODS, periods, strict=True))
    return hw.training.fit(
        compiled(False),
        first_state(),
        batches,
        steps,
        workdir=workdir,
        validate=validate,
        report=compiled(True),
        progress=False,
        **options,
    )


@functools.cache
def infos():
    """What each step tells, from a loop of three lines, and how often it was called."""
    state, seen = first_state(), []
    for t in range(STEPS):
        state, info = compiled(False)(state, batch_at(t))
        seen.append(jax.device_get(info))
    return seen


def data(state):
    state = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def due(period, steps=STEPS):
    return [
        d for d in range(1, steps + 1) if d == steps or (period and d % period == 0)
    ]


@pytest.mark.parametrize("periods", COMBINATIONS)
def test_each_comes_when_due_and_changes_no_other(periods):
    log_every, validate_every, _, report_every = periods
    _, history = fit(periods)
    means = {r["step"]: r for r in history if "values" in r}
    validated = {r["step"]: r["validation"] for r in history if "validation" in r}
    assert list(means) == due(log_every)
    assert list(validated) == due(validate_every)
    assert [r["step"] for r in history] == sorted({*means, *validated})
    assert [x["calls"] for x in validated.values()] == list(validated)
    for done, record in means.items():
        start = (done - 1) // log_every * log_every
        window = range(start, done)
        counts = np.array([[1.0, t % 3] for t in window])
        values = np.array([[infos()[t].values[n] for n in NAMES] for t in window])
        weights = np.array([[infos()[t].weights[n] for n in NAMES] for t in window])
        for h, name in enumerate(NAMES):
            here = counts[:, h] > 0
            told = record["values"][name], record["weights"][name]
            if not here.any():
                assert told == (None, None)
                continue
            # A step that also reports adds up in another order.
            right = np.average(values[here, h], weights=counts[here, h])
            np.testing.assert_allclose(
                told, (right, weights[here, h].mean()), rtol=1e-4
            )
        reports = [t for t in window if report_every and t % report_every == 0]
        assert ("contributions" in record) == ("conflicts" in record) == bool(reports)


def failing(at):
    """Batches with an accident before step `at`."""

    def batches(t):
        if t == at:
            raise InterruptedError
        return batch_at(t)

    return batches


@pytest.mark.parametrize("periods", COMBINATIONS)
def test_interrupted_and_resumed_is_uninterrupted(periods, tmp_path):
    whole, history = fit(periods, tmp_path / "whole")
    for at in (7, 11):
        with pytest.raises(InterruptedError):
            fit(periods, tmp_path / "parts", failing(at))
    parts, same = fit(periods, tmp_path / "parts")
    for a, b in zip(data(whole), data(parts), strict=True):
        np.testing.assert_array_equal(a, b)
    assert same == history
    files = [tmp_path / n / "metrics.jsonl" for n in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_an_end_on_the_way_adds_a_record_and_changes_none(tmp_path):
    periods = (4, None, 4, None)
    whole, history = fit(periods)
    fit(periods, tmp_path, steps=7)
    parts, same = fit(periods, tmp_path)
    extra = [record for record in same if record not in history]
    assert [record["step"] for record in extra] == [7]
    assert [record for record in same if record in history] == history
    for a, b in zip(data(whole), data(parts), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("seconds", "kept"), [(0.0, 8), (3.0, 4)])
def test_without_a_period_checkpoints_follow_the_log(
    seconds, kept, tmp_path, monkeypatch
):
    """A save that takes 3 of 9 seconds is all that may be spent unasked."""
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with pytest.raises(InterruptedError):
        fit((4, None, None, None), tmp_path, failing(11))
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.latest == kept
