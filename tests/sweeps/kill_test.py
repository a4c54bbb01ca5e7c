"""Workers that are killed, stopped and interrupted: no trial is lost, none is twice."""

import collections
import json
import os
import random
import signal
import time

import numpy as np
import pytest

import headwise as hw
from tests.sweeps import _studies

WORK = 10_000


def alone(seeds, folder):
    """What an uninterrupted run of one process comes to."""
    return hw.sweeps.run(
        _studies.program(WORK),
        _studies.DESIGN,
        seeds,
        steps=_studies.STEPS,
        folder=folder,
        **_studies.OPTIONS,
    )


def check(folder, records, seeds, whole):
    """Every trial is there once, with the bits of an uninterrupted run."""
    study = folder / "study"
    done = hw.sweeps.read(study)
    assert len(done) == len(records) == 3 * len(seeds)
    found = {hw.sweeps.identity(record): record for record in done}
    for record in records:
        again = found[hw.sweeps.identity(record)]
        assert _studies.result(again) == _studies.result(record)
        mine, theirs = (hw.sweeps.curves(f, record) for f in (study, whole))
        assert mine["t"].tolist() == theirs["t"].tolist()
        for head in "ab":
            np.testing.assert_array_equal(mine["values"][head], theirs["values"][head])
    assert len(list((study / "done").glob("*.json"))) == len(records)
    lines = (study / "trials.jsonl").read_text().splitlines()
    assert len(lines) <= len(records)  # a kill between a commit and its line
    outs = list(folder.glob("*.out"))
    assert outs
    texts = json.loads(json.dumps([_studies.result(record) for record in records]))
    assert all(json.loads(out.read_text()) == texts for out in outs)


@pytest.mark.parametrize(
    "kills", [6, pytest.param(24, marks=pytest.mark.slow)], ids=str
)
def test_workers_that_are_killed_at_random(kills, tmp_path):
    """Each other one at work, the rest anywhere; none ends before it may be killed."""
    rng, study = random.Random(kills), tmp_path / "study"
    seeds = list(range(max(4, kills // 3)))

    def at_work(pid):
        """Or there is no more of it."""
        texts = [path.read_text() for path in study.glob("claims/[0-9]*.[0-9]*")]
        done = len(list(study.glob("done/*.json")))
        return any(f'"pid": {pid}' in text for text in texts) or done == 3 * len(seeds)

    with _studies.Nursery(tmp_path, seeds, WORK, hold="end") as nursery:
        whole = alone(seeds, tmp_path / "whole")
        running = collections.deque(nursery.start() for _ in range(3))
        for number in range(kills):
            victim = running.popleft()
            if number % 2:
                wait_for(lambda: at_work(victim))  # noqa: B023
            time.sleep(rng.uniform(0.0, 0.2))
            os.kill(victim, signal.SIGKILL)
            assert nursery.wait(victim) == -signal.SIGKILL
            running.append(nursery.start())
        nursery.held.unlink()
        assert [nursery.wait(pid) for pid in running] == [0] * 3
    assert list(study.glob("claims/[0-9]*.1*"))  # someone's work was taken over
    check(tmp_path, whole, seeds, tmp_path / "whole")


def test_one_that_is_stopped_is_taken_over_and_writes_nothing_after(tmp_path):
    seeds, stale = [0], 0.6
    study = tmp_path / "study"
    with _studies.Nursery(tmp_path, seeds, WORK, stale, hold="save") as nursery:
        first = nursery.start()
        wait_for(lambda: list((study / "ckpt").glob("*.0/*/*")))
        os.kill(first, signal.SIGSTOP)
        nursery.held.unlink()
        second = nursery.start()
        assert nursery.wait(second) == 0
        before = tree(study)
        assert {path.name for path in (study / "claims").glob("*.1")}
        os.kill(first, signal.SIGCONT)
        assert nursery.wait(first) == 0
        # A checkpoint that was on its way may still come, in the folder of its claim.
        new = tree(study)
        assert {path: data for path, data in new.items() if path in before} == before
        assert all("ckpt/000000.0/" in path.as_posix() for path in new.keys() - before)
    text = "".join(path.read_text() for path in (study / "events").iterdir())
    assert '"lost"' in text
    assert '"duplicate"' not in text
    assert len(list(tmp_path.glob("*.out"))) == 2


def test_sigterm_ends_the_chunk_and_the_next_worker_goes_on(tmp_path):
    seeds, study = [0], tmp_path / "study"
    with _studies.Nursery(tmp_path, seeds, WORK, hold="save") as nursery:
        first = nursery.start()
        wait_for(lambda: list((study / "ckpt").glob("*.0/*/*")))
        os.kill(first, signal.SIGTERM)
        nursery.held.unlink()
        assert nursery.wait(first) == 75
        assert list((study / "claims").glob("*.0.left"))
        assert nursery.wait(nursery.start()) == 0
    assert len(hw.sweeps.read(study)) == 3


def wait_for(found, seconds=300):
    """Waits until something is there."""
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.02)


def tree(study):
    """All files of a study but signs of life and events, and what they hold."""
    return {
        path: path.read_bytes()
        for path in study.rglob("*")
        if path.is_file()
        and path.parent.name not in ("beats", "events")
        and "tmp" not in path.as_posix().split("/study/")[1]
    }
