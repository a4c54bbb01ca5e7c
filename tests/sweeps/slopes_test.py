"""Slopes against closed forms and NumPy, forward mode against neighbours."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise.sweeps._slopes import _of_program
from headwise.sweeps._slopes import _slopes

Trial = hw.sweeps.Trial
TARGETS = {"a": 1.0, "b": -0.5}
START, RATE, STEPS = 2.0, 0.05, 12


def gradient(weights, x):
    """Of the sum of w (x - target)² / 2."""
    return sum(weights[name] * (x - at) for name, at in TARGETS.items())


def metrics(x):
    return {"a": (x - TARGETS["a"]) ** 2, "cube": x**3, "hit": x > 1.8}


def descent(momentum=0.0, broken_at=None):
    """x' = x - v', v' = momentum v + rate (a (x - 1) + b (x + 1/2)); a key, an int."""

    def init(trial):
        key = jax.random.key(trial["seed"])
        shift = jax.random.uniform(key)  # the seed's part: a start of its own
        return trial["weights"], START + shift, jnp.zeros(()), key, jnp.zeros((), int)

    def step(state, t):
        weights, x, v, key, count = state
        v = momentum * v + RATE * gradient(weights, x)
        values = {name: (x - at) ** 2 / 2 for name, at in TARGETS.items()}
        if broken_at is not None:
            v = jnp.where(weights["a"] > broken_at, jnp.nan, v)
        key = jax.random.fold_in(key, t)
        return (weights, x - v, v, key, count + 1), {"values": values}

    return hw.sweeps.Program(init, step, lambda state: metrics(state[1]))


def start_of(seed):
    return START + float(jax.random.uniform(jax.random.key(seed)))


def by_hand(a, b, seed):
    """x_T = x* + q^T (x_0 - x*), x* = (a - b/2) / (a + b), q = 1 - rate (a + b)."""
    total, start = a + b, start_of(seed)
    best, q = (a - b / 2) / total, 1 - RATE * (a + b)
    x = best + q**STEPS * (start - best)
    found = []
    for weight, target in ((a, 1.0), (b, -0.5)):
        moved = (target - best) / total  # d x* / d weight
        slope = moved * (1 - q**STEPS)
        slope -= RATE * STEPS * q ** (STEPS - 1) * (start - best)
        found.append(weight * slope)
    dx = np.array(found)
    return {"a": 2 * (x - 1) * dx, "cube": 3 * x**2 * dx}


DESCENT = descent()
TRIALS = [
    Trial({"a": a, "b": b}, s, {}) for a, b in ((1, 0.3), (0.2, 2)) for s in (0, 1)
]


@pytest.fixture(scope="module")
def forward():
    with pytest.warns(UserWarning, match="slopes: hit count or compare"):
        return hw.sweeps.slopes(DESCENT, TRIALS, STEPS, mode="vmap", method="forward")


def test_descent_on_a_quadratic_by_hand(forward):
    assert len(forward) == 4
    for got, trial in zip(forward, TRIALS, strict=True):
        assert got["hit"] == {"a": 0.0, "b": 0.0}
        for metric, slopes in by_hand(**trial.weights, seed=trial.seed).items():
            assert list(got[metric]) == ["a", "b"]
            np.testing.assert_allclose([*got[metric].values()], slopes, 2e-5, 2e-7)


def test_neighbours_agree_and_see_what_is_constant_in_pieces(forward):
    near, wide = (
        hw.sweeps.slopes(
            DESCENT, TRIALS, STEPS, mode="vmap", method="differences", change=change
        )
        for change in (0.05, 0.1)
    )
    np.testing.assert_allclose(near.values, forward.values, rtol=1e-6)
    np.testing.assert_allclose(near.slopes, forward.slopes, rtol=0.02, atol=1e-3)
    # The error is of the order of change²: a third of the step between them is left.
    better = near.slopes + (near.slopes - wide.slopes) / 3
    np.testing.assert_allclose(better, forward.slopes, rtol=3e-4, atol=2e-5)
    assert not near.forward.any()
    assert np.isnan(near.reach).all()
    # x ends below 1.8 with more of a, above it with less: seen by a wide turn.
    trial = Trial({"a": 0.75, "b": 0.3}, 0, {})
    mixed = hw.sweeps.slopes(descent(), [trial], STEPS, change=0.5)
    assert mixed[0]["hit"]["a"] == pytest.approx(-1.0)  # (0 - 1) / (2 * 0.5)
    assert mixed.forward.tolist() == [[True, True, False]]
    assert mixed[0]["cube"]["a"] == pytest.approx(
        by_hand(0.75, 0.3, 0)["cube"][0], rel=2e-5
    )


