"""Mistakes with what a `values_fn` is, and with states, parameters and trainable ones.

A word for a word: whatever takes a `values_fn` says the same of it.
"""

import jax
import optax
from flax import linen
from flax import nnx
from flax.training import train_state

import headwise as hw
from tests.messages._mistake import mistake
from tests.messages._steps import BATCH
from tests.messages._steps import NAMES
from tests.messages._steps import PARAMS
from tests.messages._steps import SGD
from tests.messages._steps import state_of
from tests.messages._steps import stateful_fn
from tests.messages._steps import step
from tests.messages._steps import values_fn

B, T = hw.balancers, hw.training
KEY = jax.random.key(0)
LINEAR = nnx.Linear(2, 1, rngs=nnx.Rngs(0))


class Normed(nnx.Module):
    """With running statistics."""

    def __init__(self):
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))


def first_path(path):
    return path == "w"


def balanced(f=stateful_fn, *args, **options):
    """`hw.balanced_grad` of a stateful model."""
    balancer = B.equal()
    f = hw.balanced_grad(f, balancer, stateful=True, **options)
    return f(PARAMS, balancer.init(NAMES), *args)


OF_KINDS = {
    "forgot stateful=True in head_grads": mistake(
        lambda: hw.head_grads(stateful_fn)(PARAMS, BATCH),
        TypeError,
        "values_fn: expected values_fn(params, batch) with stateful=False, got",
        "(params, rest, batch, key); stateful=True calls it so",
    ),
    "forgot stateful=True in balanced_grad": mistake(
        lambda: hw.balanced_grad(stateful_fn)(PARAMS, B.equal().init(NAMES), BATCH),
        TypeError,
        "values_fn(params, batch) with stateful=False, got",
        "(params, rest, batch, key); stateful=True calls it so",
    ),
    "forgot stateful=True, with all arguments": mistake(
        lambda: hw.head_gramian(stateful_fn)(PARAMS, (), BATCH, KEY),
        TypeError,
        "got tuple (with an auxiliary result: has_aux=True; with a rest: stateful=True",
    ),
    "stateful=True of a plain function in routing": mistake(
        lambda: hw.routing(values_fn, PARAMS, (), BATCH, KEY, stateful=True),
        TypeError,
        "values_fn(params, rest, batch, key) with stateful=True, got",
        "(params, batch); stateful=False calls it so",
    ),
    "forgot the key of a stateful model": mistake(
        lambda: hw.affinity(stateful_fn, SGD, stateful=True)(
            PARAMS, SGD.init(PARAMS), (), BATCH
        ),
        TypeError,
        "stateful=True: expected the arguments (params, rest, batch, key), got 3",
    ),
    "forgot the rest of a stateful model": mistake(
        lambda: balanced(stateful_fn, BATCH, KEY),
        TypeError,
        "stateful=True: expected the arguments (params, rest, batch, key), got 3",
    ),
    "no key for the parts of a batch": mistake(
        lambda: balanced(stateful_fn, (), BATCH, None, microbatches=2),
        TypeError,
        "key: expected a key, such as jax.random.key(0), got None",
    ),
    "has_aux and stateful": mistake(
        lambda: hw.head_grads(stateful_fn, has_aux=True, stateful=True),
        ValueError,
        "has_aux: expected False with stateful=True",
    ),
    "a Linen module in place of values_fn": mistake(
        lambda: step(linen.Dense(2)),
        TypeError,
        "values_fn: expected a function, got the module Dense",
        "model.apply(params, inputs)",
    ),
    "an NNX module in place of values_fn": mistake(
        lambda: hw.head_grads(LINEAR)(PARAMS, BATCH),
        TypeError,
        "values_fn: expected a function, got the module Linear",
        "hw.nn.functional(model)",
    ),
    "an NNX module in place of params": mistake(
        lambda: state_of(params=Normed()),
        TypeError,
        "params: expected parameters alone, got BatchStat at 'norm/",
        "hw.nn.functional(model) parts them, or nnx.split",
    ),
    "a TrainState of Flax": mistake(
        lambda: step(
            state=train_state.TrainState.create(apply_fn=None, params=PARAMS, tx=SGD)
        ),
        TypeError,
        "state: expected a TrainState of hw.training.init_state, got TrainState of",
        "state.params and state.tx, or keep yours: grads = hw.balanced_grad(",
    ),
    "a TrainState of Flax, and trainable": mistake(
        lambda: step(
            trainable=first_path,
            state=train_state.TrainState.create(apply_fn=None, params=PARAMS, tx=SGD),
        ),
        TypeError,
        "got TrainState of Flax",
    ),
    "nnx.Optimizer in place of the state": mistake(
        lambda: step(state=nnx.Optimizer(LINEAR, SGD, wrt=nnx.Param)),
        TypeError,
        "got Optimizer of Flax; make one of the parameters and optimizer.tx",
    ),
    "trainable in the step alone": mistake(
        lambda: step(
            optimizer=optax.adam(0.1),
            state=state_of(params=PARAMS | {"v": 1.0}, optimizer=optax.adam(0.1)),
            trainable=first_path,
        ),
        ValueError,
        "state.optimizer: expected what optimizer.init(params) returns",
        "made with the step's optimizer, and its trainable",
    ),
    "trainable selects nothing": mistake(
        lambda: step(trainable={"w": False}),
        ValueError,
        "trainable: selects no parameter; their paths are ['w']",
    ),
    "trainable of one layer by its name": mistake(
        lambda: step(trainable="w"),
        TypeError,
        "trainable: expected a predicate on paths or a pytree of bool, got str",
    ),
    "a factory in balanced_grad": mistake(
        lambda: hw.balanced_grad(values_fn, B.mgda),
        TypeError,
        "balancer: expected a Balancer (of hw.balancers), got the function mgda",
        "call it: mgda(",
    ),
    "a factory in init_state": mistake(
        lambda: state_of(B.mgda), TypeError, "got the function mgda; call it: mgda("
    ),
    "a bilevel method that is not called": mistake(
        lambda: T.make_bilevel_step(values_fn, SGD, T.moml),
        TypeError,
        "method: expected a BilevelMethod",
        "got the function moml; call it: moml(",
    ),
}
