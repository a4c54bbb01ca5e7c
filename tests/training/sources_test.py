"""A data set a head, batches of some heads: by hand, and padded into one program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw
from tests.balancers import _cases

NAMES = ("a", "b", "c")
rng = np.random.default_rng(0)
SHAPES = {"trunk": (3, 4), "a": (4,), "b": (4,), "c": (4,)}
EXACT = {n: rng.normal(size=s) for n, s in SHAPES.items()}  # float64
PARAMS = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), EXACT)
SIZES = {"a": 5, "b": 2, "c": 8}
DATA = {n: (rng.normal(size=(k, 3)), rng.normal(size=k)) for n, k in SIZES.items()}
OBJECTIVE = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error))
SGD = optax.sgd(0.1)
ROWS = 8  # of a padded batch
QUICKLY = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def values_fn(params, batch, objective=OBJECTIVE):
    """Of {head: (x, y)}, or {head: (x, y, where)}; heads may be missing."""
    heads = batch.items()
    outputs = {n: jnp.tanh(x @ params["trunk"]) @ params[n] for n, (x, *_) in heads}
    targets = {n: y for n, (_, y, *_) in heads}
    where = {n: masks[0] for n, (_, _, *masks) in heads if masks}
    return objective.values(outputs, targets, where=where, partial=True)


def only(names):
    """A batch that holds nothing of the other heads."""
    return {n: tuple(jnp.asarray(x, jnp.float32) for x in DATA[n]) for n in names}


def padded(names):
    """The same with every head, each of 8 rows, of which some do not count."""
    batch = {}
    for name, (x, y) in DATA.items():
        kept = len(y) if name in names else 0
        grown = np.full((ROWS, 3), 7.0, "f4"), np.full(ROWS, np.nan, "f4")
        grown[0][:kept], grown[1][:kept] = x[:kept], y[:kept]
        batch[name] = (*grown, np.arange(ROWS) < kept)
    return batch


def gradient(name):
    """Of one head's mean over its own examples, by hand: of the trunk, of the head."""
    x, y = DATA[name]
    h = np.tanh(x @ EXACT["trunk"])
    slope = 2 * (h @ EXACT[name] - y) / len(y)
    back = slope[:, None] * EXACT[name] * (1 - h**2)
    return x.T @ back, h.T @ slope


def moved(weights):
    """The parameters after a step of SGD at these weights; absent heads have none."""
    by_hand = {n: gradient(n) for n in weights}
    trunk = sum(w * by_hand[n][0] for n, w in weights.items())
    new = {"trunk": EXACT["trunk"] - 0.1 * trunk}
    for name in NAMES:
        new[name] = EXACT[name] - 0.1 * weights[name] * by_hand[name][1] if (
            name in weights
        ) else EXACT[name]  # fmt: skip
    return new


def took(balancer, batch, fn=values_fn, steps=1):
    """The state and what was told of the last of some steps."""
    step = hw.training.make_step(fn, SGD, balancer)
    step = jax.jit(step, compiler_options=QUICKLY)
    state = hw.training.init_state(NAMES, PARAMS, SGD, balancer)
    for _ in range(steps):
        state, info = step(state, batch)
    return state, info


def assert_moved(state, weights):
    for leaf, right in moved(weights).items():
        np.testing.assert_allclose(state.params[leaf], right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("names", ["abc", "ab", "c"])
def test_static_weights_by_hand(names):
    """Σ over the heads that are there of w * the gradient of a mean of its own."""
    weights = {"a": 0.5, "b": 2.0, "c": 3.0}
    here = {n: weights[n] for n in names}
    state, info = took(hw.balancers.constant(weights), only(names))
    assert_moved(state, here)
    for name in NAMES:
        assert bool(info.present[name]) == (name in names)
        assert info.values.counts[name] == (SIZES[name] if name in names else 0)
    # The objective's own weights, without a balancer; and all of it in its total.
    own = hw.Objective(dict.fromkeys(NAMES, optax.losses.squared_error), weights)
    state, _ = took(None, only(names), functools.partial(values_fn, objective=own))
    assert_moved(state, here)


def test_mgda_by_hand():
    """min |γ g_a + (1 - γ) g_b| over what both share, `c` left out: in closed form."""
    state, info = took(hw.balancers.mgda(), only("ab"))
    a, b = (gradient(n)[0].ravel() for n in "ab")
    share = np.clip((b - a) @ b / ((b - a) @ (b - a)), 0, 1)
    np.testing.assert_allclose(info.weights["a"], share, rtol=1e-4)
    assert_moved(state, {"a": share, "b": 1 - share})
    assert float(info.weights["c"]) == 0.0


# One of each way to use what a step knows. A program of one head knows of nothing
# shared, so that what remembers gradients is not asked there.
@pytest.mark.parametrize(
    ("name", "sets"),
    [("mgda", "ab b"), ("uncertainty", "ab b"), ("upgrad", "ab b"), ("db_mtl", "ab")],
)
def test_padded_into_one_program(name, sets):
    """A program for each set of heads, and one of masks for all: the same steps."""
    balancer = _cases.make(name)
    for names in sets.split():
        alone, told = took(balancer, only(names), steps=2)
        masked, expected = took(balancer, padded(names), steps=2)
        for leaf in SHAPES:
            np.testing.assert_allclose(
                alone.params[leaf], masked.params[leaf], rtol=2e-4, atol=2e-6
            )
        for head in NAMES:
            np.testing.assert_allclose(
                told.weights[head], expected.weights[head], rtol=1e-3, atol=1e-5
            )
            assert bool(told.present[head]) == (head in names)


class TestFit:
    """Through `hw.data.mix`, with a program for each of the heads."""

    def run(self, steps, **options):
        sources = {n: (x.astype("f4"), y.astype("f4")) for n, (x, y) in DATA.items()}
        batches = hw.data.mix(
            sources, batch_size={"a": 3, "b": 2, "c": 4}, seed=0, **options
        )
        balancer = hw.balancers.uncertainty()
        step = hw.training.make_step(values_fn, SGD, balancer)
        state = hw.training.init_state(NAMES, PARAMS, SGD, balancer)
        return functools.partial(
            hw.training.fit, step, state, batches, steps, log_every=2, progress=False
        )

    def test_resumes_exactly(self, tmp_path):
        options = dict(weights={"a": 1, "b": 1, "c": 2})
        state, history = self.run(6, **options)()
        self.run(3, **options)(workdir=tmp_path)
        resumed, again = self.run(6, **options)(workdir=tmp_path)
        for leaf in SHAPES:
            np.testing.assert_array_equal(resumed.params[leaf], state.params[leaf])
        assert [r for r in again if r["step"] % 2 == 0] == history
        # Two steps a record: a and b, c and c, a and b; none tells of a head without.
        there = [{n for n in NAMES if r["values"][n] is not None} for r in history]
        assert there == [{"a", "b"}, {"c"}, {"a", "b"}]


def test_partial_says_what_is_wrong():
    y = {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"outputs: .*unknown \['d'\]"):
        OBJECTIVE.values(y | {"d": jnp.ones(2)}, y, partial=True)
    with pytest.raises(ValueError, match=r"targets: .*missing \['a'\]"):
        OBJECTIVE.values(y, {}, partial=True)
    with pytest.raises(ValueError, match=r"outputs: .*missing \['b', 'c'\]"):
        OBJECTIVE.values(y, y)
    values = OBJECTIVE.values({}, {}, partial=True)
    assert [float(x) for x in values.present.values()] == [0.0] * 3
