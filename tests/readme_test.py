"""The README's example runs as written and prints what it shows."""

import pathlib

import pytest

import headwise as hw
from experiments.tasks import brain
from tests import _pages

pytestmark = pytest.mark.optimized

ROOT = pathlib.Path(__file__).parents[1]


def test_example_runs_as_written():
    namespace = _pages.run_page(ROOT / "README.md")
    assert namespace["report"].names == ("y1", "y2")


def test_the_demos_table_and_verdict_are_what_its_trials_say():
    """`trials.jsonl` of `make demo`, without times and versions."""
    records = hw.sweeps.read(ROOT / "tests/reports/brain_trials.jsonl")
    title = "mean ± standard deviation over 4 seeds, held-out data"
    table = hw.reports.sweep_table(records, brain.SPEC.metrics, title)
    verdict = hw.reports.verdict(records, brain.SPEC.metrics)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```\n{table}\n\n{verdict}\n```" in text


def test_links_and_folders_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in _pages.links(text):
        assert (ROOT / link).exists(), link
    packages = {p.parent.name for p in ROOT.glob("research/headwise/*/__init__.py")}
    for package in packages:
        assert f"`{package}/`" in text, package


def test_every_experiment_is_named():
    links = _pages.links((ROOT / "README.md").read_text(encoding="utf-8"))
    tasks = {
        str(path.relative_to(ROOT)) for path in ROOT.glob("experiments/tasks/*.py")
    }
    assert tasks - {"experiments/tasks/__init__.py"} == {
        link for link in links if link.startswith("experiments/tasks/")
    }
