"""The text of a study in its folder: every command leaves it, every worker joins."""

import json
import pathlib

import pytest

import headwise as hw
from experiments import main
from experiments.harness import command
from experiments.harness import plan as plans
from experiments.harness import study as studies
from experiments.harness import texts
from launch import local
from launch import plan as places
from launch import worker

TINY = pathlib.Path(__file__).parents[1] / "launch/_tiny.py"
GRID = (f"--experiment={TINY}", "--weights=a=1,b=0.5:1", "--seeds=0:2")


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


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
    given = command.parse(["local", *GRID, f"--folder={folder}"], local.define, "")
    plan = plans.make(places.read(given))
    assert texts.write(plan) == name
    assert command.guarded(worker.main, ["worker", f"--folder={folder}"]) == 0
    records = hw.sweeps.read(folder)
    assert sorted((r["weights"]["b"], r["seed"]) for r in records) == [
        (b, seed) for b in (0.5, 1.0) for seed in (0, 1)
    ]
    assert texts_of(folder) == [name]  # the worker left no other
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
