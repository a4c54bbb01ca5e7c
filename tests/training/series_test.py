"""Functions of records: in a run each record is read once, with the same answers."""

import copy
import itertools
import math

import numpy as np

import headwise as hw
from headwise.training import _series

T = hw.training


def test_a_run_decides_as_its_whole_history_does():
    """Keras' `EarlyStopping.on_epoch_end`, line by line; each record read once."""
    rng = np.random.default_rng(0)
    reads = []

    class Read(dict):
        def get(self, *args):
            reads.append(1)
            return super().get(*args)

    for patience, mode, delta in itertools.product((1, 3), ("min", "max"), (0, 2)):
        stops = {
            metric: T.patience(metric, patience, min_delta=delta, mode=mode)
            for metric in ("validation/x", "grad_norm")
        }
        sign = 1 if mode == "min" else -1
        history, past, best, wait = [], {}, math.inf, 0
        reads.clear()
        for t in range(60):
            record = Read(step=t, values=Read(a=1.0), grad_norm=1.0)
            if t % 3 == 2:
                x = rng.choice([None, *rng.integers(0, 9, 5).tolist()])
                record["validation"] = Read(x=x)
                wait += 1
                if x is not None and sign * x < best - delta:
                    best, wait = sign * x, 0
            history.append(record)
            if t % 7 == 5:
                continue  # as where nothing but a validation is due
            records = _series.Records(history, past)
            for metric, stop in stops.items():
                said = stop(records)
                assert said == stop(records)
                if metric == "validation/x":
                    assert (said is not None) == (wait >= patience)
                counted = len(reads)
                assert said == stop(history)
                del reads[counted:]
        # Two stops, asked twice: a few looks a record, however many there are.
        assert len(reads) < 60 * 2 * 2 * 6
        first = _series.Records(history[:4], past)  # of the same run, shorter
        assert stops["validation/x"](first) == stops["validation/x"](history[:4])
        assert type(copy.deepcopy(first)) is list
