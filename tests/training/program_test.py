"""A training as a program: the numbers of `fit`, rates as arrays, what it refuses."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import headwise as hw

HEADS = ("a", "b", "c")
WEIGHTS = {"a": 1.0, "b": 0.25, "c": 2.0}
STEPS = 5


@functools.partial(jax.jit, static_argnums=(0, 2))
def scan(program, trial, steps=STEPS):
    """The last state and the reports of all steps, as one program."""
    return jax.lax.scan(program.step, program.init(trial), jnp.arange(steps))


def trial(weights=None, seed=3, **numbers):
    return {"weights": weights or {}, "seed": seed, **numbers}


def quadratic(params, batch):
    return {"a": (params["w"] - batch) ** 2, "b": params["w"] ** 2}


def normal(key):
    return jax.random.normal(key, ())


def of_quadratic(optimizer=lambda trial: optax.sgd(trial["lr"]), **changed):
    parts = {
        "init": lambda key: {"w": jax.random.normal(key, ())},
        "batch": normal,
        "evaluate": lambda params, rest: {"w": params["w"]},
    }
    return hw.training.program(quadratic, optimizer, **(parts | changed))


def test_rates_and_weights_are_arrays_and_the_numbers_those_of_the_formula():
    """w <- w - lr (2 a (w - batch) + 2 b w), in float64, with the documented keys."""
    seeds, rates = [0, 1, 1, 7], [0.1, 0.02, 0.3, 0.1]
    a, b = [1.0, 0.5, 0.0, 1.0], [0.1, 1.0, 0.3, 0.0]
    program = of_quadratic()
    trials = trial({"a": jnp.array(a), "b": jnp.array(b)}, jnp.array(seeds))
    trials["lr"] = jnp.array(rates)
    state, report = jax.vmap(lambda trial: scan(program, trial))(trials)
    metrics = jax.vmap(program.evaluate)(state)
    for k, seed in enumerate(seeds):
        of_model, _ = jax.random.split(jax.random.key(seed))
        w = float(jax.random.normal(of_model, ()))
        for t in range(STEPS):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), t)
            x = float(normal(key))
            values = {name: report["values"][name][k, t] for name in "ab"}
            assert values == pytest.approx({"a": (w - x) ** 2, "b": w**2}, abs=1e-5)
            w -= rates[k] * (2 * a[k] * (w - x) + 2 * b[k] * w)
        assert metrics["w"][k] == pytest.approx(w, rel=1e-5)
    assert report["finite"].all()
    np.testing.assert_array_equal(report["weights"]["b"][:, -1], np.float32(b))
    alone, _ = scan(program, jax.tree.map(lambda x: x[1], trials))
    assert alone.training.params["w"] == pytest.approx(float(metrics["w"][1]), rel=1e-6)


def model(params, rest, batch, key):
    """Three heads on a trunk with a running mean and noise."""
    mean, x = rest["mean"], batch["x"]
    x = x - mean + 0.1 * jax.random.normal(key, x.shape)
    h = jnp.tanh(x @ params["trunk"])
    errors = {
        name: jnp.mean((h @ params[name] - batch["y"][:, i]) ** 2)
        for i, name in enumerate(HEADS)
    }
    return errors, {"mean": 0.9 * mean + 0.1 * jnp.mean(batch["x"], 0, keepdims=True)}


def init(key):
    rows = jax.random.normal(key, (5, 3))  # drawn at once: a draw compiles for long
    params = {"trunk": rows[:2]} | dict(zip(HEADS, rows[2:], strict=True))
    return params, {"mean": jnp.zeros((1, 2))}


def batch(key):
    x = jax.random.normal(key, (6, 2))
    return {"x": x, "y": jnp.sin(x @ jnp.arange(6.0).reshape(2, 3))}


def evaluate(params, rest):
    values, _ = model(params, rest, batch(jax.random.key(99)), jax.random.key(0))
    return values


STATEFUL = {"init": init, "batch": batch, "evaluate": evaluate, "stateful": True}


def of_fit(parts, optimizer, balancer, names=HEADS, seed=3, **options):
    """What `fit` comes to, with the keys that a program documents."""
    both = {n: options[n] for n in ("trainable", "loss_scale") if n in options}
    of_model, of_run = jax.random.split(jax.random.key(seed))
    params, rest = parts["init"](of_model)
    decides = {"balancer": balancer}
    make, start = hw.training.make_step, hw.training.init_state
    if isinstance(balancer, hw.training.BilevelMethod):
        decides = {"method": balancer}
        make, start = hw.training.make_bilevel_step, hw.training.init_bilevel_state
    state = start(names, params, optimizer, rest=rest, key=of_run, **decides, **both)
    values_fn = parts.get("values_fn", model)
    step = make(values_fn, optimizer, **decides, stateful=True, **options)
    key = jax.random.fold_in(jax.random.key(seed), 1)
    return hw.training.fit(
        step,
        state,
        lambda t: parts["batch"](jax.random.fold_in(key, t)),
        STEPS,
        log_every=1,
        progress=False,
    )


def assert_same(program, of_trial, fitted, rtol=2e-5):
    """State and records of a program are those of `fit`."""
    want, history = fitted
    got, report = scan(program, of_trial)
    assert jax.tree.structure(got.training) == jax.tree.structure(want)
    for a, b in zip(*map(jax.tree.leaves, (got.training, want)), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    assert report["finite"].all()
    for t, record in enumerate(history):
        for name in ("values", "weights"):
            row = {head: x[t] for head, x in report[name].items()}
            if record[name]["a"] is None:  # a step that was skipped
                continue
            assert row == pytest.approx(record[name], rel=rtol, abs=rtol)
    return report


BALANCERS = {
    "static": None,
    "famo": hw.balancers.famo(),  # looks at the values after the step
    "random_weighting": hw.balancers.random_weighting(),
    "upgrad": hw.balancers.upgrad(),
    "graddrop": hw.balancers.graddrop(),
    "db_mtl": hw.balancers.db_mtl(),
    "sdmgrad": hw.balancers.sdmgrad(),  # three parts of a batch
    "every": hw.balancers.every(2, hw.balancers.imtl_g()),
}


@pytest.mark.parametrize("name", BALANCERS)
def test_the_numbers_are_those_of_fit(name):
    balancer, optimizer = BALANCERS[name], optax.adam(0.05)
    program = hw.training.program(model, optimizer, balancer, **STATEFUL)
    static = WEIGHTS if balancer is None else None
    found = hw.balancers.constant(static) if static else balancer
    report = assert_same(program, trial(static), of_fit(STATEFUL, optimizer, found))
    looks = ("upgrad", "graddrop", "db_mtl", "sdmgrad", "every")
    assert ("gramian" in report) == ("conflicts" in report) == (name in looks)


def test_the_gramian_is_reported():
    """Of the gradients 2 (w - x) and 2 w."""
    program = of_quadratic(optax.sgd(0.1), balancer=hw.balancers.imtl_g())
    state = jax.jit(program.init)(trial())
    w = float(state.training.params["w"])
    x = float(normal(jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 1), 0)))
    _, report = jax.jit(program.step)(state, 0)
    slopes = np.array([2 * (w - x), 2 * w])
    want = slopes[:, None] * slopes
    np.testing.assert_allclose(report["gramian"], want, rtol=1e-5)
    assert report["conflicts"] == float(want[0, 1] < 0)


def test_numbers_of_a_balancer_and_contributions():
    """c of CAGrad is an array; contributions of every second step ride along."""
    optimizer = optax.sgd(0.1)
    program = hw.training.program(
        model,
        optimizer,
        lambda trial: hw.balancers.cagrad(c=trial["c"]),
        contributions=2,
        **STATEFUL,
    )
    for c in (0.2, 0.8):
        fitted = of_fit(STATEFUL, optimizer, hw.balancers.cagrad(c=c), contributions=2)
        report = assert_same(program, trial(c=jnp.float32(c)), fitted)
    known = np.isfinite(report["contributions"].norm).all(axis=(1, 2))
    assert known.tolist() == [True, False, True, False, True]


def test_bilevel_training():
    parts = STATEFUL | {"batch": lambda key: tuple(map(batch, jax.random.split(key)))}
    optimizer, method = optax.adam(0.05), hw.training.auto_lambda()
    program = hw.training.program(model, optimizer, method, inner_steps=2, **parts)
    assert_same(program, trial(), of_fit(parts, optimizer, method, inner_steps=2))


class Linen(nn.Module):
    """A trunk with batch normalisation, in Linen."""

    @nn.compact
    def __call__(self, x, train=True):
        h = nn.BatchNorm(use_running_average=not train)(nn.Dense(3)(x))
        return {name: nn.Dense(1, name=name)(h) for name in HEADS}


def of_linen():
    module = Linen()

    def start(key):
        variables = module.init(key, jnp.zeros((6, 2)))
        return variables["params"], variables["batch_stats"]

    def apply(params, rest, x):
        variables = {"params": params, "batch_stats": rest}
        outputs, moved = module.apply(variables, x, mutable=["batch_stats"])
        return outputs, moved["batch_stats"]

    return start, apply


def of_nnx(dtype=None):
    def network(key):
        rngs = nnx.Rngs(key)
        trunk = nnx.Sequential(
            nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs), nnx.tanh
        )
        return hw.nn.MultiHead(
            trunk, {name: nnx.Linear(3, 1, rngs=rngs) for name in HEADS}
        )

    apply, *_ = hw.nn.functional(network(jax.random.key(0)), dtype=dtype)
    return lambda key: hw.nn.functional(network(key))[1:], apply


MODELS = {
    "linen": (of_linen, None),
    "nnx": (of_nnx, None),
    "float16": (lambda: of_nnx(jnp.float16), hw.training.dynamic_loss_scale(2.0**20)),
}


@pytest.mark.parametrize("name", MODELS)
def test_frameworks_and_half_precision(name):
    """With running statistics; a loss scale that is too large skips steps at first."""
    make, scale = MODELS[name]
    start, apply = make()
    objective = hw.Objective(dict.fromkeys(HEADS, optax.losses.squared_error))

    def values_fn(params, rest, batch, key):
        outputs, rest = apply(params, rest, batch["x"])
        targets = {n: batch["y"][:, i : i + 1] for i, n in enumerate(HEADS)}
        return objective.values(outputs, targets), rest

    parts = STATEFUL | {"init": start, "evaluate": lambda params, rest: {}}
    optimizer = optax.adam(0.05)
    program = hw.training.program(values_fn, optimizer, loss_scale=scale, **parts)
    parts["values_fn"] = values_fn
    balancer = hw.balancers.constant(WEIGHTS)
    fitted = of_fit(parts, optimizer, balancer, loss_scale=scale)
    report = assert_same(program, trial(WEIGHTS), fitted, 1e-3 if scale else 2e-5)
    assert scale is None or report["skipped"].tolist()[0]


def test_data_by_epochs_frozen_parts_and_averages():
    rows = jnp.arange(12.0)
    program = of_quadratic(
        hw.training.ema(optax.sgd(0.1), 0.5, debias=False),
        batch=lambda key, t: jnp.mean(hw.data.epochs(rows, key, 4)(t)),
        init=lambda key: {"w": jnp.array(1.0), "frozen": jnp.array(5)},
        trainable=lambda path: path == "w",
        eval_params=hw.training.averaged_params,
    )
    state, report = scan(program, trial({"a": 1.0, "b": 0.0}), 3)
    key = jax.random.fold_in(jax.random.key(3), 1)
    w = average = 1.0
    for t in range(3):
        x = float(jnp.mean(hw.data.epochs(rows, key, 4)(t)))
        assert report["values"]["a"][t] == pytest.approx((w - x) ** 2, rel=1e-5)
        w -= 0.1 * 2 * (w - x)
        average = 0.5 * average + 0.5 * w
    assert state.training.params["w"] == pytest.approx(w, rel=1e-5)
    assert program.evaluate(state)["w"] == pytest.approx(average, rel=1e-5)
    assert state.training.params["frozen"] == 5


def test_a_step_is_finite_where_fit_goes_on():
    """A head that is NaN from step 2 on: static with a weight, without; left out."""

    def values_fn(params, batch):
        bad = jnp.where(batch > 1, jnp.nan, 1.0)
        return {"a": params["w"] ** 2, "b": bad * params["w"]}

    for balancer, weights, want in (
        (None, {"a": 1.0, "b": 1.0}, [True, True, False]),
        (None, {"a": 1.0, "b": 0.0}, [True, True, True]),
        (hw.balancers.imtl_g(), {}, [True, True, True]),
        (hw.balancers.equal(), {}, [True, True, False]),
    ):
        program = hw.training.program(
            values_fn,
            optax.sgd(0.1),
            balancer,
            init=lambda key: {"w": jnp.array(1.0)},
            batch=lambda key, t: t,
            evaluate=lambda params, rest: {},
        )
        _, report = scan(program, trial(weights), 3)
        assert report["finite"].tolist() == want


def first(program, of_trial):
    return lambda: program().init(of_trial)


AB = {"a": 1.0, "b": 0.0}
REFUSED = {
    "a factory": (
        lambda: of_quadratic(optax.adam),
        "optimizer: expected an optax.GradientTransformation, got the function adam",
    ),
    "an unknown option": (
        lambda: of_quadratic(optax.sgd(1.0), microbatch=2),
        "unexpected keyword argument 'microbatch'",
    ),
    "an evaluate of another kind": (
        lambda: of_quadratic(evaluate=lambda params: {}),
        "evaluate: expected a function of (params, rest)",
    ),
    "batches of nothing": (
        lambda: of_quadratic(batch=lambda: 1.0),
        "batch: expected a function of (key)",
    ),
    "a rate that no trial has": (
        first(of_quadratic, trial(AB)),
        "optimizer: asks the trial for 'lr', which has ['a', 'b', 'seed', 'weights']",
    ),
    "a number of Python": (
        first(
            lambda: of_quadratic(
                lambda trial: optax.sgd(1.0),
                balancer=lambda trial: hw.balancers.every(
                    trial["k"], hw.balancers.mgda()
                ),
            ),
            trial(k=2.0),
        ),
        "balancer: cannot be made of a trial, whose numbers are arrays: k: expected a "
        "positive int",
    ),
    "an `if` of a rate": (
        lambda: scan(
            of_quadratic(lambda trial: optax.sgd(1.0 if trial["lr"] > 0 else 2.0)),
            trial(AB, lr=1.0),
        ),
        "is named in static= of hw.sweeps.run",
    ),
    "a function that makes no optimizer": (
        first(lambda: of_quadratic(lambda trial: trial["lr"]), trial(AB, lr=1.0)),
        "optimizer(trial): expected an optax.GradientTransformation, got a scalar",
    ),
    "weights of other heads": (
        first(of_quadratic, trial({"a": 1.0, "c": 1.0}, lr=1.0)),
        "weights: expected the names ['a', 'b'], got ['a', 'c']",
    ),
    "weights for a balancer that finds them": (
        first(lambda: of_quadratic(balancer=hw.balancers.mgda()), trial(AB, lr=1.0)),
        "weights: expected none, as the balancer finds them, got those of ['a', 'b']",
    ),
    "no trial": (first(of_quadratic, AB), 'trial: expected {"weights": '),
    "a seed that is no int": (first(of_quadratic, trial(AB, seed=0.5)), "'seed'"),
    "an init without its rest": (
        first(
            lambda: hw.training.program(
                model, optax.sgd(1.0), **STATEFUL | {"init": lambda key: {"w": 1.0}}
            ),
            trial(WEIGHTS),
        ),
        "init: expected it to return (params, rest) with stateful=True, got dict",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    call, text = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert text in str(caught.value)
