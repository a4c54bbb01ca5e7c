"""How a study stands, from elsewhere: read by two looks, without writing."""

import json
import os
import pathlib
import time

import headwise as hw
from experiments.harness import command
from headwise.sweeps._store import _store
from launch import status


def look(capsys, *words):
    code = command.guarded(status.main, ["status", *map(str, words)])
    return code, *capsys.readouterr()


def files(folder):
    """All that is there, with what it holds; not what is being written just now."""
    paths = sorted(pathlib.Path(folder).rglob("[!.]*"))
    return {str(p): p.read_bytes() for p in paths if p.is_file()}


def test_no_study_is_one_line_and_nothing_is_made(tmp_path, capsys):
    folder = tmp_path / "study"
    code, out, err = look(capsys, folder)
    assert (code, out) == (2, "")
    assert err == f"error: folder {folder}: holds no study\n"
    assert not folder.exists()
    assert look(capsys)[2].startswith("error: expected the folder of a study")
    code, _, err = look(capsys, "--folder=x", "more")
    assert (code, err) == (2, "error: expected flags only, got 'more'\n")


def test_a_study_that_was_launched_and_waits_for_its_turn(tmp_path, capsys):
    """As in the queue of a cluster."""
    (tmp_path / "launches").mkdir()
    (tmp_path / "launches/ab.sh").touch()  # what else a launcher keeps there
    (tmp_path / "launches/cd.json").touch()  # torn
    said = {"user": "eve", "host": "login", "engine": "slurm", "command": "python x"}
    for i in range(10):
        text = json.dumps(said | {"time": f"2026-01-0{i}"})
        (tmp_path / f"launches/{i}.json").write_text(text)
    code, out, err = look(capsys, tmp_path)
    assert (code, err) == (75, "")
    lines = out.splitlines()
    assert lines[:3] == ["no worker has begun", "launched:", "  2 before"]
    assert lines[-1] == "  2026-01-09 eve on login: slurm, python x"
    assert len(lines) == 3 + status.SHOWN


def test_a_study_on_its_way(tmp_path, capsys, monkeypatch):
    """A worker that beats is heard; one that ended or broke is told as such."""
    monkeypatch.setenv("SLURM_JOB_ID", "47")
    rows = [{"weights": {"a": 1.0}, "seed": s, "varied": {}} for s in range(3)]
    with _store.open(tmp_path, {"steps": 9}, worker="w1", stale=3.0) as store:
        code, out, _ = look(capsys, tmp_path, "--wait=0")
        assert (code, out) == (75, "0 of 0 trials are done\n")
        store.event("start", trials=3)
        code, out, _ = look(capsys, tmp_path, "--wait=0")
        assert (code, out) == (75, "0 of 3 trials are done\n")
        text = {"trials": ["k0", "k1", "k2"], "rows": rows, "mode": "scan"}
        assert store.compose(0, text)
        claim = store.claim(0)
        numbers = {"cohort": 0, "step": 3, "steps": 9, "trials": 3, "rate": 30.0}
        claim.beat("running", **numbers)
        store.event("plan", words="3 trials, 1 cohort, scanned (told so)")
        broken = hw.sweeps.record({"a": 1.0}, 1, {}, stopped=2, error="head a broke")
        store.commit("k1", broken)
        time.sleep(0.3)
        before = set(files(tmp_path))
        code, out, err = look(capsys, tmp_path, "--wait=60")
        assert (code, err) == (75, "")
        assert set(files(tmp_path)) == before
        lines = out.splitlines()
        assert lines[0] == "1 of 3 trials are done, 1 of them without a result"
        assert "3 trials, 1 cohort, scanned (told so)" in lines
        (worker,) = [line for line in lines if line.strip().startswith("w1 ")]
        assert "w1 (SLURM job 47, " in worker
        assert f"process {os.getpid()}): heard 0 s ago" in worker
        assert "running cohort 0, step 3 of 9, 3 trials" in worker
        assert "  0: 3 trials, 1 done, scan, claimed by w1" in lines
        assert "  k1 a=1 seed=1: step 2: head a broke" in lines
        whole = hw.sweeps.record({"a": 1.0}, 0, {"m": 1.0})
        for key in ("k0", "k2"):
            store.commit(key, whole)
        store.event("end", code=0, why="")
    code, out, _ = look(capsys, f"--folder={tmp_path}")
    assert code == 1  # done, and one has no result
    assert "ended with 0" in out
    assert "not done" not in out
    kept = files(tmp_path)
    look(capsys, tmp_path)
    assert files(tmp_path) == kept
