"""Who has a cohort: claims, signs of life, processes that are gone."""

import os
import subprocess
import sys
import time

import pytest

from headwise.sweeps._store import _beats
from headwise.sweeps._store import _claims
from headwise.sweeps._store import _links
from headwise.sweeps._store import _processes


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Silent:
    """Signs of life that nobody hears."""

    def say(self, name, word, **numbers):
        pass


BEATS = {}
"""{worker: what its last sign of life holds}."""


@pytest.fixture
def worker(tmp_path):
    """Makes workers of one folder; those of `far` are of another machine."""
    BEATS.clear()

    def make(name, far=True):
        who = {"worker": name} | _processes.me() | ({"boot": "far"} if far else {})
        take = _links.by_link
        return _claims.Claims(tmp_path, take, who, Silent(), BEATS.get, stale=10.0)

    return make


def test_a_claim_is_taken_over_when_its_owner_stood_still(worker, clock):
    a, b, c = worker("a"), worker("b"), worker("c")
    claim = a.take(3)
    assert (claim.name, claim.number, claim.epoch) == ("000003.0", 3, 0)
    BEATS["a"] = {"count": 1}
    assert b.take(3) is None  # the first look
    clock.now += 9
    assert b.take(3) is None
    BEATS["a"] = {"count": 2}
    clock.now += 9
    assert b.take(3) is None  # it moved
    clock.now += 9.9
    assert b.take(3) is None
    assert c.take(3) is None  # by its own clock, from its own first look
    clock.now += 0.1
    assert b.take(3).epoch == 1
    assert c.take(3) is None
    with pytest.raises(_claims.LostClaim, match="cohort 3: another worker has taken"):
        claim.check()
    assert a.held(3) is None
    assert claim.lost


def test_a_count_that_goes_back_is_a_sign_of_life(worker, clock):
    """Files of another host may be seen late; any change counts."""
    a, b = worker("a"), worker("b")
    a.take(0)
    for count in (5, 4, None, 5):
        BEATS["a"] = {"count": count}
        assert b.take(0) is None
        clock.now += 9
    clock.now += 1
    assert b.take(0).epoch == 1


def test_the_heir_is_watched_anew(worker, clock):
    a, b, c = worker("a"), worker("b"), worker("c")
    a.take(0)
    assert b.take(0) is c.take(0) is None
    clock.now += 10
    assert b.take(0).epoch == 1
    assert c.take(0) is None
    clock.now += 10
    assert c.take(0).epoch == 2


def test_of_two_that_take_over_at_once_one_has_it(worker, clock, monkeypatch):
    a, b, c = worker("a"), worker("b"), worker("c")
    a.take(0)
    assert b.take(0) is c.take(0) is None
    clock.now += 10
    newest = b.newest(0)
    won = c.take(0)
    monkeypatch.setattr(b, "newest", lambda number: newest)  # it looked before
    assert b.take(0) is None
    won.check()


def test_what_is_left_is_free_at_once(worker):
    a, b = worker("a"), worker("b")
    claim = a.take(0)
    assert a.held(0) is claim
    a.close()
    claim.release()  # twice is once
    assert a.held(0) is None
    assert b.take(0).epoch == 1
    assert a.take(0) is None


def test_a_lost_claim_is_not_left(worker, clock, tmp_path):
    a, b = worker("a"), worker("b")
    claim = a.take(0)
    b.take(0)
    clock.now += 10
    heir = b.take(0)
    with pytest.raises(_claims.LostClaim):
        claim.beat("running")
    claim.release()
    heir.check()
    assert not list(tmp_path.glob("*.left"))


def test_a_claim_that_cannot_be_read_is_waited_for(worker, clock, tmp_path):
    (tmp_path / "000000.4").write_text("{")
    (tmp_path / "000000.x").write_text("what others put there")
    a = worker("a")
    assert a.take(0) is None
    clock.now += 10
    assert a.take(0).epoch == 5


def test_processes_of_this_machine_are_known_to_be_gone(worker, commands):
    code = "import sys; sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    commands.append(child)
    me = _processes.me()
    started = _processes._state(child.pid)[1]
    process = me | {"pid": child.pid, "started": started}
    assert _processes.is_alive(me) is True
    assert _processes.is_alive(process) is True
    # Another process had the number before; or it is another machine's.
    assert _processes.is_alive(process | {"started": "1"}) is False
    for name in ("host", "boot", "space"):
        assert _processes.is_alive(process | {name: "another"}) is None
    child.kill()
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert _processes.is_gone(process)  # nobody has asked how it ended: a zombie
    child.wait()
    assert _processes.is_gone(process)
    assert not _processes.is_gone({})
    assert not _processes.is_gone(me | {"pid": "1"})


def test_a_dead_owner_of_this_machine_is_followed_at_once(worker, tmp_path):
    far, near, b = worker("far"), worker("near", far=False), worker("b", far=False)
    far.take(0)
    near.take(1)
    for number in (0, 1):
        path = tmp_path / f"{number:06d}.0"
        path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 1'))
    assert b.take(0) is None
    assert b.take(1).epoch == 1


def test_signs_of_life_tell_what_is_done(tmp_path):
    (tmp_path / "beats").mkdir()
    beats = _beats.Beats(tmp_path / "beats/w.json", 0.02, {"worker": "w", "pid": 7})
    assert _beats.read(tmp_path, "w") is None
    beats.say("000000.0", "compiling")
    first = _beats.read(tmp_path, "w")
    assert first["says"] == {"000000.0": {"word": "compiling"}}
    assert (first["worker"], first["pid"]) == ("w", 7)
    beats.say("000000.0", "running", step=3, rate=float("inf"))
    assert _beats.read(tmp_path, "w")["says"] == {
        "000000.0": {"word": "running", "step": 3, "rate": None}
    }
    deadline = time.monotonic() + 60
    while _beats.read(tmp_path, "w")["count"] < first["count"] + 5:  # by itself
        assert time.monotonic() < deadline
        time.sleep(0.01)
    beats.say("000000.0", None)
    assert _beats.read(tmp_path, "w")["says"] == {}
    beats.close()
    last = _beats.read(tmp_path, "w")["count"]
    beats.say("000000.0", "running")
    assert _beats.read(tmp_path, "w")["count"] == last
    assert [path.name for path in (tmp_path / "beats").iterdir()] == ["w.json"]


def test_a_disk_that_takes_no_signs_of_life_is_told_once(tmp_path, caplog):
    beats = _beats.Beats(tmp_path / "away/w.json", 10.0, {})
    beats.say("a", "compiling")
    beats.say("a", "running")
    beats.close()
    (message,) = [r.getMessage() for r in caplog.records if r.name == "headwise"]
    assert message.startswith(f"{tmp_path}/away/w.json: no sign of life")