MATRIX = np.array([[2.0, 0.5], [0.5, 1.0]])


def numpy_training(optimizer, a, b, steps=15):
    """In float64, as the papers have it: the heads' values at the end."""
    x, v, m = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for t in range(1, steps + 1):
        g = a * MATRIX @ (x - 1) + b * (x + 1)
        if optimizer == "momentum":
            m = 0.9 * m + g
            x = x - 0.03 * m
            continue
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return np.array([(x - 1) @ MATRIX @ (x - 1) / 2, (x + 1) @ (x + 1) / 2])


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_optimisers_against_numpy_in_float64(name):
    optimizer = {"momentum": optax.sgd(0.03, 0.9), "adam": optax.adam(0.05)}[name]

    def values(x):
        return {"a": (x - 1) @ MATRIX @ (x - 1) / 2, "b": (x + 1) @ (x + 1) / 2}

    def init(trial):
        x = jnp.array([1.0, -2.0])
        weights = jax.tree.map(lambda w: w.astype(float), trial["weights"])
        return weights, x, optimizer.init(x)

    def step(state, t):
        weights, x, inner = state
        total = lambda x: sum(weights[n] * v for n, v in values(x).items())  # noqa: E731
        updates, inner = optimizer.update(jax.grad(total)(x), inner)
        return (weights, x + updates, inner), {"values": values(x)}

    program = hw.sweeps.Program(init, step, lambda state: values(state[1]))
    with jax.enable_x64(True):
        found = hw.sweeps.slopes(
            program, [Trial({"a": 0.5, "b": 2.0}, 0, {})], 15, method="forward"
        )
    a, b, h = np.log(0.5), np.log(2.0), 1e-5
    run = lambda a, b: numpy_training(name, np.exp(a), np.exp(b))  # noqa: E731
    by_numpy = np.stack(
        [
            (run(a + h, b) - run(a - h, b)) / (2 * h),
            (run(a, b + h) - run(a, b - h)) / (2 * h),
        ],
        axis=1,
    )
    np.testing.assert_allclose(found.values[0], run(a, b), rtol=1e-9)
    np.testing.assert_allclose(found.slopes[0], by_numpy, rtol=1e-6)


def test_a_weight_of_0_has_the_slope_0():
    for method in ("forward", "differences"):
        found = hw.sweeps.slopes(
            descent()._replace(evaluate=lambda state: {"x": state[1]}),
            [Trial({"a": 0.0, "b": 1.0}, 0, {})],
            STEPS,
            method=method,
        )[0]["x"]
        # a = 0: x_T + 1/2 = q^T (x_0 + 1/2), of which b moves only q = 1 - rate b.
        slope = -RATE * STEPS * (1 - RATE) ** (STEPS - 1) * (start_of(0) + 0.5)
        assert found == {"a": 0.0, "b": pytest.approx(slope, rel=2e-3)}


def test_a_trial_that_diverges_is_nan_and_leaves_the_others():
    trials = [TRIALS[0], Trial({"a": 3.0, "b": 0.3}, 0, {})]
    program = descent(broken_at=2.0)._replace(evaluate=lambda s: {"x": s[1]})
    whole = descent()._replace(evaluate=program.evaluate)
    for method in ("auto", "forward", "differences"):
        found = hw.sweeps.slopes(program, trials, STEPS, mode="vmap", method=method)
        alone = hw.sweeps.slopes(whole, trials[:1], STEPS, mode="vmap", method=method)
        assert found[0] == alone[0]
        assert np.isnan([*found[1]["x"].values()]).all()
        assert "-" in str(found).splitlines()[-1]


def chaos():
    """The logistic map, a = 3.9 / 2 times 2 x (1 - x): nearby weights part for good."""

    def step(state, t):
        weights, x = state
        return (weights, weights["a"] * 2 * x * (1 - x)), {}

    return hw.sweeps.Program(
        lambda trial: (trial["weights"], jnp.float32(0.3)),
        step,
        lambda state: {"x": state[1]},
    )


