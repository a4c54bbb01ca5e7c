"""Records a Keras run with callbacks, for coming_from_keras.md and its test.

Run where Keras is installed; the tests need only the file that it writes:

    pip install "keras==3.15.*" jax
    KERAS_BACKEND=jax python -m tests.peers.record_keras_callbacks

The script is the one of the page, with what it measures written down: values of every
epoch as `history` and the CSV tell them, learning rates, the epoch that was best and
the weights that are restored. The callback of TensorBoard wants TensorFlow and is
left out without it; it changes no number.
"""

import csv
import importlib.util
import json
import os
import pathlib
import tempfile
import warnings

import numpy as np

from tests.peers import record_keras

TARGET = pathlib.Path(__file__).with_name("keras_callbacks.json")
EPOCHS, BATCH, RATE = 60, 8, 0.4
PLATEAU = {"factor": 0.5, "patience": 2, "min_delta": 1e-3, "cooldown": 2}
PATIENCE = 6


def data():
    """24 examples to train on, 12 to validate on; targets with something to learn."""

    def examples(count, phase):
        x = record_keras.waves((count, 3), phase)
        noise = 0.5 * record_keras.waves((count, 3), 3 * phase)
        y1 = np.stack([np.sin(x.sum(1)), x[:, 0] * x[:, 1]], 1) + noise[:, :2]
        y2 = np.abs(x).sum(1, keepdims=True) + noise[:, 2:]
        return x, {"y1": y1.astype(np.float32), "y2": y2.astype(np.float32)}

    return examples(24, 5.0), examples(12, 2.0)


def train(folder):
    import keras
    from keras.callbacks import CSVLogger
    from keras.callbacks import EarlyStopping
    from keras.callbacks import ModelCheckpoint
    from keras.callbacks import ReduceLROnPlateau
    from keras.callbacks import TensorBoard
    from keras.callbacks import TerminateOnNaN

    (x, targets), validation = data()
    layers = {
        name: keras.layers.Dense(shape[1], activation="tanh" if name in "AB" else None)
        for name, shape in record_keras.LAYERS.items()
    }
    inputs = keras.Input((3,))
    h = layers["B"](layers["A"](inputs))
    model = keras.Model(inputs, {"y1": layers["C"](h), "y2": layers["D"](h)})
    for name, weights in record_keras.initial_weights().items():
        layers[name].set_weights([weights["kernel"], weights["bias"]])
    model.compile(
        optimizer=keras.optimizers.SGD(RATE),
        loss={"y1": "mse", "y2": "mae"},
        loss_weights=record_keras.WEIGHTS,
    )
    stop = EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)
    callbacks = [
        stop,
        ModelCheckpoint(f"{folder}/best.keras", "val_loss", save_best_only=True),
        ReduceLROnPlateau("val_loss", **PLATEAU),
        CSVLogger(f"{folder}/log.csv"),
        TerminateOnNaN(),
    ]
    with_tensorboard = importlib.util.find_spec("tensorflow") is not None
    if with_tensorboard:
        callbacks.append(TensorBoard(f"{folder}/tensorboard"))
    history = model.fit(
        x,
        targets,
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        validation_data=validation,
        validation_batch_size=12,
        callbacks=callbacks,
        verbose=0,
    ).history
    final = {
        name: dict(zip(("kernel", "bias"), layer.get_weights(), strict=True))
        for name, layer in layers.items()
    }
    saved = keras.models.load_model(f"{folder}/best.keras").get_weights()
    same = all(map(np.array_equal, saved, model.get_weights()))
    with open(f"{folder}/log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    return {
        "history": record_keras.lists(history),
        "stopped_epoch": int(stop.stopped_epoch),
        "best_epoch": int(stop.best_epoch),
        "restored": record_keras.lists(final),
        "the checkpoint is what is restored": same,
        "tensorboard": with_tensorboard,
        "csv": sorted(rows[0]),
    }


def main():
    os.environ.setdefault("KERAS_BACKEND", "jax")
    warnings.simplefilter("ignore")
    import jax
    import keras

    with tempfile.TemporaryDirectory() as folder:
        record = train(folder)
    settings = {"rate": RATE, "batch": BATCH, "patience": PATIENCE, "plateau": PLATEAU}
    record = {
        "versions": {"keras": keras.__version__, "jax": jax.__version__},
        "settings": settings,
        **record,
    }
    TARGET.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
