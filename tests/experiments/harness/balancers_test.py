"""Every factory of the rosters can be asked for by a text, and runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from experiments.harness import balancers
from experiments.harness import request as requests
from experiments.harness import run
from experiments.harness.text import UsageError

HEADS = ("loss1", "loss2")

# What those need that cannot be made without arguments.
ARGUMENTS = {
    "cosmos": "penalty=1",
    "krum": "faulty=0",
    "p_norm": "p=2",
    "pbi": "theta=1",
    "pcd": "primary=loss1",
    "scheduled": "weights=loss1:1;loss2:0.5",
    "stch": "smoothness=0.1",
    "stch_set": "smoothness=0.1",
    "trimmed_mean": "trim=0",
    "clip_heads": "balancer=mgda,max_norm=1",
    "clipped": "balancer=mgda,upper=2",
    "cr_mogm": "balancer=(cagrad:c=0.4)",
    "every": "k=2,balancer=mgda",
    "fallback": "balancer=mgda,otherwise=equal",
    "rescaled": "balancer=mgda,total=1.5",
    "smoothed": "balancer=(mgda:normalization=loss)",
    "warm_up": "balancer=mgda,steps=1",
    "with_preferences": "balancer=mgda,preferences=loss1:1;loss2:2",
}
FROM_CODE = {"scalarization": "function=max"}


def words(name):
    return f"{name}:{ARGUMENTS[name]}" if name in ARGUMENTS else name


@pytest.fixture(scope="module")
def small():
    """The smallest experiment, with a batch that 3 divides."""
    flags = ["--experiment=seed_network", "--smoke", "--set=width=4,batch_size=12"]
    request = requests.read(["main", *flags])
    return run.build(request)


def test_the_names_are_the_rosters():
    b = hw.balancers
    rosters = b.FROM_VALUES + b.FROM_GRAMIAN + b.FROM_GRADIENTS + b.WRAPPERS
    assert sorted(balancers.names()) == sorted(rosters)


def started(name, small):
    """A step with the balancer of a text, and the state before the first."""
    balancer = balancers.make(words(name), HEADS)
    optimizer = small.optimizer(2)
    state = run.first_state(small, HEADS, optimizer, balancer, 0)
    step = hw.training.make_step(small.values_fn, optimizer, balancer, stateful=True)
    return step, state


@pytest.mark.parametrize("name", sorted(set(balancers.names()) - set(FROM_CODE)))
def test_it_goes_into_a_step(name, small):
    """Traced; the battery of the balancers runs what it makes."""
    step, state = started(name, small)
    after, info = jax.eval_shape(step, state, run.batches(small, 0)(0))
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
    assert info.values.keys() == set(HEADS)


@pytest.mark.parametrize("name", ["stch", "epo", "graddrop", "every"])
def test_it_runs_two_steps(name, small):
    step, state = started(name, small)
    step, batch = jax.jit(step), run.batches(small, 0)
    for t in range(2):
        state, _ = step(state, batch(t))
    for leaf in jax.tree.leaves(state.params):
        assert jnp.isfinite(leaf).all()


def test_texts_say_the_same_as_code():
    """The arguments arrive: they change the answer as they do in code."""
    b = hw.balancers
    gram = jnp.array([[1.0, -0.5], [-0.5, 4.0]])
    signals = hw.Signals(jnp.array([1.0, 2.0]), gram, step=0, key=jax.random.key(0))
    preferences = {"loss1": 1.0, "loss2": 3.0}
    for text, made in {
        "cagrad:c=0.9,rescale=square": b.cagrad(0.9, rescale="square"),
        "epo:preferences=loss1:1;loss2:3,relaxed=true": b.epo(
            preferences, relaxed=True
        ),
        "nash_mtl:max_norm=none": b.nash_mtl(max_norm=None),
        "uncertainty:kinds=loss1:regression;loss2:classification,initial=1": (
            b.uncertainty({"loss1": "regression", "loss2": "classification"}, 1.0)
        ),
        "constant:weights=loss1:0.2;loss2:7": b.constant({"loss1": 0.2, "loss2": 7.0}),
        "rescaled:balancer=(mgda:normalization=loss),total=heads": (
            b.rescaled(b.mgda("loss"), "heads")
        ),
    }.items():
        read = balancers.make(text, HEADS)
        one, other = (
            jax.jit(x.update)(signals, x.init(HEADS))[0].weights for x in (read, made)
        )
        np.testing.assert_array_equal(one, other, text)


WRONG = {
    "mgad": "that docs/guides/balancers.md lists; got mgad (did you mean mgda?)",
    "MGDA": "got MGDA (did you mean mgda?)",
    "Balancer": "that docs/guides/balancers.md lists; got Balancer",
    "every:k=2,balancer=(mgda": "expected as many ( as )",
    "every:k=2,balancer=" + "(" * 99 + "mgda" + ")" * 99: "lists; got (((",
    "every:k=2,balancer=(" * 2000
    + "mgda"
    + ")" * 2000: "expected fewer ( in each other",
    "cagrad:d=1": "--balancer=cagrad: expected some of c, rescale; got d",
    "cagrad:c=x": "--balancer=cagrad: c: expected NUMBER; got x",
    "stch:smoothness=0": "--balancer=stch: smoothness: expected",
    "cagrad:c": "--balancer=cagrad: expected NAME=VALUE,..., got 'c'",
    "cagrad:": "--balancer=cagrad: expected NAME=VALUE,..., got ''",
    "krum": "--balancer=krum: expected faulty=INT as well",
    "krum:faulty=0.5": "faulty: expected INT; got 0.5",
    "famo:second_forward=1": "second_forward: expected true|false; got 1",
    "mgda:normalization=foo": "--balancer=mgda: normalization: expected one of",
    "epo:preferences=loss1:1": "missing ['loss2']",
    "epo:preferences=1": "preferences: expected HEAD:NUMBER;HEAD:NUMBER|none; got 1",
    "epo:preferences=loss1:a;loss2:1": "preferences: expected NUMBER; got a",
    "pcd:primary=loss3": "unknown names ['loss3']",
    "every:k=2.5,balancer=mgda": "k: expected INT; got 2.5",
    "every:k=2,balancer=mgad": "got mgad (did you mean mgda?)",
    "cagrad:rescael=square": "got rescael (did you mean rescale?)",
    "scalarization": "expected function=a function as well",
    "scalarization:function=max": (
        "function: expected a function (from code: no flag can hold one); got max"
    ),
    "imtl:optimizer=adam": (
        "expected an optimizer of optax|none (from code: no flag can hold one)"
    ),
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_texts_say_what_is_expected(text):
    with pytest.raises(UsageError) as error:
        balancers.make(text, HEADS)
    assert WRONG[text] in str(error.value)
