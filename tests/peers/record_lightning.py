"""Records a Lightning run with callbacks, for docs/guides/coming_from_lightning.md.

Run where it is installed; the tests need only the file that it writes:

    pip install "lightning==2.6.*" torch
    python -m tests.peers.record_lightning

Network, data and callbacks are those of the Keras script (`record_keras_callbacks`),
with what Lightning has beside: accumulated and clipped gradients.
"""

import importlib.metadata
import json
import logging
import pathlib
import tempfile
import warnings

from tests.peers import record_keras
from tests.peers import record_keras_callbacks

lists = record_keras.lists
TARGET = pathlib.Path(__file__).with_name("lightning.json")
EPOCHS, BATCH, RATE = 60, 6, 0.4
ACCUMULATE, CLIP = 2, 0.5
PLATEAU = {"factor": 0.5, "patience": 2, "threshold": 1e-3, "cooldown": 2}
PATIENCE = 6


def module():
    import lightning
    import torch
    from torch import nn

    class TwoHeads(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            for name, part in record_keras.initial_weights().items():
                self.layers[name] = nn.Linear(*part["kernel"].shape)
                with torch.no_grad():
                    self.layers[name].weight.copy_(torch.tensor(part["kernel"].T))
                    self.layers[name].bias.copy_(torch.tensor(part["bias"]))

        def losses(self, batch):
            x, y1, y2 = batch
            h = torch.tanh(self.layers["B"](torch.tanh(self.layers["A"](x))))
            return {
                "y1": nn.functional.mse_loss(self.layers["C"](h), y1),
                "y2": nn.functional.l1_loss(self.layers["D"](h), y2),
            }

        def total(self, losses):
            return sum(w * losses[n] for n, w in record_keras.WEIGHTS.items())

        def training_step(self, batch):
            losses = self.losses(batch)
            self.log_dict(losses, on_step=False, on_epoch=True)
            return self.total(losses)

        def validation_step(self, batch):
            losses = self.losses(batch)
            losses = {"loss": self.total(losses), **losses}
            self.log_dict({f"val_{name}": value for name, value in losses.items()})

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=RATE)
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, threshold_mode="abs", **PLATEAU
            )
            schedule = {"scheduler": schedule, "monitor": "val_loss"}
            return {"optimizer": optimizer, "lr_scheduler": schedule}

    return TwoHeads()


def loaders():
    import torch
    from torch.utils import data

    def of(examples, size):
        x, targets = examples
        arrays = (torch.tensor(a) for a in (x, targets["y1"], targets["y2"]))
        return data.DataLoader(data.TensorDataset(*arrays), batch_size=size)

    training, validation = record_keras_callbacks.data()
    return of(training, BATCH), of(validation, 12)


def train(folder, accumulate=ACCUMULATE, batch=BATCH):
    import lightning
    from lightning.pytorch import callbacks

    rows = []

    class Rows(lightning.Callback):
        def on_train_epoch_end(self, trainer, _):
            row = {n: float(v) for n, v in trainer.callback_metrics.items()}
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            rows.append(row | {"rate": rate})

    stop = callbacks.EarlyStopping("val_loss", patience=PATIENCE, mode="min")
    best = callbacks.ModelCheckpoint(
        folder, "best", "val_loss", mode="min", save_top_k=1
    )
    model = module()
    lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        gradient_clip_val=CLIP,
        callbacks=[stop, best, Rows()],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    ).fit(model, *loaders())
    import torch

    kept = torch.load(best.best_model_path, weights_only=False)
    restored = {n: lists(a.numpy().T) for n, a in kept["state_dict"].items()}
    return {
        "rows": rows,
        "stopped_epoch": stop.stopped_epoch,
        "best_epoch": kept["epoch"],
        "best_step": kept["global_step"],
        "restored": restored,
    }


def ragged():
    """Three batches an epoch, two of them a step: what the odd one is worth."""
    import lightning
    import torch
    from torch.utils import data

    class One(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(()))
            self.told = []

        def training_step(self, batch):
            self.told.append(float(self.w.detach()))
            return -self.w * batch.mean()  # a gradient of -batch

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = One()
    loader = data.DataLoader(torch.tensor([1.0, 1.0, 1.0]))
    lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, loader)
    return [*model.told, float(model.w.detach())]


def main():
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        record = train(folder)
    record = {
        "versions": {n: importlib.metadata.version(n) for n in ("lightning", "torch")},
        **record,
        "ragged": ragged(),
    }
    TARGET.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
