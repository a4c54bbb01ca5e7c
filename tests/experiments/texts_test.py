"""The text of a study in its folder: every command leaves it, every worker joins."""

import json
import pathlib

import pytest

import headwise as hw
from experiments import main
from experiments.harness import command
from experiments.harness import plan as plans
from experiments.harness import study as studies
from experiments.harness import sweep
from experiments.harness import texts
from launch import local
from launch import plan as places
from launch import worker

TINY = pathlib.Path(__file__).parents[1] / "launch/_tiny.py"
GRID = (f"--experiment={TINY}", "--weights=a=1,b=0.5:1", "--seeds=0:2")


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def planned(folder, *words):
    argv = ["local", *GRID, f"--folder={folder}", *words]
    return plans.make(places.read(command.parse(argv, local.define, "")))


def texts_of(folder):
    return [path.stem for path in sorted(folder.glob("flags/*.json"))]


def test_a_worker_joins_a_study_that_only_main_began(tmp_path, monkeypatch, capsys):
    """And every launcher writes the same text, from wherever it is called."""
    folder = tmp_path / "study"
    flags = ("--sweep", *GRID, f"--folder={folder}")
    with monkeypatch.context() as patch:
        patch.setattr(hw.sweeps, "run", interrupted)
        assert command.guarded(main.main, ["main", *flags]) == 75
    (name,) = texts_of(folder)
    assert hw.sweeps.read(folder) == []
    assert texts.write(planned(folder)) == name
    assert command.guarded(worker.main, ["worker", f"--folder={folder}"]) == 0
    records = hw.sweeps.read(folder)
    assert sorted((r["weights"]["b"], r["seed"]) for r in records) == [
        (b, seed) for b in (0.5, 1.0) for seed in (0, 1)
    ]
    assert texts_of(folder) == [name]  # the worker left no other
    # What is asked of it later needs its folder alone.
    key = sorted((folder / "done").iterdir())[0].stem
    capsys.readouterr()
    for module in (main, local):
        words = ["x", "--sweep"][: 2 if module is main else 1]
        words += [f"--folder={folder}", f"--verify={key[:9]}"]
        assert command.guarded(module.main, words) == 0
        assert f"trial {key} (a=1 b=" in capsys.readouterr().out
        assert command.guarded(module.main, [*words[:-1], "--verify=x"]) == 2
        assert "--verify: expected the key of one trial" in capsys.readouterr().err
        assert command.guarded(module.main, [*words[:-2], "--verify=x"]) == 2
        assert "--verify: expected --folder" in capsys.readouterr().err
    assert texts.write(texts.plan(texts.read(folder)[name], folder)) == name


def test_a_table_has_one_text_wherever_it_lies(tmp_path):
    """Workers elsewhere do not see the file; the text holds what it says."""
    names = set()
    for place in ("here", "there"):
        file = tmp_path / place / "design.csv"
        file.parent.mkdir()
        file.write_text("a,b,lr\n1,0.5,0.1\n1,1,0.2\n")
        words = [GRID[0], f"--design={file}", f"--folder={tmp_path / 'study'}"]
        plan = plans.make(
            studies.read(command.parse(["x", *words], studies.define, ""))
        )
        plan.claim()
        names.add(texts.write(plan))
        file.unlink()
    (name,) = names
    text = texts.read(tmp_path / "study", name)[name]
    assert texts.plan(text, tmp_path / "study").trials == plan.trials


def test_a_mesh_leaves_no_text_and_says_so(tmp_path, monkeypatch, capsys):
    """Its trials take all devices that there are: nobody could join."""
    flags = ("--sweep", *GRID, "--mesh=data:1", f"--folder={tmp_path}")
    monkeypatch.setattr(hw.sweeps, "run", interrupted)
    assert command.guarded(main.main, ["main", *flags]) == 75
    assert "no launch.worker can join" in capsys.readouterr().out
    assert texts_of(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"flags": []})])
def test_what_is_no_text(text, tmp_path, capsys):
    (tmp_path / "flags").mkdir()
    (tmp_path / "flags/ab.json").write_text(text)
    assert command.guarded(worker.main, ["worker", f"--folder={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "ab.json: is no text of a study" in error
    assert error.count("\n") == 1


def test_slopes_of_a_study_that_is_there(tmp_path, capsys):
    """x = p a / (a + b) nearly, so d x / d log a = x b / (a + b) = - d x / d log b."""
    words = ["main", "--sweep", f"--folder={tmp_path}"]
    assert command.guarded(main.main, [*words, "--slopes"]) == 2
    assert "holds no launched study" in capsys.readouterr().err
    plan = planned(tmp_path, "--steps=300", "--balancers=constant,equal")
    assert len(sweep.train(plan)) == 6
    capsys.readouterr()
    assert command.guarded(main.main, [*words, "--slopes"]) == 0
    out = capsys.readouterr().out
    assert "slopes of 4 trials in 2 weights" in out
    (row,) = [line for line in out.splitlines() if line.startswith("a=1 b=0.5")]
    assert row.count("↑") == row.count("↓") == 1  # more x is better: a up, b down
    assert max(map(len, out.splitlines())) <= 100
    records = hw.sweeps.read(tmp_path)
    assert [("slopes" in r) for r in records].count(True) == 4
    for record in records:
        if record["weights"]:
            a, b, x = *record["weights"].values(), record["metrics"]["x"]
            found = record["slopes"]["x"]
            assert found["a"] == pytest.approx(x * b / (a + b), rel=1e-4)
            assert found["b"] == pytest.approx(-x * b / (a + b), rel=1e-4)
    # Again: what is kept is shown, and nothing is trained.
    before = sorted(tmp_path.rglob("*.json"))
    assert command.guarded(main.main, [*words, "--slopes"]) == 0
    assert capsys.readouterr().out == out
    assert sorted(tmp_path.rglob("*.json")) == before
