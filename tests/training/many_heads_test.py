"""Many heads that are alike, in every mode of a step: what a copy a head gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from headwise import _xla
from tests.gradients import _programs

HEADS = 4
NAMES = [f"y{i:02}" for i in range(HEADS)]
T, B = hw.training, hw.balancers


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    """So that programs stay small."""
    monkeypatch.setattr(_xla, "ALIKE_HEADS", 3)


def model(params, batch, h=None):
    """Columns, of which some have few labels and one has none."""
    h = jnp.tanh(batch["x"] @ params["w"]) if h is None else h
    out = h @ params["out"] + params["b"][None]
    outputs = {n: out[:, i] for i, n in enumerate(NAMES)}
    return OBJECTIVE.values(outputs, batch["t"], where=batch["where"])


OBJECTIVE = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error))


def normalised(params, rest, batch, key):
    """A running mean, and noise by key."""
    h = jnp.tanh(batch["x"] @ params["w"])
    h = h + 0.1 * jax.random.normal(key, h.shape, h.dtype)
    return model(params, batch, h - rest["mean"]), {"mean": jnp.mean(h)}


def remat(params, batch):
    return jax.checkpoint(model)(params, batch)


def given(dtype=jnp.float32):
    rng = np.random.default_rng(3)
    shapes = {"w": (4, 5), "out": (5, HEADS), "b": (HEADS,)}
    params = {n: jnp.asarray(rng.normal(size=s), dtype) for n, s in shapes.items()}
    where = {n: jnp.asarray(rng.random(8) < 0.6) for n in NAMES}
    where[NAMES[2]] = jnp.zeros(8, bool)
    targets = {n: jnp.asarray(rng.normal(size=8), dtype) for n in NAMES}
    x = jnp.asarray(rng.normal(size=(8, 4)), dtype)
    return params, {"x": x, "t": targets, "where": where}


def stepped(values_fn, balancer, rest=(), dtype=jnp.float32, **options):
    """Two steps of it; what each told, and the parameters."""

    def run(scale=1.0):
        params, batch = given(dtype)
        batch["x"] = batch["x"] * jnp.asarray(scale, dtype)
        optimizer = optax.sgd(0.05)
        step = T.make_step(values_fn, optimizer, balancer, **options)
        scaled = {k: v for k, v in options.items() if k == "loss_scale"}
        state = T.init_state(NAMES, params, optimizer, balancer, rest, **scaled)
        state, info = jax.lax.scan(lambda s, _: step(s, batch), state, None, 2)
        return state.params, info._replace(contributions=None)

    return run


def mapped(run):
    return lambda: jax.vmap(run)(jnp.array([0.5, 1.0]))


def pushed_forward(run):
    return lambda: jax.jvp(lambda s: run(s)[0], (1.0,), (1.0,))


MEAN = {"mean": jnp.zeros(())}
MODES = {
    "static": stepped(model, B.equal()),
    "values": stepped(model, B.uncertainty()),
    "gramian": stepped(model, B.imtl_g()),
    "gradients": stepped(model, B.graddrop()),
    "own": stepped(model, B.imtl_g(), private="own"),
    "between refreshes": stepped(model, B.every(2, B.imtl_g())),
    "microbatches": stepped(model, B.imtl_g(), microbatches=2),
    "stateful": stepped(normalised, B.imtl_g(), MEAN, stateful=True),
    "contributions": stepped(model, B.equal(), contributions=2),
    "remat": stepped(remat, B.imtl_g()),
    "half": stepped(model, B.imtl_g(), dtype=jnp.bfloat16),
    "loss scale": stepped(model, B.equal(), loss_scale=T.dynamic_loss_scale()),
    "vmap": mapped(stepped(model, B.imtl_g())),
    "forward mode": pushed_forward(stepped(model, B.imtl_g())),
}


@pytest.mark.parametrize("mode", MODES)
def test_equals_a_copy_a_head(mode, monkeypatch):
    mine = jax.device_get(_programs.quickly(MODES[mode]))
    monkeypatch.setattr(_xla, "ALIKE_HEADS", 2**62)
    copies = jax.device_get(_programs.quickly(functools.partial(MODES[mode])))
    close = {"rtol": 2e-4, "atol": 2e-4}
    if mode == "half":
        close = {"rtol": 0.05, "atol": 0.05}

    def compare(a, b):
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        np.testing.assert_allclose(a, b, **close)

    jax.tree.map(compare, mine, copies)
