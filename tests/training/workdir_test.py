"""claim_workdir: a folder belongs to one configuration; nothing is half written."""

import functools
import json

import pytest

import headwise as hw

CONFIG = {"seed": 0, "weights": {"a": 1.0}}


def test_same_run_takes_its_folder_up_again(tmp_path):
    path = hw.training.claim_workdir(tmp_path / "deep" / "run", CONFIG)
    assert json.loads((path / "run.json").read_text()) == CONFIG
    assert hw.training.claim_workdir(path, CONFIG) == path


def test_another_run_is_refused_and_nothing_changes(tmp_path):
    hw.training.claim_workdir(tmp_path, CONFIG)
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(
        hw.training.WorkdirError, match=r"another run: seed was 0, is 1"
    ):
        hw.training.claim_workdir(tmp_path, CONFIG | {"seed": 1})
    assert (tmp_path / "run.json").read_text() == before


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".env"])
def test_folder_with_other_files_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(hw.training.WorkdirError, match="holds files that are no run"):
        hw.training.claim_workdir(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_path_under_a_file_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(hw.training.WorkdirError, match="not writable"):
        hw.training.claim_workdir(tmp_path / "file" / "run", CONFIG)


def test_what_is_told_is_no_error(tmp_path, caplog):
    claim = functools.partial(hw.training.claim_workdir, tmp_path, CONFIG)
    claim(told={"mine.py": "abc"})
    claim(told={"mine.py": "abc"})
    claim()
    assert caplog.messages == []
    claim(told={"mine.py": "xyz"})
    assert caplog.messages == [f"{tmp_path}: mine.py has changed since it was made"]
    with pytest.raises(hw.training.WorkdirError, match="seed was 0, is 1"):
        hw.training.claim_workdir(tmp_path, CONFIG | {"seed": 1})


@pytest.mark.parametrize("text", ["{", "[1]", "3", "null", "\xff", "[" * 100_000])
def test_damaged_record_is_named(text, tmp_path):
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(hw.training.WorkdirError, match=r"run\.json is damaged"):
        hw.training.claim_workdir(tmp_path, CONFIG)


def test_home_is_found_and_addresses_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hw.training.claim_workdir("~/run", CONFIG) == tmp_path / "run"
    for address in ("gs://bucket/run", "s3://bucket/run"):
        for take in (
            lambda path: hw.training.claim_workdir(path, CONFIG),
            lambda path: hw.training.hold_workdir(path).__enter__(),
            hw.training.Checkpoints,
        ):
            with pytest.raises(
                hw.training.WorkdirError, match=rf"workdir {address}: .*got an address"
            ):
                take(address)
    with pytest.raises(hw.training.WorkdirError, match="workdir ~nobody"):
        hw.training.claim_workdir("~nobody.here/run", CONFIG)