def test_tangents_that_explode_are_told():
    trials = [Trial({"a": w}, 0, {}) for w in (1.0, 1.85)]  # one settles, one does not
    with pytest.warns(UserWarning, match=r"of 1 of 2 trials explode \(at a=1.85, seed"):
        found = hw.sweeps.slopes(chaos(), trials, 60, mode="vmap", method="forward")
    calm, wild = found.reach[:, 0]
    assert calm < 2
    assert wild > 1e4
    # x = 1 - 1 / (2 a) where it settles: d x / d log a = 1 / (2 a)
    assert found[0]["x"]["a"] == pytest.approx(0.5, rel=1e-3)
    with pytest.warns(UserWarning, match="explode .*; differences are taken for them"):
        found = hw.sweeps.slopes(chaos(), trials, 60)
    assert found.forward.tolist() == [[True], [False]]
    assert abs(found[1]["x"]["a"]) < 1 / (2 * 0.05)  # x is in [0, 1]


def test_what_has_no_forward_mode_goes_by_differences():
    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    program = hw.sweeps.Program(
        lambda trial: trial["weights"],
        lambda weights, t: ({"a": square(weights["a"])}, {}),
        lambda weights: {"x": weights["a"]},
    )
    trials = [Trial({"a": 1.0}, 0, {})]
    with pytest.raises(TypeError, match="custom_vjp"):
        hw.sweeps.slopes(program, trials, 1, method="forward")
    found = hw.sweeps.slopes(program, trials, 1)
    assert not found.forward.any()
    assert found[0]["x"]["a"] == pytest.approx(2.0, rel=1e-5)


def test_programs_of_static_values_and_the_order_of_trials():
    """x = power of the weight: d x / d log a = power a ^ power."""

    def make(power):
        return hw.sweeps.Program(
            lambda trial: trial["weights"]["a"] * trial["scale"],
            lambda x, t: (x ** (2.0 if power == "square" else 1.0), {}),
            lambda x: {"x": x},
        )

    pairs = (("square", 1.0), ("same", 1.0), ("square", 3.0))
    trials = [Trial({"a": 2.0}, 0, {"power": p, "scale": s}) for p, s in pairs]
    found = hw.sweeps.slopes(make, trials, 1)
    np.testing.assert_allclose(found.slopes[:, 0, 0], [8.0, 2.0, 72.0], rtol=1e-6)
    assert found[0:2] == [found[0], found[1]]
    assert found.trials == tuple(trials)


