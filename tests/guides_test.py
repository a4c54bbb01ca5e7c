"""The guides of a newcomer run as written: a model, a sweep of it, questions."""

import importlib
import pathlib
import re
import shlex

import matplotlib.pyplot as plt
import numpy as np
import pytest

import headwise as hw
from experiments.harness import command
from experiments.harness import request
from tests import _pages

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def test_your_model_trains_in_every_framework():
    names = _pages.run_page(DOCS / "guides" / "your_model.md")
    # The way back: the trained model says what `predict` says.
    outputs = names["predict_fn"](names["state"].params, names["unseen"])
    one = names["trained"](names["unseen"]["x"][0])
    np.testing.assert_allclose(one["size"], outputs["size"][0], rtol=1e-5)


def test_your_model_is_swept():
    names = _pages.run_page(DOCS / "guides" / "sweep_your_model.md")
    plt.close("all")
    assert {"near", "far"} <= set(names["best"]["metrics"])
    # Each is better where it weighs more.
    rows = [r for r in names["records"] if r["settings"]["lr"] == 0.03]
    for name in ("near", "far"):
        by_weight = {
            weight: np.mean(
                [r["metrics"][name] for r in rows if r["weights"][name] == weight]
            )
            for weight in (0.25, 0.75)
        }
        assert by_weight[0.75] < by_weight[0.25], by_weight


def test_questions_have_the_answers_that_they_show():
    names = _pages.run_page(DOCS / "guides" / "faq.md")
    # Ten, and each ends with more to read or with something that ran.
    page = (DOCS / "guides" / "faq.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == 10
    assert names["same"] == {"trunk": False, "C": True, "D": True}


def test_a_loss_of_your_own():
    names = _pages.run_page(DOCS / "guides" / "own_loss.md")
    # The pinball loss at 0.9 of 0..100 below and above 90, summed by hand.
    by_hand = (0.9 * sum(range(1, 11)) + 0.1 * sum(range(1, 91))) / 101
    np.testing.assert_allclose(names["values"]["high"], by_hand, rtol=1e-6)


def test_a_frozen_trunk_stays():
    names = _pages.run_page(DOCS / "guides" / "fine_tuning.md")
    # The heads of the warm-up are those of a linear model of the frozen features.
    np.testing.assert_array_equal(
        names["heads"].params["stem"], names["params"]["stem"]
    )


def test_weights_are_chosen():
    names = _pages.run_page(DOCS / "guides" / "choosing_weights.md")
    # Adam's first step is the rate times the sign of the gradient, at any weight.
    gradient = names["grads"]["width_mm"]["width_mm"]
    moved = names["moved"](
        names["optimizers"]["adam"], {"depth_m": 1.0, "width_mm": 1e-3}
    )
    np.testing.assert_allclose(moved["width_mm"], -0.01 * np.sign(gradient), rtol=1e-3)


EXPERIMENT = (DOCS / "guides" / "own_experiment.md").read_text(encoding="utf-8")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder, which one is in, with the page's file."""
    (code,) = re.findall(r"^```python mine.py\n(.*?)^```", EXPERIMENT, re.M | re.S)
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_an_experiment_of_your_own(mine, capsys):
    """Its commands in the order of the page, and the lines that it shows of each."""
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```", EXPERIMENT, re.M | re.S)
    assert [kind for kind, _ in blocks] == ["sh", "text"] * 4
    for (_, commands), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True):
        codes = []
        for line in commands.splitlines():
            module, *argv = shlex.split(line.removeprefix("python -m "))
            main = importlib.import_module(module).main
            codes.append(command.guarded(main, [module, *argv]))
        printed = "\n".join(capsys.readouterr())
        rows = [row.rstrip() for row in printed.splitlines()]
        for row in shown.splitlines():
            assert any(other.startswith(row) for other in rows), (row, printed)
        assert set(codes) == {2 if "error:" in shown else 0}
    records = hw.sweeps.read(mine / "studies/mine")
    assert {r["settings"]["balancer"] for r in records} == {"constant", "upgrad"}
    table = EXPERIMENT.split("The folder:")[1].split("\n## ")[0]
    for name in re.findall(r"`([\w.]+)/?`[,| ]", table):
        assert (mine / "runs/first" / name).exists(), name
    assert not (mine / "studies/more").exists()


def test_flags_of_its_table_are_flags(mine):
    flags = re.findall(r"^\| `(--\S+)` ", EXPERIMENT, re.M)
    assert len(flags) == 6
    for flag in [*flags, "--balancer=cagrad:c=0.4"]:
        request.read(["main", "--experiment=mine.py", flag])


@pytest.mark.slow
@pytest.mark.optimized  # its trainings take longer than the compiler
def test_class_imbalance():
    """What its table says is what it measures, to about the spread of the seeds."""
    path = DOCS / "guides" / "class_imbalance.md"
    measured = _pages.run_page(path)["measured"]
    plt.close("all")
    rows = re.findall(r"^\| `(\w+)`[^|]*\|(.*)\|$", path.read_text(), re.M)
    assert [name for name, _ in rows] == list(dict.fromkeys(n for n, _ in measured))
    for name, cells in rows:
        told = [float(cell.split()[0]) for cell in cells.split("|")]
        found = [
            np.mean(measured[name, steps][metric])
            for steps in (80, 240)
            for metric in ("dice", "found")
        ]
        np.testing.assert_allclose(told, found, atol=0.15, err_msg=name)
