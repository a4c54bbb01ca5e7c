"""Arguments for calls at random: natural ones by their name.

What a call is given is made anew each time, so that a change of it shows.
"""

import dataclasses
import random

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import headwise as hw

HEADS = ("a", "b")


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What the arrays of one call have in common, so that they may fit."""

    shape: tuple[int, ...]  # [B, *S, C]
    logits: bool
    labels: bool
    seed: int

    @classmethod
    def drawn(cls, rng):
        shape = rng.choice([(2, 4, 3), (2, 5, 5, 2)])
        return cls(shape, rng.random() < 0.5, rng.random() < 0.5, rng.randrange(3))

    def numbers(self, low, high, shape=None):
        draw = np.random.default_rng(self.seed).uniform(low, high, shape or self.shape)
        return draw.astype(np.float32)

    def preds(self):
        numbers = self.numbers(-3, 3)
        return numbers if self.logits else np.asarray(jax.nn.softmax(numbers))

    def targets(self):
        draw = np.random.default_rng(self.seed + 1)
        labels = draw.integers(0, self.shape[-1], self.shape[:-1]).astype(np.int32)
        return labels if self.labels else np.eye(self.shape[-1], dtype="f4")[labels]

    def rows(self):
        """Gradients of the heads, [H, 3]."""
        return self.numbers(-1, 1, (len(HEADS), 3))


def values_fn(params, *args):
    h = jnp.sum(params["w"] * 2.0)
    return {"a": h**2, "b": (h - 1.0) ** 2 + jnp.sum(params["u"] ** 2)}


def params():
    return {"w": np.ones(3, np.float32), "u": np.ones(2, np.float32)}


def state():
    return hw.training.init_state(HEADS, params(), optax.sgd(0.1), hw.balancers.equal())


def record(a, seed=0):
    metrics = {"m": a + seed, "n": 1.0 - a}
    return hw.sweeps.record({"a": a, "b": 1.0}, seed, metrics, made_with={})


def records():
    return [record(a, seed) for a in (0.1, 1.0) for seed in (0, 1)]


def by_head(low, high):
    return lambda rng, s: {h: rng.uniform(low, high) for h in HEADS}


def number(low, high):
    return lambda rng, s: rng.uniform(low, high)


def fixed(*choices):
    """One of these, made anew."""
    return lambda rng, s: (lambda c: c() if callable(c) else c)(rng.choice(choices))


def loss(rng, s):
    return rng.choice([hw.losses.dice, hw.losses.cross_entropy, optax.l2_loss])


def balancer(rng, s):
    return rng.choice([hw.balancers.equal, hw.balancers.mgda, hw.balancers.uw_so])()


def gram(rng, s):
    return s.rows() @ s.rows().T


FLAG = fixed(True, False)
PROGRAM = hw.sweeps.Program(
    lambda trial: trial["weights"],
    lambda weights, t: (weights, {}),
    lambda weights: {"m": weights["a"] * weights["b"]},
)
NATURAL = {
    "absent": fixed("count", "zero"),
    "activate_last": FLAG,
    "activation": fixed(None, lambda: jax.nn.softmax, lambda: jax.nn.sigmoid),
    "adjust": fixed(None, lambda: lambda state, history: state),
    "affinity": gram,
    "alone": number(-1, 1),
    "alpha": number(0, 1),
    "arrays": fixed(lambda: {"x": np.ones((5, 2)), "y": np.arange(5)}),
    "asymmetric": FLAG,
    "axis": fixed("data"),
    "axis_name": fixed(None),
    "background": FLAG,
    "balancer": balancer,
    "baseline": fixed(lambda: {"m": 1.0, "n": 2.0}),
    "batch": fixed(lambda: {"x": np.ones((4, 2), np.float32), "t": 1.0}),
    "batch_of": fixed("one", "all", "any"),
    "batch_size": fixed(1, 2, 3),
    "batched": FLAG,
    "batches": fixed(lambda: lambda t: 1.0, 2, 3),
    "best": fixed(None, lambda: ("values/a", "min")),
    "beta": number(0.01, 0.9),
    "beta_decay": number(0, 1),
    "bound": lambda rng, s: s.numbers(0.1, 1, (2,)),
    "budget": fixed(1, 2),
    "by": fixed(None, lambda: ["a"]),
    "c": number(0, 2),
    "ce_weight": number(0, 2),
    "change": number(0.01, 0.5),
    "check": FLAG,
    "chunk": fixed(None, 1, 2),
    "class_weights": lambda rng, s: s.numbers(0, 2, s.shape[-1:]),
    "concentration": number(0.1, 3),
    "constraints": fixed(None, lambda: {"m": lambda metrics: -metrics["m"]}),
    "contributions": fixed(True, False, 2),
    "cooldown": fixed(0, 2),
    "count": fixed(1, 2, 5),
    "counts": fixed(None, lambda: {"a": 2.0}),
    "coupled": fixed(None, lambda: {"a": "it couples"}),
    "data_range": number(0.5, 2),
    "debias": FLAG,
    "decay": number(0, 0.9),
    "delta": number(0.1, 0.9),
    "depth": fixed(None, 1, 2),
    "design": fixed(lambda: {"a": [0.1, 1.0], "b": [1.0, 1.0]}),
    "dice_weight": number(0, 2),
    "distances": lambda rng, s: 1 - np.eye(s.shape[-1], dtype="f4"),
    "distribution": fixed("normal", "dirichlet", "bernoulli"),
    "epochs": fixed(None, 1),
    "epsilon": number(0.01, 0.9),
    "error": fixed(None, "broke"),
    "eval_params": fixed(None, lambda: lambda state: state.params),
    "every": fixed(1, 2),
    "experiment": fixed(None, "weights"),
    "factor": fixed(0.5, 2),
    "faulty": fixed(0, 1),
    "first": fixed(lambda: {"m": hw.metrics.Ratio(jnp.ones(()), jnp.ones(()))}),
    "focal_weight": number(0, 2),
    "foreground": lambda rng, s: s.numbers(0, 1, (2, 5, 5, 1)) > 0.5,
    "fraction": number(0.1, 0.9),
    "fronts": fixed(lambda: [[[1.0, 2.0]], [[2.0, 1.0]]]),
    "function": fixed(lambda: lambda v, p, here: jnp.sum(jnp.where(here, p * v, 0.0))),
    "gamma": number(0.1, 1),
    "gamma_decay": number(0, 1),
    "grads": lambda rng, s: {h: {"w": r} for h, r in zip(HEADS, s.rows(), strict=True)},
    "gram": gram,
    "groups": fixed(1, 2, "whole", "all"),
    "has_aux": FLAG,
    "head_grads": FLAG,
    "heads": fixed(lambda: {"a": lambda x: x, "b": lambda x: 2 * x}),
    "held_out": number(0.1, 0.9),
    "higher": fixed(lambda: {"m": True, "n": False}),
    "history": fixed(list),
    "hypergradient": fixed("unrolled", "finite_difference"),
    "ignore": fixed(None, 0, 255, -1),
    "initial": number(-1, 1),
    "initializer": fixed(None, lambda: jax.nn.initializers.he_normal()),
    "inner_optimizer": fixed(None, lambda: optax.sgd(0.1)),
    "inner_steps": fixed(1, 2),
    "interior": FLAG,
    "items": fixed(lambda: [1.0, 2.0]),
    "iterations": fixed(1, 3),
    "k": fixed(1, 2),
    "k1": number(0.01, 0.1),
    "k2": number(0.01, 0.1),
    "keep": number(0.01, 0.99),
    "key": fixed(lambda: jax.random.key(0)),
    "kinds": fixed("regression", lambda: dict.fromkeys(HEADS, "classification")),
    "label_smoothing": number(0, 0.5),
    "lag": fixed(0, 1),
    "last": fixed("wrap", "drop", "mask"),
    "leak": by_head(0, 1),
    "learning_rate": number(0.01, 1),
    "least": fixed(0.5, 1, 2),
    "level": number(0.01, 0.1),
    "levels": fixed(1, 3, lambda: {"a": [1.0], "b": [0.1, 1.0]}),
    "linear": lambda rng, s: s.numbers(-1, 1, (2,)),
    "log": FLAG,
    "log_every": fixed(1, 2),
    "log_space": FLAG,
    "loss": loss,
    "loss_scale": fixed(None, 8.0, lambda: T.dynamic_loss_scale()),
    "loss_weighted": FLAG,
    "losses": fixed(
        lambda: {"a": hw.losses.dice, "b": None},
        lambda: {"a": (hw.losses.dice, 0.5), "b": (optax.l2_loss, 1.0)},
    ),
    "lower": number(0, 0.5),
    "margin": number(0, 1),
    "matrix": gram,
    "max_norm": number(0.1, 2),
    "mesh": fixed(lambda: jax.sharding.Mesh(jax.devices()[:1], ("data",))),
    "method": fixed("auto", "sequential", "batched", "measured", lambda: T.moml()),
    "metric": fixed("values/a", "validation/m"),
    "metrics": fixed(lambda: {"m": 1.5, "n": 2.5}),
    "metrics_fn": fixed(lambda: lambda p, b: {"m": jnp.mean(b["x"])}),
    "microbatches": fixed(1, 2),
    "min_delta": number(0, 1),
    "min_values": by_head(-1, 0),
    "mode": fixed(None, "loop", "min", "max"),
    "model": fixed(lambda: nnx.Linear(2, 1, rngs=nnx.Rngs(0))),
    "modified": FLAG,
    "momentum": number(0, 0.9),
    "more_is_better": FLAG,
    "name": fixed(None, "first"),
    "names": fixed(lambda: list(HEADS)),
    "normalization": fixed("none", "l2", "loss", "loss+"),
    "normalized": FLAG,
    "normalized_update": FLAG,
    "num_classes": fixed(None, 2, 3),
    "num_features": fixed(1, 3),
    "objective": lambda rng, s: s.numbers(-1, 1, (2,)),
    "observe": FLAG,
    "of": fixed("", "mine"),
    "optimizer": fixed(lambda: optax.sgd(0.1), lambda: optax.adam(0.1)),
    "otherwise": balancer,
    "over_batch": FLAG,
    "own": FLAG,
    "own_affine": FLAG,
    "p": number(1, 4),
    "pairs": fixed("all", "neighbours"),
    "params": fixed(params),
    "patience": fixed(1, 2),
    "penalty": number(0, 2),
    "per_example": FLAG,
    "percentile": number(50, 100),
    "period": fixed(1, 2000),
    "phi": number(0.1, 1),
    "point": lambda rng, s: s.numbers(-1, 1, (3,)),
    "points": fixed(2, 3, lambda: [[1.0, 2.0], [2.0, 1.0]]),
    "positive_weight": number(0.1, 2),
    "predict_fn": fixed(lambda: lambda p, b: b["x"]),
    "preds": lambda rng, s: s.preds(),
    "preferences": by_head(0.1, 2),
    "present": fixed(None, lambda: dict.fromkeys(HEADS, True)),
    "primary": fixed("a", lambda: ["a"]),
    "private": fixed("weighted", "own"),
    "program": fixed(lambda: PROGRAM),
    "progress": fixed(False),
    "radius": number(0, 1),
    "ranges": fixed(lambda: {"a": (1.0, 1.0), "b": (0.01, 1.0)}),
    "reaches": fixed(None, lambda: {h: {"w": True} for h in HEADS}),
    "record": fixed(lambda: record(0.1)),
    "records": fixed(records),
    "reference": fixed(lambda: dict.fromkeys(HEADS, 0.0), lambda: [3.0, 3.0]),
    "regularization": number(0, 1),
    "relative": FLAG,
    "relaxed": FLAG,
    "remat": FLAG,
    "report": fixed(None),
    "report_every": fixed(None, 1),
    "rescale": fixed("none", "c"),
    "rest": fixed(tuple, dict),
    "rho": number(0, 1),
    "root": FLAG,
    "rungs": fixed(lambda: (1, 3), lambda: [5]),
    "sampler": fixed("tpe", "nsga2", "random"),
    "scale": fixed("min", "median", "rmse"),
    "scales": fixed(1, 2),
    "second": fixed(lambda: {"m": hw.metrics.Ratio(jnp.ones(()), jnp.ones(()))}),
    "second_forward": FLAG,
    "seconds": fixed(None, 1.0),
    "seed": fixed(0, 7),
    "seeds": fixed(lambda: (0,), lambda: [0, 1]),
    "selected": fixed(1, 2),
    "sensitivity_weight": number(0, 1),
    "settings": fixed(None, lambda: {"lr": 0.1}),
    "share": number(0.1, 1),
    "shared": fixed(None, lambda: lambda path: True),
    "shuffle": FLAG,
    "sigma": number(0.1, 1),
    "sign": fixed("drop", "gain"),
    "signals": lambda rng, s: hw.Signals(np.ones(2, np.float32), gram(rng, s)),
    "size": fixed(3, 5),
    "sizes": fixed(lambda: (2, 3, 1)),
    "smooth": fixed(1e-5, 0.0, lambda: (0.0, 1.0)),
    "smoothing": number(0.01, 0.9),
    "smoothness": number(0.1, 2),
    "soft_targets": FLAG,
    "softmax": FLAG,
    "sources": fixed(lambda: {"a": {"x": np.ones(4)}, "b": [{"x": 1.0}] * 3}),
    "space": fixed(lambda: {"a": (1.0, 1.0), "b": (0.01, 1.0)}),
    "spacing": fixed(None, lambda: (1.0, 2.0)),
    "squared": FLAG,
    "start": lambda rng, s: s.numbers(0, 1, (2,)),
    "state": fixed(state),
    "stateful": fixed(False),
    "static": fixed((), lambda: ["lr"]),
    "step": fixed(lambda: hw.training.make_step(values_fn, optax.sgd(0.1)), 0.1, 0.5),
    "step_size": number(0, 1),
    "steps": fixed(1, 2),
    "steps_per_epoch": fixed(None, 1),
    "stop": fixed(None, lambda: lambda history: None),
    "stopped": fixed(None, 3),
    "stored": fixed(None, True, False),
    "tags": fixed(None, lambda: {"by": "me"}),
    "target": number(0, 1),
    "targets": lambda rng, s: s.targets(),
    "temperature": number(0.1, 2),
    "theta": number(0, 2),
    "threshold": number(0.1, 1),
    "title": fixed("", "[/b]"),
    "tolerance": number(0, 1),
    "total": fixed("heads", 2.0),
    "train": fixed(lambda: lambda w, seed: {"m": w["a"] + seed}),
    "trainable": fixed(None, lambda: lambda path: path == "w"),
    "trials": fixed(lambda: [hw.sweeps.Trial({"a": 1.0, "b": 2.0}, 0, {})]),
    "trim": fixed(0, 1),
    "trunk": fixed(lambda: lambda x: x),
    "update": fixed(None, lambda: {"w": np.ones(3, np.float32)}),
    "upper": number(0.5, 2),
    "uri": fixed(None, "http://localhost:1"),
    "validate": fixed(None, lambda: lambda p, rest: {"m": jnp.sum(p["w"])}),
    "validate_every": fixed(None, 1),
    "values": fixed(lambda: {"a": 1.0, "b": 2.0}),
    "values_fn": fixed(lambda: values_fn),
    "variance_focus": number(0, 1),
    "vary": fixed(None, lambda: {"lr": [0.1, 0.2], "on": [True, "x"]}),
    "warm_up": fixed(0, 1, 2),
    "weight": number(0, 1),
    "weighting": fixed("square", "simple", "uniform", "default"),
    "weights": by_head(0, 2),
    "where": lambda rng, s: s.numbers(0, 1, s.shape[:-1]) > 0.3,
    "window": fixed(1, 2, "gaussian", "uniform"),
    "wrt": fixed(None, lambda: lambda path: path == "w", "features"),
    "x": fixed("m"),
    "y": fixed("n"),
}
T = hw.training


def natural(rng, shapes, name):
    """A value that a parameter of this name may well get."""
    return NATURAL[name](rng, shapes)


def generator(seed, number):
    """Of one call: the same whatever was called before."""
    return random.Random(f"{seed} {number}")