def test_slopes_are_kept_in_a_folder_and_read_again(tmp_path):
    """x = a, or NaN from a = 3 on: nothing is found twice, NaN is None in the files."""
    calls = []

    def make(kind):
        calls.append(kind)
        return hw.sweeps.Program(
            lambda trial: trial["weights"]["a"],
            lambda x, t: (jnp.where(x > 2.5, jnp.nan, x), {"values": {"a": x}}),
            lambda x: {"x": x},
        )

    given = {"steps": 1, "folder": tmp_path, "settings": {"data": "none"}}
    trials = [Trial({"a": a}, 0, {"kind": "x"}) for a in (1.0, 2.0, 3.0)]
    hw.sweeps.run(make, trials[:2], mode="vmap", progress=False, **given)
    calls.clear()
    first = hw.sweeps.slopes(make, trials[:1], **given)
    found = hw.sweeps.slopes(make, trials, **given)
    again = hw.sweeps.slopes(make, trials, **given, method="differences")
    assert calls == ["x", "x"]
    np.testing.assert_allclose(found.slopes.ravel(), [1.0, 2.0, np.nan])
    for name in ("slopes", "values", "reach", "forward"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    assert (again.trials, again.notes) == (found.trials, found.notes)
    assert first[0] == found[0]
    assert len(list((tmp_path / "slopes").glob("*.json"))) == 3
    records = hw.sweeps.read(tmp_path)
    assert [record["slopes"] for record in records] == [
        {"x": {"a": 1.0}},
        {"x": {"a": 2.0}},
    ]
    (tmp_path / "slopes").joinpath(f"{'0' * 16}.json").write_text("{")
    assert hw.sweeps.read(tmp_path) == records
    with pytest.raises(hw.sweeps.StudyError, match="expected a study, found none"):
        hw.sweeps.slopes(make, trials, 1, folder=tmp_path / "no")


def test_slopes_kept_before_a_kill_are_not_found_again(tmp_path, monkeypatch):
    find, left = _of_program.of, [2]

    def found(way, trials, rows):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return find(way, trials, rows)

    monkeypatch.setattr(_slopes, "_AT_ONCE", 2)
    monkeypatch.setattr(_of_program, "of", found)
    program = descent()
    trials = [Trial({"a": a, "b": 1.0}, 0, {}) for a in (0.5, 1.0, 1.5, 2.0, 2.5)]
    with pytest.raises(KeyboardInterrupt):
        hw.sweeps.slopes(program, trials, 3, folder=tmp_path)
    assert len(list((tmp_path / "slopes").glob("*.json"))) == 4
    left[0] = 1
    again = hw.sweeps.slopes(program, trials, 3, folder=tmp_path)
    left[0] = 1
    whole = hw.sweeps.slopes(program, trials, 3)
    np.testing.assert_allclose(again.slopes, whole.slopes, rtol=1e-6)


def test_the_table_says_which_way_to_turn(forward):
    lines = forward.table({"a": False, "cube": True}).splitlines()
    assert lines[1].split() == ["weights", "metric", "value", "a", "b"]
    # (x - 1)² falls with a: up makes it less; x³ falls too: down makes it more.
    assert " ".join(lines[3].split()).startswith("a=1 b=0.3 a 0.3313 -0.509 ± 0.26 ↑")
    assert lines[4].count("↓") == 2
    # Two seeds that differ in the sign say nothing.
    assert "+0.00922 ± 0.013  " in lines[5]
    assert lines[5].count("↓") == 1
    with pytest.raises(ValueError, match=r"higher: unknown names \['dice'\]"):
        forward.table({"dice": True})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trials": []}, "trials: expected one or more, got none"),
        ({"trials": [Trial({}, 0, {})]}, r"trials\[0\]: expected weights, got none"),
        (
            {"trials": [TRIALS[0], Trial({"a": 1.0}, 0, {})]},
            r"trials\[1\].weights: .*missing \['b'\]",
        ),
        (
            {"trials": {"a": [1.0]}},
            "trials: expected a list of hw.sweeps.Trial, .*dict",
        ),
        ({"method": "exact"}, "method: expected one of .*'forward'"),
        ({"steps": -1}, "steps: expected an int >= 0"),
        ({"change": 1.0}, r"change: expected a number in \(0, 1\)"),
    ],
)
def test_misuse_is_named(change, words):
    error = TypeError if "expected a list" in words else ValueError
    given = {"program": descent(), "trials": TRIALS[:1], "steps": 1} | change
    with pytest.raises(error, match=words):
        hw.sweeps.slopes(**given)


@pytest.mark.parametrize("heads", [4, 5])
def test_many_heads(heads):
    """x = product of weight^k over the heads: d x / d log w_k = k x; stacked from 5."""
    names = [f"h{k}" for k in range(heads)]

    def step(state, t):
        weights, x = state
        powers = [weights[name] ** k for k, name in enumerate(names)]
        return (weights, x * jnp.prod(jnp.stack(powers))), {}

    program = hw.sweeps.Program(
        lambda trial: (trial["weights"], jnp.ones(())),
        step,
        lambda state: {"x": state[1]},
    )
    trial = Trial({name: 0.5 + 0.25 * k for k, name in enumerate(names)}, 0, {})
    found = hw.sweeps.slopes(program, [trial], 2, mode="vmap", method="forward")
    expected = 2 * np.arange(heads) * found.values[0, 0]  # of two steps
    np.testing.assert_allclose(found.slopes[0, 0], expected, rtol=1e-5)
    lines = found.table({"x": True}).splitlines()
    assert max(map(len, lines)) <= 100
    if heads > 4:  # in one column, folded
        assert lines[1].split() == ["weights", "metric", "value", "turns"]
    for name in names[1:]:
        assert sum(name in line.replace(f"{name}=", "") for line in lines) == 1
