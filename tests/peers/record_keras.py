"""Records what Keras does, for `keras_test.py` and docs/guides/coming_from_keras.md.

Run where Keras is installed; the tests need only the file that it writes:

    pip install "keras==3.15.*" jax
    KERAS_BACKEND=jax python tests/peers/record_keras.py

Recorded with the versions under "versions" in keras_two_outputs.json. Nothing here is
random: weights and data follow from a formula.
"""

import json
import os
import pathlib
import warnings

import numpy as np

TARGET = pathlib.Path(__file__).with_name("keras_two_outputs.json")
STEPS = 20
WEIGHTS = {"y1": 0.5, "y2": 0.3}
LAYERS = {"A": (3, 4), "B": (4, 4), "C": (4, 2), "D": (4, 1)}
RATES = {"sgd": 0.1, "adam": 0.01}


def waves(shape, phase):
    """Numbers in (-0.8, 0.8) without a pattern, the same on every machine."""
    n = np.arange(np.prod(shape), dtype=np.float64)
    return (0.8 * np.sin(1.7 * n + phase)).reshape(shape).astype(np.float32)


def initial_weights():
    return {
        name: {"kernel": waves(shape, i), "bias": 0.1 * waves(shape[1:], i + 0.5)}
        for i, (name, shape) in enumerate(LAYERS.items())
    }


def data():
    x = waves((8, 3), 5.0)
    y1 = np.stack([np.sin(x.sum(1)), x[:, 0] * x[:, 1]], 1)
    return x, {"y1": y1, "y2": np.abs(x).sum(1, keepdims=True)}


def lists(tree):
    if isinstance(tree, dict):
        return {key: lists(value) for key, value in tree.items()}
    return np.asarray(tree, np.float64).tolist()


def train(optimizer):
    """Losses before every step, and the weights after the last one."""
    import keras

    x, targets = data()
    weights = initial_weights()
    layers = {
        name: keras.layers.Dense(shape[1], activation="tanh" if name in "AB" else None)
        for name, shape in LAYERS.items()
    }
    inputs = keras.Input((3,))
    h = layers["B"](layers["A"](inputs))
    model = keras.Model(inputs, {"y1": layers["C"](h), "y2": layers["D"](h)})
    for name, layer in layers.items():
        layer.set_weights([weights[name]["kernel"], weights[name]["bias"]])
    rate = RATES[optimizer]
    model.compile(
        optimizer={"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[
            optimizer
        ](rate),
        loss={"y1": "mse", "y2": "mae"},
        loss_weights=WEIGHTS,
    )
    history = model.fit(
        x, targets, batch_size=len(x), epochs=STEPS, shuffle=False, verbose=0
    ).history
    final = {
        name: dict(zip(("kernel", "bias"), layer.get_weights(), strict=True))
        for name, layer in layers.items()
    }
    return {
        "learning_rate": rate,
        "total": lists(history["loss"]),
        "values": {"y1": lists(history["y1_loss"]), "y2": lists(history["y2_loss"])},
        "final": lists(final),
    }


# The squared error of a is 1 and that of b is 4, so any mixing up shows.
ONES = {"a": np.ones((2, 1), np.float32), "b": 2 * np.ones((2, 1), np.float32)}
ZEROS = {name: np.zeros((2, 1), np.float32) for name in ONES}


def compile_loss(true, pred, sample_weight=None, **options):
    """The value of Keras' compiled loss, or the error it raises, as text."""
    from keras.src.trainers.compile_utils import CompileLoss

    try:
        value = float(CompileLoss(**options)(true, pred, sample_weight))
        return "NaN" if np.isnan(value) else value
    except Exception as error:  # the point is to record it
        return f"{type(error).__name__}: {error}".split("\n")[0][:160]


