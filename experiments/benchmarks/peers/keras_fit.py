# /// script
# requires-python = ">=3.11"
# dependencies = ["keras==3.15.1", "jax==0.10.2", "numpy"]
# ///
"""Keras' `fit` with JAX behind it, of an MLP with some heads on arrays of NumPy.

A request's data: `features`, `width`, `layers`, `outputs` (heads of one number each),
`loss` of each ("mse" or "bce"), `size` of a batch, `steps` of a call, `together`
(`steps_per_execution`).
"""

import functools
import os

os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np
from _serve import seconds
from _serve import serve

EXAMPLES = 4096
LOSSES = {"mse": "mse", "bce": keras.losses.BinaryCrossentropy(from_logits=True)}


@functools.lru_cache(maxsize=8)
def _model(features, width, layers, outputs, loss, size, together):
    x = inputs = keras.Input((features,))
    for _ in range(layers):
        x = keras.layers.Dense(width, "tanh")(x)
    heads = {f"y{h}": keras.layers.Dense(1, name=f"y{h}")(x) for h in range(outputs)}
    model = keras.Model(inputs, heads)
    model.compile(
        keras.optimizers.Adam(1e-3),
        dict.fromkeys(heads, LOSSES[loss]),
        steps_per_execution=together,
    )
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(EXAMPLES, features)).astype(np.float32)
    targets = {
        name: rng.normal(size=(EXAMPLES, 1)).astype(np.float32) for name in heads
    }
    return model, rows, targets


def measure(name, calls, features, width, layers, outputs, loss, size, steps, together):
    """Seconds of so many calls."""
    assert name == "fit"
    model, rows, targets = _model(
        features, width, layers, outputs, loss, size, together
    )
    epochs = max(1, steps // (EXAMPLES // size))
    run = functools.partial(
        model.fit, rows, targets, batch_size=size, epochs=epochs, verbose=0
    )
    # A call is of whole epochs: told as if it had so many steps.
    share = steps / (epochs * (EXAMPLES // size))
    return [share * seconds(run) for _ in range(calls)]


if __name__ == "__main__":
    serve(measure, ["fit"], ["keras", "jax"])
