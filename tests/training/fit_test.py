"""fit: what it writes, that it resumes exactly, and that it stops where it must."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

NAMES = ("a", "b")
OPTIMIZER = optax.adam(0.05)


def values_fn(params, rest, batch, key):
    """Two noisy quadratics; `rest` counts the calls, the key adds noise."""
    noise = 0.01 * jax.random.normal(key, ())
    h = params["w"] * batch + noise
    values = {"a": jnp.mean((h - 1.0) ** 2), "b": jnp.mean((h + 1.0) ** 2)}
    return values, {"calls": rest["calls"] + 1}


def batch_at(t):
    return jax.random.normal(jax.random.fold_in(jax.random.key(7), t), (3,))


def first_state(balancer):
    return hw.training.init_state(
        NAMES,
        {"w": jnp.ones(3)},
        OPTIMIZER,
        balancer,
        rest={"calls": jnp.zeros((), jnp.int32)},
        key=jax.random.key(3),
    )


def make(balancer, **options):
    return hw.training.make_step(
        values_fn, OPTIMIZER, balancer, stateful=True, **options
    )


def fit(steps, workdir=None, batches=batch_at, balancer=None, **options):
    balancer = balancer or hw.balancers.uncertainty()
    return hw.training.fit(
        make(balancer),
        first_state(balancer),
        batches,
        steps,
        workdir=workdir,
        log_every=5,
        checkpoint_every=10,
        progress=False,
        **options,
    )


def data(state):
    """The arrays of a state, keys as numbers."""
    state = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def test_interrupted_run_equals_uninterrupted_one(tmp_path):
    whole, history = fit(40, tmp_path / "whole")
    fit(20, tmp_path / "parts")
    resumed, parts = fit(40, tmp_path / "parts")
    for a, b in zip(data(whole), data(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history == parts
    files = [(tmp_path / n / "metrics.jsonl").read_text() for n in ("whole", "parts")]
    assert files[0] == files[1]
    assert int(whole.rest["calls"]) == 40


def test_resume_drops_records_after_the_checkpoint(tmp_path):
    fit(20, tmp_path)
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        path.read_text() + json.dumps({"step": 25, "values": {}}) + '\n{"st'
    )
    with pytest.warns(UserWarning, match="metrics.jsonl: line 6 skipped"):
        _, history = fit(40, tmp_path)
    assert [record["step"] for record in history] == list(range(5, 45, 5))
    assert hw.training.read_metrics(tmp_path) == history


def test_finished_run_does_nothing_more(tmp_path):
    state, history = fit(20, tmp_path)
    again, same = fit(20, tmp_path)
    assert same == history
    for a, b in zip(data(state), data(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_plain_iterables_are_read_forward_on_resume(tmp_path):
    whole, _ = fit(20)
    fit(10, tmp_path, batches=[batch_at(t) for t in range(10)])
    resumed, _ = fit(20, tmp_path, batches=[batch_at(t) for t in range(20)])
    for a, b in zip(data(whole), data(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_grain_streams_resume_where_they_were(tmp_path):
    records = [np.float32([t, -t, 1.0]) for t in range(50)]

    def stream():
        return hw.data.stream(records, batch_size=3, seed=1).map(lambda b: b.mean(0))

    whole, _ = fit(20, tmp_path / "whole", batches=stream())
    fit(10, tmp_path / "parts", batches=stream())
    resumed, _ = fit(20, tmp_path / "parts", batches=stream())
    for a, b in zip(data(whole), data(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_that_end_too_early_say_so():
    with pytest.raises(ValueError, match="batch for step 7"):
        fit(20, batches=[batch_at(t) for t in range(7)])


def test_records_are_means_of_the_window():
    balancer = hw.balancers.constant({"a": 1.0, "b": 0.5})
    _, history = fit(10, balancer=balancer)
    state, step, seen = first_state(balancer), jax.jit(make(balancer)), []
    for t in range(10):
        state, info = step(state, batch_at(t))
        seen.append(float(info.values["a"]))
    # float32 means in another order
    np.testing.assert_allclose(history[0]["values"]["a"], np.mean(seen[:5]), rtol=1e-6)
    np.testing.assert_allclose(history[1]["values"]["a"], np.mean(seen[5:]), rtol=1e-6)
    assert history[0]["weights"] == {"a": 1.0, "b": 0.5}


def test_caller_keeps_the_state_that_was_given():
    balancer = hw.balancers.equal()
    state = first_state(balancer)
    hw.training.fit(make(balancer), state, batch_at, 5, progress=False)
    np.testing.assert_array_equal(state.params["w"], np.ones(3))


@pytest.mark.parametrize("bad", [0, 13, 27])
def test_stops_at_the_first_step_that_is_not_finite(tmp_path, bad):
    def batches(t):
        return batch_at(t) * (jnp.nan if t == bad else 1.0)

    with pytest.raises(hw.training.NonFiniteError, match=f"step {bad}: .*head 'a'"):
        fit(40, tmp_path, batches=batches)
    steps = [record["step"] for record in hw.training.read_metrics(tmp_path)]
    assert steps == list(range(5, bad + 1, 5))
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        kept = checkpoints.latest
        assert kept == (bad // 10 * 10 or None)
    mended, _ = fit(40, tmp_path)  # goes on from before the accident
    whole, _ = fit(40)
    for a, b in zip(data(whole), data(mended), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_head_without_weight_may_be_nan():
    def values(params, batch):
        objective = hw.Objective(
            {"a": optax.losses.squared_error, "b": lambda y, t: jnp.log(y) * t}
        )
        outputs = {"a": params["w"] * batch, "b": -jnp.abs(params["w"])}
        return objective.values(outputs, {"a": batch, "b": batch})

    optimizer = optax.sgd(0.1)
    balancer = hw.balancers.constant({"a": 1.0, "b": 0.0})
    step = hw.training.make_step(values, optimizer, balancer)
    params = {"w": jnp.full(3, 2.0)}
    state = hw.training.init_state(NAMES, params, optimizer, balancer)
    state, history = hw.training.fit(step, state, batch_at, 10, progress=False)
    assert np.isfinite(np.asarray(state.params["w"])).all()
    assert history[-1]["values"]["b"] is None  # NaN has no place in JSON
    json.loads(json.dumps(history), parse_constant=pytest.fail)


def test_validation_and_reports_come_when_due(tmp_path):
    balancer = hw.balancers.constant()
    calls = []

    def validate(params, rest):
        calls.append(int(rest["calls"]))
        return {"norm": jnp.sum(params["w"] ** 2)}

    state, history = hw.training.fit(
        make(balancer),
        first_state(balancer),
        batch_at,
        30,
        workdir=tmp_path,
        validate=validate,
        validate_every=10,
        log_every=5,
        report=make(balancer, contributions=True),
        report_every=10,
        progress=False,
    )
    assert calls == [10, 20, 30]
    assert [r["step"] for r in history if "validation" in r] == [10, 20, 30]
    assert [r["step"] for r in history if "contributions" in r] == [5, 15, 25]
    mean = hw.reports.mean_contributions(history)
    np.testing.assert_allclose(np.sum(mean.share, axis=1), 1.0, rtol=1e-5)
    # The reporting step makes the same update as the plain one: equal up to the order
    # in which two backward passes are added up.
    plain, _ = hw.training.fit(
        make(balancer), first_state(balancer), batch_at, 30, progress=False
    )
    np.testing.assert_allclose(plain.params["w"], state.params["w"], rtol=2e-5)


@pytest.mark.parametrize("log_every", [1, 2, 3, 5])
def test_reports_may_fall_anywhere_in_a_window(log_every):
    balancer = hw.balancers.constant()
    _, history = hw.training.fit(
        make(balancer),
        first_state(balancer),
        batch_at,
        7,
        log_every=log_every,
        report=make(balancer, contributions=True),
        report_every=2,
        progress=False,
    )
    # Steps 0, 2, 4 and 6 report; a record covers the steps since the one before.
    ends = [record["step"] for record in history]
    for start, record in zip([0, *ends], history, strict=False):
        told = any(t % 2 == 0 for t in range(start, record["step"]))
        assert ("contributions" in record) == ("conflicts" in record) == told
        if told:
            assert record["conflicts"] in (0.0, 0.5, 1.0)


def test_tensorboard_events_hold_the_raw_values(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    _, history = fit(20, tmp_path)
    events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("values/a")}
    assert found == pytest.approx({r["step"]: r["values"]["a"] for r in history})
    assert "weights/b" in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"log_every": 0}, "log_every: expected a positive int, got 0"),
        ({"validate_every": 2.5}, "validate_every: expected a positive int, got 2.5"),
        ({"log_every": 2.5}, "log_every: expected a positive int, got 2.5"),
        ({"log_every": float("nan")}, "log_every: expected a positive int, got nan"),
        ({"log_every": True}, "log_every: expected a positive int, got True"),
        ({"checkpoint_every": True}, "checkpoint_every: .*positive int, got True"),
    ],
)
def test_bad_periods_are_refused(options, text):
    balancer = hw.balancers.equal()
    with pytest.raises(ValueError, match=text):
        hw.training.fit(make(balancer), first_state(balancer), batch_at, 5, **options)


def test_a_finished_run_without_its_metrics_is_validated(tmp_path, caplog):
    def validate(params, rest):
        return {"calls": rest["calls"]}

    fit(10, tmp_path, validate=validate)
    (tmp_path / "metrics.jsonl").write_text("")
    _, history = fit(10, tmp_path, validate=validate)
    assert history == [{"step": 10, "validation": {"calls": 10.0}}]
    assert [m.partition(": ")[2] for m in caplog.messages] == [
        "records after step 0 are missing: the checkpoint is of step 10",
        "the end was not validated, which is done now",
    ]
    assert fit(10, tmp_path, validate=validate)[1] == history
    assert hw.training.read_metrics(tmp_path) == history


def test_checkpoints_keep_the_newest_and_typed_keys(tmp_path):
    # NNX lists have int keys; ten and more of them do not sort as text does.
    numbered = {i: jnp.full(1, i) for i in range(12)}
    state = {"key": jax.random.key(5), "list": [jnp.ones(2), {"0": numbered}]}
    with hw.training.Checkpoints(tmp_path, keep=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state | {"n": jnp.int32(step)}, note={"at": step})
        checkpoints.wait()
        like = state | {"n": jnp.int32(0)}
        restored = checkpoints.restore(jax.tree.map(jnp.copy, like))
        assert checkpoints.latest == 3
        assert checkpoints.note == {"at": 3}
    assert int(restored["n"]) == 3
    for i in range(12):
        assert restored["list"][1]["0"][i] == i
    np.testing.assert_array_equal(
        jax.random.key_data(restored["key"]), jax.random.key_data(state["key"])
    )
    folders = {path.name for path in tmp_path.iterdir() if path.name.isdigit()}
    assert folders == {"2", "3"}


def test_restore_without_checkpoint_says_so(tmp_path):
    with (
        hw.training.Checkpoints(tmp_path) as checkpoints,
        pytest.raises(FileNotFoundError, match="no checkpoint"),
    ):
        checkpoints.restore({"w": jnp.ones(1)})


def partly(scale=1.0):
    """`b` is labelled as the batch says: a mask of two examples, or NaN as a value."""

    def values(params, batch):
        objective = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error))
        outputs = {"a": params["w"][:2] * scale, "b": params["w"][:2] * batch["b"]}
        targets = {n: jnp.zeros(2) for n in NAMES}
        where = {"b": batch["where"]}
        return objective.values(outputs, targets, where=where)

    return values


def fit_partly(batches, balancer=None, log_every=4, **options):
    balancer = balancer or hw.balancers.mgda()
    optimizer = optax.sgd(0.0)
    step = hw.training.make_step(partly(**options), optimizer, balancer)
    state = hw.training.init_state(NAMES, {"w": jnp.ones(3)}, optimizer, balancer)
    return hw.training.fit(
        step,
        state,
        batches.__getitem__,
        len(batches),
        log_every=log_every,
        progress=False,
    )[1]


def labelled(number, b=1.0):
    return {"where": jnp.arange(2) < number, "b": jnp.array([b, 3.0])}


def test_records_are_means_over_the_steps_where_a_head_is_there():
    """Values 5 = (1 + 9) / 2, 4 and none: Σ count * value / Σ count = 14 / 3."""
    steps = [labelled(2), labelled(1, 2.0), labelled(0), labelled(0)]
    (record, nothing) = fit_partly([*steps, *[labelled(0)] * 4])
    np.testing.assert_allclose(record["values"]["b"], 14 / 3, rtol=1e-6)
    assert record["values"]["a"] == 1.0
    # `a` is Pareto-better in the first two (weight 1), and alone in the others.
    assert record["weights"] == {"a": 1.0, "b": 0.0}
    assert "broken" not in record
    assert nothing["values"] == {"a": 1.0, "b": None}
    assert nothing["weights"] == {"a": 1.0, "b": None}


@pytest.mark.parametrize(
    "balancer", [hw.balancers.imtl_g(), hw.balancers.dwa(), hw.balancers.db_mtl()]
)
def test_stops_when_all_that_has_data_is_broken(balancer):
    nan = jnp.nan
    for masked in (True, False):  # then `a` alone has data
        steps = [labelled(2), labelled(0 if masked else 2, nan), labelled(2)]
        with pytest.raises(
            hw.training.NonFiniteError, match=r"step 1: .*every head .*\('a'.* finite"
        ):
            fit_partly(steps, params_like(balancer), scale=nan)


def params_like(balancer):
    """The balancer, with a state for the parameters of `fit_partly`."""
    return balancer._replace(
        init=lambda names, params=None: balancer.init(names, {"w": jnp.ones(3)})
    )


def test_a_head_that_is_broken_now_and_then_is_told_and_for_a_window_refused():
    once = fit_partly([labelled(2), labelled(2, jnp.nan), labelled(0), labelled(2)])
    assert once[0]["broken"] == {"b": 1}
    assert once[0]["values"]["b"] == 5.0
    steps = [labelled(2)] * 4 + [labelled(0), *[labelled(2, jnp.nan)] * 3]
    with pytest.raises(
        hw.training.NonFiniteError, match=r"step 5: .*head 'b'.*all 3 steps"
    ) as caught:
        fit_partly(steps)
    assert caught.value.step == 5
    assert caught.value.heads == ("b",)
    # By choice it may be: weight 0.
    left_out = hw.balancers.constant({"a": 1.0, "b": 0.0})
    assert fit_partly(steps, left_out)[-1]["values"]["b"] is None
