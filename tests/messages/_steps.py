"""Mistakes with steps and with `fit`."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import headwise as hw
from tests.messages._mistake import mistake

B, L, T = hw.balancers, hw.losses, hw.training
L2 = optax.losses.squared_error
SGD = optax.sgd(0.1)
PARAMS = {"w": jnp.ones(3)}
BATCH = jnp.ones((4, 3))
NAMES = ["a", "b"]
LOGITS = jnp.linspace(-2.0, 2.0, 2 * 4 * 3).reshape(2, 4, 3)
LABELS = jnp.zeros((2, 4), int)


def values_fn(params, batch):
    h = batch @ params["w"]
    return {"a": jnp.mean(h**2), "b": jnp.mean((h - 1) ** 2)}


def stateful_fn(params, rest, batch, key):
    return values_fn(params, batch), rest


def total_fn(params, batch):
    return sum(values_fn(params, batch).values())


def state_of(balancer=None, names=NAMES, params=PARAMS, optimizer=SGD):
    return T.init_state(names, params, optimizer, balancer or B.equal())


def step(f=values_fn, balancer=None, state=None, batch=BATCH, optimizer=SGD, **options):
    """One step with this and that in place of what is right."""
    balancer = B.equal() if balancer is None else balancer
    made = T.make_step(f, optimizer, balancer, **options)
    return made(state_of() if state is None else state, batch)


def fit(step=None, state=None, batches=lambda t: BATCH, steps=1, **options):
    step = T.make_step(values_fn, SGD) if step is None else step
    state = state_of() if state is None else state
    return T.fit(step, state, batches, steps, progress=False, **options)


def first_batch(loss, preds, targets):
    """`fit` of a model whose output is what it is given, times 1."""
    objective = hw.Objective({"y": loss})

    def values_fn(params, batch):
        return objective.values({"y": params["w"] * batch}, {"y": targets})

    state = state_of(names=["y"], params={"w": jnp.ones(())})
    return fit(T.make_step(values_fn, SGD), state, lambda t: preds)


OF_STEPS = {
    "forgot stateful=True": mistake(
        lambda: step(stateful_fn),
        TypeError,
        "values_fn: expected values_fn(params, batch) with stateful=False, got",
        "(params, rest, batch, key); stateful=True calls it so",
    ),
    "stateful=True of a plain function": mistake(
        lambda: step(stateful=True),
        TypeError,
        "values_fn(params, rest, batch, key) with stateful=True, got",
        "(params, batch); stateful=False calls it so",
    ),
    "values_fn without a batch": mistake(
        lambda: step(lambda params: {}), TypeError, "expected values_fn(params, batch)"
    ),
    "stateful, but no rest comes back": mistake(
        lambda: step(lambda p, r, x, k: values_fn(p, x), stateful=True),
        TypeError,
        "expected it to return ({name of head: scalar}, rest) with stateful=True, got",
        "dict",
    ),
    "a rest comes back, but not stateful": mistake(
        lambda: step(lambda p, x: (values_fn(p, x), {})),
        TypeError,
        "got tuple (with an auxiliary result: has_aux=True; with a rest: stateful=True",
    ),
    "an Objective in place of values_fn": mistake(
        lambda: step(hw.Objective({"a": optax.losses.squared_error})),
        TypeError,
        "values_fn: expected a function, got Objective",
        "returns objective.values(outputs, targets)",
    ),
    "a dict in place of values_fn": mistake(
        lambda: T.make_step({}, SGD),
        TypeError,
        "values_fn: expected a callable",
        "dict",
    ),
    "a total comes back": mistake(
        lambda: step(total_fn),
        TypeError,
        "values_fn: expected it to return {name of head: scalar}, got a scalar",
        "give it a name: {'loss': value}",
    ),
    "(total, values) comes back": mistake(
        lambda: step(lambda p, x: (total_fn(p, x), values_fn(p, x))),
        TypeError,
        "got tuple whose second entry is a dict: return that alone, without a total",
    ),
    "a list comes back": mistake(
        lambda: step(lambda p, x: list(values_fn(p, x).values())),
        TypeError,
        "got list; nothing goes by position: hw.named(names, values)",
    ),
    "nothing comes back": mistake(
        lambda: step(lambda p, x: None), TypeError, "{name of head: scalar}, got None"
    ),
    "unreduced values": mistake(
        lambda: step(lambda p, x: {"a": x @ p["w"], "b": jnp.sum(x)}),
        ValueError,
        "values_fn: expected a scalar for head 'a', got shape (4,)",
    ),
    "an int as a value": mistake(
        lambda: step(lambda p, x: {"a": jnp.sum(x), "b": jnp.int32(1)}),
        TypeError,
        "expected a floating value for head 'b', got int32",
    ),
    "dynamic_loss_scale without a call": mistake(
        lambda: step(loss_scale=T.dynamic_loss_scale),
        TypeError,
        "loss_scale: expected a number or a LossScale, got its factory; call it",
    ),
    "a loss scale of 0": mistake(
        lambda: step(loss_scale=0.0), ValueError, "loss_scale: expected a positive"
    ),
    "a loss scale that gives way to more": mistake(
        lambda: T.dynamic_loss_scale(factor=0.5),
        ValueError,
        "factor: expected a number above 1",
    ),
    "a loss scale of the step that the state has not": mistake(
        lambda: step(loss_scale=T.dynamic_loss_scale()),
        TypeError,
        "state: expected one with a loss scale",
        "init_state(loss_scale=) too",
    ),
    "a loss scale of the state that the step has not": mistake(
        lambda: step(
            state=T.init_state(NAMES, PARAMS, SGD, loss_scale=T.dynamic_loss_scale())
        ),
        TypeError,
        "state: expected one without a loss scale",
        "make_step(loss_scale=) too",
    ),
    "a loss scale for parameters of float16": mistake(
        lambda: step(
            state=state_of(params={"w": jnp.ones(3, jnp.float16)}), loss_scale=8.0
        ),
        ValueError,
        "loss_scale: expected parameters of float32, got float16 at 'w'",
        "hw.nn.functional(model, dtype=)",
    ),
    "a loss scale for gradients of features": mistake(
        lambda: step(balancer=B.mgda(), wrt="features", loss_scale=8.0),
        ValueError,
        "loss_scale: expected None with wrt='features'",
    ),
    "other heads than those of init_state": mistake(
        lambda: step(state=state_of(names=["a", "c"])),
        ValueError,
        "values_fn: expected the names ['a', 'c'], got ['a', 'b']",
        "missing ['c']; unknown ['b']",
    ),
    "weights of other heads, by position": mistake(
        lambda: step(
            balancer=B.constant({"a": 1.0, "z": 2.0}),
            state=state_of(B.constant({"a": 1.0, "z": 2.0}), ["a", "z"]),
        ),
        ValueError,
        "expected the names ['a', 'z'], got ['a', 'b']",
    ),
    "params in place of the state": mistake(
        lambda: step(state=PARAMS),
        TypeError,
        "state: expected a TrainState of hw.training.init_state, got dict",
    ),
    "the state of another balancer": mistake(
        lambda: step(balancer=B.constant(), state=state_of(B.uncertainty())),
        TypeError,
        "constant: expected the state of its own init, got that of uncertainty",
    ),
    "the state of another optimizer": mistake(
        lambda: step(optimizer=optax.adam(0.1)),
        ValueError,
        "state.optimizer: expected what optimizer.init(params) returns",
        "ScaleByAdamState",
    ),
    "a factory that is not called": mistake(
        lambda: step(balancer=B.mgda),
        TypeError,
        "balancer: expected a Balancer (of hw.balancers), got the function mgda",
        "call it: mgda(",
    ),
    "a balancer by its name": mistake(
        lambda: step(balancer="mgda"),
        TypeError,
        "balancer: expected a Balancer (of hw.balancers), got 'mgda'; call its factory",
        "hw.balancers.mgda()",
    ),
    "weights in place of a balancer": mistake(
        lambda: step(balancer={"a": 1.0, "b": 0.5}), TypeError, "a Balancer", "dict"
    ),
    "a balancer in place of the optimizer": mistake(
        lambda: T.make_step(values_fn, B.mgda(), SGD),
        TypeError,
        "optimizer: expected an optax.GradientTransformation, got Balancer",
        "the optimizer comes before the balancer",
    ),
    "an optimizer in place of the balancer": mistake(
        lambda: T.init_state(NAMES, PARAMS, SGD, SGD),
        TypeError,
        "balancer: expected a Balancer",
        "which is an optimizer",
    ),
    "an optimizer that is not called": mistake(
        lambda: T.make_step(values_fn, optax.adam),
        TypeError,
        "got the function adam; call it: adam(",
    ),
    "a learning rate in place of the optimizer": mistake(
        lambda: T.init_state(NAMES, PARAMS, 0.1, B.equal()),
        TypeError,
        "optimizer: expected an optax.GradientTransformation, got 0.1",
    ),
    "nnx.Optimizer": mistake(
        lambda: T.make_step(
            values_fn,
            nnx.Optimizer(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), SGD, wrt=nnx.Param),
        ),
        TypeError,
        "an optax.GradientTransformation, got Optimizer; give",
        "`tx`",
    ),
    "a name in place of names": mistake(
        lambda: state_of(names="ab"), TypeError, "names: expected a sequence of names"
    ),
    "a name twice": mistake(
        lambda: state_of(names=["a", "a"]), ValueError, "duplicate names ['a']"
    ),
    "integer params": mistake(
        lambda: step(state=state_of(params={"w": jnp.ones(3, int)})),
        TypeError,
        "params: expected floating arrays, got int32 at 'w'",
        "keep what is not trained out",
    ),
    "microbatches that do not divide": mistake(
        lambda: step(microbatches=3), ValueError, "microbatches", "3"
    ),
    "private of another library": mistake(
        lambda: step(private="unweighted"),
        ValueError,
        "private: expected one of ['weighted', 'own'], got 'unweighted'",
    ),
    "wrt selects nothing": mistake(
        lambda: step(balancer=B.mgda(), state=state_of(B.mgda()), wrt=lambda p: False),
        ValueError,
        "wrt: selects no parameter; their paths are ['w']",
    ),
    "has_aux forgotten": mistake(
        lambda: hw.head_grads(lambda p: (values_fn(p, BATCH), 0))(PARAMS),
        TypeError,
        "got tuple (with an auxiliary result: has_aux=True",
    ),
    "aux before values": mistake(
        lambda: hw.head_grads(
            lambda p: (total_fn(p, BATCH), values_fn(p, BATCH)), has_aux=True
        )(PARAMS),
        TypeError,
        "expected ({name of head: scalar}, aux) with has_aux=True",
        "the values come first",
    ),
    "a balancer that draws, without a key": mistake(
        lambda: hw.balanced_grad(values_fn, B.random_weighting())(
            PARAMS, B.random_weighting().init(NAMES), BATCH
        ),
        ValueError,
        "random_weighting: expected signals.key, got None",
        "hw.balanced_grad takes key=",
    ),
    "an unknown head in present": mistake(
        lambda: hw.balanced_grad(values_fn, B.equal())(
            PARAMS, B.equal().init(NAMES), BATCH, present={"a": True}
        ),
        ValueError,
        "present: expected the names ['a', 'b'], got ['a']; missing ['b']",
    ),
    "a bilevel batch that is no pair": mistake(
        lambda: T.make_bilevel_step(values_fn, SGD, T.moml())(
            T.init_bilevel_state(NAMES, PARAMS, SGD, T.moml()), BATCH
        ),
        ValueError,
        "batch: expected (train_batch, valid_batch), got",
    ),
    "a balancer in place of a method": mistake(
        lambda: T.make_bilevel_step(values_fn, SGD, B.mgda()),
        TypeError,
        "method: expected a BilevelMethod (auto_lambda(), moml() or forum()",
        "Balancer",
    ),
}

OF_FIT = {
    "values_fn in place of step": mistake(
        lambda: fit(values_fn),
        TypeError,
        "step: expected step(state, batch) -> (state, info), as hw.training.make_step",
        "values_fn(state, batch) raised",
    ),
    "values_fn, jitted": mistake(
        lambda: fit(jax.jit(lambda params, batch: {"a": 1.0})),
        TypeError,
        "step: expected step(state, batch)",
        "returned dict",
    ),
    "make_step's arguments in place of step": mistake(
        lambda: fit({"f": values_fn}), TypeError, "step: expected a callable", "dict"
    ),
    "too few batches": mistake(
        lambda: fit(batches=[BATCH], steps=2),
        ValueError,
        "batches: expected a batch for step 1, but the iterable has ended",
    ),
    "logits to dice": mistake(
        lambda: first_batch(L.dice, LOGITS, LABELS),
        ValueError,
        "loss of 'y': preds: expected probabilities in [0, 1], got -2.0 to 2.0",
    ),
    "probabilities to cross_entropy": mistake(
        lambda: first_batch(L.cross_entropy, jax.nn.softmax(LOGITS), LABELS),
        ValueError,
        "loss of 'y': preds: expected logits, got probabilities",
    ),
    "one-hot with channels first": mistake(
        lambda: first_batch(
            L.cross_entropy,
            jnp.moveaxis(LOGITS, -1, 1),
            jnp.moveaxis(jax.nn.one_hot(LABELS, 3), -1, 1),
        ),
        ValueError,
        "targets: expected classes that exclude each other, of sum 1",
        "are the channels last?",
    ),
    "label -1": mistake(
        lambda: first_batch(L.cross_entropy, LOGITS, LABELS - 1),
        ValueError,
        "loss of 'y': targets: expected labels in 0..2, got -1 to -1",
    ),
    "validate_every 0": mistake(
        lambda: fit(validate_every=0),
        ValueError,
        "validate_every: expected a positive int, got 0",
    ),
}
