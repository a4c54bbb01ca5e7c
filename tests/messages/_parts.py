"""Mistakes with losses, objectives, balancers, sweeps and models."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from flax import nnx

import headwise as hw
from tests.messages._mistake import mistake

B, L, T = hw.balancers, hw.losses, hw.training
L2 = optax.losses.squared_error
NAMES = ["a", "b"]
PARAMS = {"w": jnp.ones(3)}
COLUMN, ROW = jnp.ones((8, 1)), jnp.ones(8)
LOGITS = jnp.linspace(-2.0, 2.0, 2 * 4 * 3).reshape(2, 4, 3)
LABELS = jnp.zeros((2, 4), int)


def objective(losses=None, **options):
    return hw.Objective(losses or {"a": L2, "b": L2}, **options)


def value(loss, preds, targets, **options):
    return objective({"y": loss}).values({"y": preds}, {"y": targets}, **options)


def sweep(train, batched=True, **options):
    design = hw.sweeps.grid({"a": [0.1, 1.0]})
    return hw.sweeps.run(train, design, batched=batched, progress=False, **options)


def updated(balancer, **signals):
    signals = {"values": jnp.ones(2), **signals}
    return balancer.update(hw.Signals(**signals), balancer.init(NAMES))


def coupled(preds, targets):
    """A loss of whole batches, which takes no mask."""
    return (preds - jnp.mean(preds)) ** 2 + 0 * targets


OF_LOSSES = {
    "weights as a list": mistake(
        lambda: objective(weights=[1.0, 2.0]),
        TypeError,
        "weights: expected a dict by name of head, got list; nothing goes by position",
        "hw.named(names, sequence)",
    ),
    "losses as a list": mistake(
        lambda: hw.Objective([L2, L2]),
        TypeError,
        "losses: expected a dict by name of head, got list",
        "hw.named(names, sequence)",
    ),
    "one loss for all": mistake(
        lambda: hw.Objective(L2), TypeError, "losses: expected a dict", "function"
    ),
    "a loss by its name": mistake(
        lambda: hw.Objective({"y": "mse"}),
        TypeError,
        "losses['y']: expected a callable or None, got str",
    ),
    "several losses as a list": mistake(
        lambda: hw.Objective({"y": [L2, L2]}),
        TypeError,
        "losses['y']: expected a callable or None, got list",
        "hw.losses.mix",
    ),
    "a list in mix": mistake(
        lambda: L.mix([L2, L.dice]),
        TypeError,
        "losses: expected a dict",
        "{name: (loss, weight)}",
    ),
    "mix without weights": mistake(
        lambda: L.mix({"l2": L2}),
        TypeError,
        "losses['l2']: expected (loss, weight) with a callable loss",
    ),
    "a head without a weight": mistake(
        lambda: objective(weights={"a": 1.0}),
        ValueError,
        "weights: expected the names ['a', 'b'], got ['a']; missing ['b']",
    ),
    "a weight of an unknown head": mistake(
        lambda: objective(weights={"a": 1.0, "b": 1.0, "c": 1.0}),
        ValueError,
        "unknown ['c']",
    ),
    "a weight that is a string": mistake(
        lambda: objective(weights={"a": "1", "b": 1.0}),
        TypeError,
        "weights['a']: expected a scalar, got str",
    ),
    "outputs as a tuple": mistake(
        lambda: objective().values((ROW, ROW), {"a": ROW, "b": ROW}),
        TypeError,
        "outputs: expected a dict by name of head, got tuple",
        "hw.named(names, sequence)",
    ),
    "targets of other names": mistake(
        lambda: objective().values({"a": ROW, "b": ROW}, {"a": ROW, "y": ROW}),
        ValueError,
        "targets: expected the names ['a', 'b'], got ['a', 'y']; missing ['b']",
    ),
    "[8, 1] against [8], own loss": mistake(
        lambda: value(lambda p, t: (p - t) ** 2, COLUMN, ROW),
        ValueError,
        "preds (8, 1) and targets (8,) make pairs",
        "give preds and targets one shape",
        "'y'",
    ),
    "[8, 1] against [8], optax": mistake(
        lambda: value(L2, COLUMN, ROW), ValueError, "(8, 1)", "(8,)", "'y'"
    ),
    "[8, 1] against [8], ours": mistake(
        lambda: value(L.squared_error, COLUMN, ROW),
        ValueError,
        "targets: expected the shape of preds (8, 1), got (8,)",
        "in the loss of 'y', squared_error",
    ),
    "labels for one channel": mistake(
        lambda: value(L.dice, COLUMN, jnp.zeros(8, int)),
        ValueError,
        "integer labels need two or more channels in preds, got preds (8, 1)",
    ),
    "channels first, with labels": mistake(
        lambda: value(
            L.cross_entropy, jnp.ones((2, 3, 8, 8)), jnp.zeros((2, 8, 8), int)
        ),
        ValueError,
        "targets: expected one-hot or soft (2, 3, 8, 8) like preds, or integer labels "
        "(2, 3, 8); got int32 (2, 8, 8)",
    ),
    "floating labels": mistake(
        lambda: value(L.cross_entropy, LOGITS, jnp.zeros((2, 4))),
        ValueError,
        "or integer labels (2, 4); got float32 (2, 4)",
    ),
    "integer predictions": mistake(
        lambda: value(L.dice, jnp.ones((2, 4, 3), int), LABELS),
        TypeError,
        "preds: expected floating values, got int32",
    ),
    "a mask of floats": mistake(
        lambda: value(L.dice, LOGITS, LABELS, where=jnp.ones((2, 4))),
        TypeError,
        "where of head 'y': expected bool, got float32",
    ),
    "an activation by name": mistake(
        lambda: L.dice(LOGITS, LABELS, activation="softmax"),
        TypeError,
        "activation: expected a callable such as jax.nn.softmax, got 'softmax'",
    ),
    "class weights of too few classes": mistake(
        lambda: L.cross_entropy(LOGITS, LABELS, class_weights=jnp.ones(2)),
        ValueError,
        "class_weights: expected one entry a channel, shape (3,)",
        "got (2,)",
    ),
    "sample weights of another batch": mistake(
        lambda: value(L2, ROW, ROW, sample_weights=jnp.ones(7)),
        ValueError,
        "sample_weights of head 'y'",
        "(8,)",
        "(7,)",
    ),
    "a mask for a loss that couples examples": mistake(
        lambda: value(coupled, ROW, ROW, where=ROW > 0),
        ValueError,
        "head 'y': each value of its loss depends on other entries too",
        "keyword-only argument `where`",
    ),
    "a sample weight of 0 for such a loss": mistake(
        lambda: value(coupled, ROW, ROW, sample_weights=ROW),
        ValueError,
        "head 'y': each value of its loss depends on other entries too",
    ),
    "a schedule without a step": mistake(
        lambda: objective(
            weights={"a": optax.linear_schedule(1, 0, 5), "b": 1.0}
        ).total({"a": 1.0, "b": 1.0}),
        ValueError,
        "schedule; got None",
    ),
    "one output for deep supervision": mistake(
        lambda: value(L.deep_supervision(L.dice), LOGITS, LABELS),
        TypeError,
        "preds: expected a sequence of outputs, finest first, got",
    ),
    "a metric of labels": mistake(
        lambda: hw.metrics.dice(LABELS, LABELS), (ValueError, TypeError), "preds"
    ),
    "names of another length": mistake(
        lambda: hw.named(["a", "b"], [1.0]),
        ValueError,
        "items: expected 2 items for the names ['a', 'b'], got 1",
    ),
}

OF_BALANCERS = {
    "weights by position": mistake(
        lambda: B.constant([1.0, 2.0]),
        TypeError,
        "weights: expected a dict by name of head, got list",
        "hw.named(names, sequence)",
    ),
    "a schedule as a static weight": mistake(
        lambda: B.constant({"a": optax.linear_schedule(1, 0, 5)}),
        TypeError,
        "weights['a']: expected a scalar, got a callable",
        "hw.balancers.scheduled",
    ),
    "a wrapper's arguments the wrong way round": mistake(
        lambda: B.every(B.mgda(), 5), ValueError, "k: expected a positive int, got Bal"
    ),
    "a dict in place of a balancer": mistake(
        lambda: B.every(2, {}), TypeError, "balancer: expected a Balancer", "got dict"
    ),
    "a factory in a wrapper": mistake(
        lambda: B.clipped(B.mgda, 0.1, 0.5), TypeError, "got the function mgda; call it"
    ),
    "kinds that are none": mistake(
        lambda: B.uncertainty(kinds="l2"), ValueError, "kinds: expected one of", "'l2'"
    ),
    "preferences of other heads": mistake(
        lambda: B.epo(preferences={"a": 1.0, "c": 1.0}).init(NAMES),
        ValueError,
        "preferences: expected the names ['a', 'b'], got ['a', 'c']",
    ),
    "a negative temperature": mistake(
        lambda: B.dwa(temperature=-1.0),
        ValueError,
        "temperature: expected a positive number, got -1.0",
    ),
    "a gramian of three heads for two": mistake(
        lambda: updated(B.mgda(), gram=jnp.eye(3)),
        ValueError,
        "mgda: expected signals.gram of shape (2, 2), got (3, 3)",
    ),
    "no gramian": mistake(
        lambda: updated(B.mgda()), ValueError, "mgda: expected signals.gram, got None"
    ),
    **{
        f"optimizer={{}} of {name}": mistake(
            lambda make=make: make(optimizer={}),
            TypeError,
            "optimizer: expected an optax.GradientTransformation or None, got dict",
        )
        for name, make in {
            **{
                name: getattr(B, name)
                for name in ("famo", "imtl", "imtl_l", "ldc", "gradnorm", "uncertainty")
            },
            **{name: getattr(T, name) for name in ("auto_lambda", "moml", "forum")},
        }.items()
    },
}

OF_THE_REST = {
    "float(w) in a batched sweep": mistake(
        lambda: sweep(lambda weights, seed: {"m": float(weights["a"])}),
        TypeError,
        "batched: expected a train that can be traced",
        "float(w)",
        "batched=False",
    ),
    "a NumPy seed in a batched sweep": mistake(
        lambda: sweep(
            lambda weights, seed: {"m": np.random.default_rng(seed).normal()}
        ),
        TypeError,
        "batched: expected a train that can be traced",
        "jax.random.key(seed)",
    ),
    "`if` of a weight in a batched sweep": mistake(
        lambda: sweep(lambda weights, seed: {"m": 1.0 if weights["a"] > 0 else 0.0}),
        TypeError,
        "batched: expected a train that can be traced",
        "jnp.where",
    ),
    "a design of dicts": mistake(
        lambda: hw.sweeps.run(lambda w, s: {}, [{"a": 1.0}], progress=False),
        TypeError,
        "design: expected a dict by name of head, got list",
    ),
    "a metric that is a vector": mistake(
        lambda: sweep(lambda weights, seed: {"m": jnp.ones(3)}, batched=False),
        ValueError,
        "metrics['m']: expected a scalar, got shape (3,)",
    ),
    "seeds that repeat": mistake(
        lambda: sweep(lambda weights, seed: {}, seeds=(1, 1)),
        ValueError,
        "seeds: expected one or more distinct ints, got [1, 1]",
    ),
    "a path in place of records": mistake(
        lambda: hw.sweeps.to_csv("study.csv", []),
        TypeError,
        "records: expected those of `hw.sweeps.run` or `read`, got the path",
    ),
    "metrics in place of records": mistake(
        lambda: hw.sweeps.to_pandas([{"dice": 0.5}]),
        ValueError,
        "records[0]: expected a dict with weights, seed, metrics, finite",
    ),
    "curves of a key": mistake(
        lambda: hw.sweeps.curves("/nowhere", "0123456789abcdef"),
        TypeError,
        "record: expected a Record, or a dict with weights, seed and perhaps settings",
    ),
    "the status of a folder without a study": mistake(
        lambda: hw.sweeps.status("/nowhere"),
        hw.sweeps.StudyError,
        "folder /nowhere: holds no study",
    ),
    "a Linen module": mistake(
        lambda: hw.nn.functional(linen.Dense(2)),
        TypeError,
        "model: expected an nnx.Module, got Dense; a Linen module is a pure function",
        "model.apply(params, inputs)",
    ),
    "a class of modules": mistake(
        lambda: hw.nn.functional(nnx.Linear),
        TypeError,
        "got the class Linear; make one of it first",
    ),
    "parameters of another model": mistake(
        lambda: hw.nn.functional(nnx.Linear(2, 1, rngs=nnx.Rngs(0))).apply(
            {"kernel": 1.0}, {}, jnp.ones((1, 2))
        ),
        ValueError,
        "params: expected keys ['bias', 'kernel'], got ['kernel']; missing ['bias']",
    ),
    "heads as a list": mistake(
        lambda: hw.nn.MultiHead(lambda x: x, [lambda x: x]),
        TypeError,
        "heads: expected a dict by name of head, got list",
    ),
    "contributions with too few weights": mistake(
        lambda: hw.contributions({"a": PARAMS, "b": PARAMS}, {"a": 1.0}),
        ValueError,
        "weights: expected the names ['a', 'b'], got ['a']; missing ['b']",
    ),
}
