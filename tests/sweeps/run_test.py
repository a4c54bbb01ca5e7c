"""run: one program for all trials, a store that survives, trials that may diverge."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw

DESIGN = {"a": [1.0, 1.0, 2.0], "b": [0.5, 1.0, 1.0]}


def train(weights, seed):
    """Gradient descent on a (x - 1)^2 + b (x + 1)^2 from a random start."""
    start = jax.random.normal(jax.random.key(seed), ())

    def body(_, x):
        return x - 0.1 * (2 * weights["a"] * (x - 1) + 2 * weights["b"] * (x + 1))

    return {"x": jax.lax.fori_loop(0, 40, body, start), "start": {"x": start}}


@pytest.mark.parametrize("batched", [False, True])
def test_records_equal_the_closed_form(batched):
    records = hw.sweeps.run(train, DESIGN, (0, 1), batched=batched, progress=False)
    keys = [(r["weights"]["a"], r["weights"]["b"], r["seed"]) for r in records]
    assert keys == [(a, b, s) for a, b in zip(*DESIGN.values()) for s in (0, 1)]
    for record in records:
        a, b = record["weights"]["a"], record["weights"]["b"]
        # 40 contractions by at most 0.7 leave less than 1e-6 of the start
        assert record["metrics"]["x"] == pytest.approx((a - b) / (a + b), abs=1e-5)
        assert record["finite"]


def test_batched_row_equals_the_trial_alone():
    together = hw.sweeps.run(train, DESIGN, (3, 4), batched=True, progress=False)
    alone = hw.sweeps.run(train, DESIGN, (3, 4), progress=False)
    for a, b in zip(together, alone, strict=True):
        assert a["metrics"]["x"] == pytest.approx(b["metrics"]["x"], abs=1e-6)
        assert a["metrics"]["start"] == b["metrics"]["start"]


def test_weights_are_data_and_compile_once():
    traces = []

    @jax.jit
    def counted(weights, seed):
        traces.append(1)
        return train(weights, seed)

    hw.sweeps.run(counted, DESIGN, (0, 1, 2), progress=False)
    assert len(traces) == 1


def test_finished_trials_are_not_run_again(tmp_path):
    calls = []

    def counted(weights, seed):
        calls.append((float(weights["b"]), int(seed)))
        return {"m": weights["b"]}

    small = {"a": [1.0], "b": [0.1]}
    hw.sweeps.run(counted, small, (0,), folder=tmp_path, progress=False)
    path = tmp_path / "trials.jsonl"
    path.write_text(path.read_text() + '{"weights": {"a": 1.0, "b"')  # killed here
    wide = {"a": [1.0, 1.0], "b": [0.1, 0.7]}
    with pytest.warns(UserWarning, match="trials.jsonl: line 2 skipped"):
        records = hw.sweeps.run(counted, wide, (0, 1), folder=tmp_path, progress=False)
    assert len(records) == 4
    assert len(calls) == len(set(calls)) == 4
    with pytest.warns(UserWarning, match="trials.jsonl: line 2 skipped"):
        assert hw.sweeps.read_trials(tmp_path) == records


@pytest.mark.parametrize("batched", [False, True])
def test_settings_tell_trials_apart_and_nothing_is_rewritten(batched, tmp_path):
    def sweep(rate):
        return hw.sweeps.run(
            train,
            DESIGN,
            settings={"lr": np.float32(rate), "note": "x"},
            folder=tmp_path,
            batched=batched,
            progress=False,
        )

    path = tmp_path / "trials.jsonl"
    path.write_text('{"of": "a later version"}\n')

    def in_turn():
        first = sweep(0.1)
        text = path.read_text()
        assert sweep(0.1) == first
        assert path.read_text() == text
        second = sweep(0.2)
        assert path.read_text().startswith(text)
        assert hw.sweeps.read(tmp_path) == first + second
        return first, second

    with pytest.warns(UserWarning, match="line 1 skipped"):
        first, second = in_turn()
    assert [r["settings"]["lr"] for r in second] == [float(np.float32(0.2))] * 3
    assert {r["mode"] for r in first} == {"vmap" if batched else "loop"}
    assert first[0]["made_with"]["versions"]["jax"] == jax.__version__


def rated(rate):
    return lambda weights, seed: {"m": weights["a"] * rate}


def by(weights, seed, *, rate):
    return {"m": weights["a"] * rate}


@pytest.mark.parametrize(
    ("first", "same", "other", "words"),
    [
        (rated(0.5), rated(0.5), rated(0.25), "rate was 0.5, is 0.25"),
        (
            functools.partial(by, rate=2),
            jax.jit(functools.partial(by, rate=np.float64(2.0))),
            functools.partial(by, rate=3),
            "rate was 2, is 3",
        ),
        (
            rated(0.5),
            rated(0.5),
            functools.partial(by, rate=0.5),
            r"text of .*run_test",
        ),
    ],
)
def test_a_folder_is_of_one_train(first, same, other, words, tmp_path):
    wide = {"a": [1.0, 2.0, 3.0, 1.0], "b": [0.5, 1.0, 1.0, 1.0]}
    go = functools.partial(hw.sweeps.run, folder=tmp_path, progress=False)
    before = go(first, DESIGN)
    assert go(same, wide, (0, 1))[0] == before[0]
    text = (tmp_path / "trials.jsonl").read_text()
    with pytest.raises(ValueError, match=f"run by another train: .*{words}"):
        go(other, wide)
    assert (tmp_path / "trials.jsonl").read_text() == text
    (trial,) = go(other, {"a": [1.0], "b": [0.5]}, settings={"version": 2})
    assert trial["settings"] == {"version": 2}


@pytest.mark.parametrize("batched", [False, True])
def test_a_trial_that_diverges_harms_no_other(batched, tmp_path):
    def may_diverge(weights, seed):
        return {"m": jnp.log(weights["b"] - 0.75)}

    records = hw.sweeps.run(
        may_diverge, DESIGN, folder=tmp_path, batched=batched, progress=False
    )
    assert [r["finite"] for r in records] == [False, True, True]
    assert records[0]["metrics"] == {"m": None}
    assert records[0]["error"] == "a metric is not finite"
    np.testing.assert_allclose(records[1]["metrics"]["m"], np.log(0.25), rtol=1e-6)
    assert hw.sweeps.read_trials(tmp_path) == records


def test_a_trial_that_stops_on_nan_is_recorded():
    def stops(weights, seed):
        if weights["b"] < 0.75:
            raise hw.training.NonFiniteError(17, "the gradient")
        return {"m": 1.0}

    records = hw.sweeps.run(stops, DESIGN, progress=False)
    assert records[0]["error"] == "step 17: the gradient is not finite"
    assert [r["stopped"] for r in records] == [17, None, None]
    assert [r["finite"] for r in records] == [False, True, True]


def test_a_programming_error_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        hw.sweeps.run(lambda w, s: {"m": 1 / 0}, DESIGN, progress=False)


@pytest.mark.parametrize("batched", [False, True])
def test_a_metric_that_is_no_scalar_is_named(batched):
    def per_class(weights, seed):
        return {"dice": {"each": jnp.ones(3) * weights["a"]}}

    text = r"metrics\['dice'\]\['each'\]: expected a scalar, got shape \(3,\)"
    with pytest.raises(ValueError, match=text):
        hw.sweeps.run(per_class, DESIGN, batched=batched, progress=False)


def test_lines_count_the_trials_of_this_design(tmp_path, capsys):
    wide = {"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 1.0]}
    hw.sweeps.run(train, wide, folder=tmp_path, progress=False)
    hw.sweeps.run(train, {"a": [2.0, 5.0], "b": [1.0, 1.0]}, folder=tmp_path)
    out = capsys.readouterr().out
    assert "trial 2/2 a=5 b=1 seed=0" in out
    assert "trial 1/2" not in out


def test_seeds_are_checked():
    with pytest.raises(ValueError, match=r"seeds: expected .*distinct.*\[1, 1\]"):
        hw.sweeps.run(train, DESIGN, (1, 1), progress=False)


def test_a_line_a_trial_where_no_bar_can_be_drawn(capsys):
    hw.sweeps.run(train, DESIGN)
    assert "trial 3/3 a=2 b=1 seed=0:" in capsys.readouterr().out
