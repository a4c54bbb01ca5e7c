"""docs/guides/studies.md: its code runs, and it names what there is."""

import pathlib
import re

import headwise as hw
from headwise.sweeps._store import _store
from tests import _pages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "guides" / "studies.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_prints_what_it_shows():
    _pages.run_page(PAGE)


def test_what_it_names_is_there():
    for name in re.findall(r"hw\.sweeps\.(\w+)", TEXT):
        assert hasattr(hw.sweeps, name)


def test_it_lists_the_folder(tmp_path):
    with _store.open(tmp_path, {"a": 1}):
        made = {path.name for path in tmp_path.iterdir()}
    section = TEXT.split("## A study's folder")[1].split("\n## ")[0]
    listed = re.findall(r"^\| `([\w.]+)", section, re.MULTILINE)
    made |= {"trials.jsonl", "optuna.log", "flags", "launches", "slopes"}
    assert made == {name.split("/")[0] for name in listed}