def golden():
    """The cases of Keras' own compile_utils_test.py that a dict can say."""
    true = {
        "a": np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]),
        "b": np.array([[0.7, 0.8], [0.9, 1.0], [1.1, 1.2]]),
    }
    pred = {
        "a": np.array([[1.2, 1.1], [1.0, 0.9], [0.8, 0.7]]),
        "b": np.array([[0.6, 0.5], [0.4, 0.3], [0.2, 0.1]]),
    }
    weights = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([3.0, 2.0, 1.0])}
    both = {"a": "mse", "b": "mse"}
    return {
        "targets": lists(true),
        "outputs": lists(pred),
        "sample_weights": lists(weights),
        "mse": compile_loss(true, pred, loss=both),
        "mse, weighted examples": compile_loss(true, pred, weights, loss=both),
        "mse and mae": compile_loss(true, pred, loss={"a": "mse", "b": "mae"}),
        "loss_weights": compile_loss(
            true, pred, loss=both, loss_weights={"a": 0.5, "b": 0.3}
        ),
    }


def traps():
    """What a user may write, and what becomes of it."""
    import keras

    both = {"a": "mse", "b": "mse"}
    swapped = dict(output_names=["b", "a"])
    one = np.array([[1.0, 1.0]], np.float32)
    three = np.array([[3.0, 3.0]], np.float32)
    nan = {"a": np.full((2, 1), np.nan, np.float32), "b": ONES["b"]}
    pair_true = np.array([[1, 0, 1, 0], [0, 1, 1, 0]], np.float32)
    pair_pred = np.array([[0.9, 0.4, 0.5, 0.2], [0.3, 0.4, 0.6, 0.5]], np.float32)
    dice = keras.losses.Dice()
    false_alarm = np.array([[1.0, 1.0]]), np.array([[1.0, 0.0]])
    prices = [
        float(keras.losses.Tversky(alpha=a, beta=b)(false_alarm[1], false_alarm[0]))
        for a, b in ((1.0, 0.0), (0.0, 1.0))
    ]
    return {
        "two losses in a list on one output": compile_loss(
            0 * one, three, loss=["mse", "mae"]
        ),
        "weights by other names": compile_loss(
            ZEROS, ONES, loss=both, loss_weights={"x": 10.0, "y": 1.0}
        ),
        "a list of losses, a dict of weights": compile_loss(
            [ZEROS["b"], ZEROS["a"]],
            [ONES["b"], ONES["a"]],
            loss=["mse", "mse"],
            loss_weights={"a": 10.0, "b": 1.0},
            **swapped,
        ),
        "one loss for all, two weights": compile_loss(
            ZEROS, ONES, loss="mse", loss_weights={"a": 10.0, "b": 1.0}
        ),
        "weights for some losses": compile_loss(
            ZEROS, ONES, loss=both, loss_weights={"a": 10.0}
        ),
        "a list with one loss for two outputs": compile_loss(
            list(ZEROS.values()), list(ONES.values()), loss=["mse"]
        ),
        "three losses for two outputs": compile_loss(
            list(ZEROS.values()),
            list(ONES.values()),
            loss=["mse"] * 3,
            output_names=["a", "b"],
        ),
        "a loss for an unknown output": compile_loss(
            ZEROS, ONES, loss={"a": "mse", "c": "mse"}
        ),
        "an output forgotten in the losses": compile_loss(
            ZEROS, ONES, loss={"a": "mse"}
        ),
        "sample weights for some outputs": compile_loss(
            ZEROS, ONES, {"a": np.ones(2)}, loss=both
        ),
        "weight 1 as an int": compile_loss(0 * one, three, loss="mse", loss_weights=1),
        "weight 0 and a NaN": compile_loss(
            ZEROS, nan, loss=both, loss_weights={"a": 0.0, "b": 1.0}
        ),
        "Dice, sample weights 1 and 0": float(
            dice(pair_true, pair_pred, sample_weight=np.array([1.0, 0.0]))
        ),
        "Dice of the first example": float(dice(pair_true[:1], pair_pred[:1])),
        "Tversky of a false alarm, alpha=1, beta=0": prices[0],
        "Tversky of a false alarm, alpha=0, beta=1": prices[1],
    }


def main():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    warnings.simplefilter("ignore")
    import jax
    import keras

    record = {
        "versions": {"keras": keras.__version__, "jax": jax.__version__},
        "loss_weights": WEIGHTS,
        "initial": lists(initial_weights()),
        "data": dict(zip(("inputs", "targets"), map(lists, data()), strict=True)),
        "training": {name: train(name) for name in RATES},
        "golden": golden(),
        "traps": traps(),
    }
    TARGET.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
