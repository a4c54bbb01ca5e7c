"""What a sweep shows when nothing came of it, and which weights it takes for best."""

import matplotlib.pyplot as plt
import pytest

from experiments.harness import show
from experiments.harness import text
from experiments.harness.spec import Spec

SPEC = Spec(
    heads=("a",),
    metrics={"m": True, "n": False},
    front=("m", "n"),
    steps=1,
    seeds=(0, 1),
    defaults={},
)


def record(a, seed, finite=True, **metrics):
    return {"weights": {"a": a}, "seed": seed, "finite": finite, "metrics": metrics}


def test_a_sweep_that_diverged_is_shown_and_has_no_best(tmp_path, capsys):
    records = [record(a, s, False, m=None, n=None) for a in (1.0, 2.0) for s in (0, 1)]
    show.show_sweep(SPEC, records, tmp_path)
    assert not plt.get_fignums()
    assert "no finite trial: all 4 diverged" in capsys.readouterr().out
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"table.txt", "front.png", "weights.png"}
    with pytest.raises(FloatingPointError, match="every trial of the sweep diverged"):
        show.best_row(SPEC, records)


def test_best_weights_are_those_of_the_first_metric():
    records = [record(1.0, 0, n=3.0), record(2.0, 0, m=1.0), record(3.0, 0, m=2.0)]
    assert show.best_row(SPEC, records)["weights"] == {"a": 3.0}
    with pytest.raises(text.UsageError, match="expected some of n; got m"):
        show.best_row(SPEC, records[:1])
