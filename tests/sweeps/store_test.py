"""A study's store: what it keeps, through races, kills, stops and disks that fail."""

import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise.sweeps._store import _claims
from headwise.sweeps._store import _events
from headwise.sweeps._store import _store

ROOT = pathlib.Path(__file__).parents[2]
TEXT = {"program": "p", "settings": {"lr": 0.1, "heads": ["a", "b"]}, "steps": 8}
MADE = {"versions": {}, "revision": None}


def record(weight=1.0, metric=0.5, **others):
    return hw.sweeps.record({"a": weight}, 0, {"m": metric}, made_with=MADE, **others)


def told(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "headwise"]


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    folder = None if request.param == "memory" else tmp_path / "study"
    with _store.open(folder, TEXT) as opened:
        yield opened


def test_records_are_committed_once(store):
    one, other = record(), record(metric=0.25)
    assert store.records() == {}
    assert store.commit("aa", one) == "new"
    assert store.commit("aa", one) == "equal"
    assert store.commit("aa", other) == "differs"
    assert store.commit("bb", other) == "new"
    assert store.commit("aa.1", other) == "new"  # a second attempt
    assert store.records() == {"aa": one, "bb": other, "aa.1": other}
    assert store.older() == []


def test_cohorts_are_in_one_order(store):
    first, second = {"trials": ["aa"], "mode": "vmap"}, {"trials": ["bb"]}
    assert store.cohorts() == []
    assert not store.compose(1, second)  # not the next
    assert store.compose(0, first)
    assert not store.compose(0, second)
    assert store.compose(1, second)
    assert store.cohorts() == [first, second]


def test_batches_are_asked_once(store):
    assert store.asks(0) is None
    assert store.ask(0, {"points": [1.0]})
    assert not store.ask(0, {"points": [2.0]})
    assert store.asks(0) == {"points": [1.0]}
    assert store.asks(1) is None


def test_a_cohort_goes_its_way(store):
    store.compose(0, {"trials": ["aa"]})
    claim = store.claim(0)
    assert (claim.number, claim.epoch) == (0, 0)
    claim.beat("compiling")
    claim.beat("running", step=1, rate=jnp.float32(2))
    claim.check()
    store.save(claim, 1, {"w": jnp.ones(2)})
    store.wait(claim)
    store.curves(claim, 0, {"t": np.arange(1), "values": {"a": np.ones((1, 1))}})
    store.event("report", step=jnp.int32(1), value=float("nan"))
    store.commit("aa", record())
    store.finished(claim)


# What is in a folder.


def open_at(folder, **options):
    return _store.open(folder, TEXT, worker=options.pop("worker", None), **options)


def test_a_folder_holds_one_study(tmp_path):
    with open_at(tmp_path):
        pass
    with _store.open(tmp_path, {"steps": 8.0, "program": "p"} | TEXT):
        pass  # whatever the order, 8.0 is 8
    before = listing(tmp_path)
    others = TEXT | {"steps": 9, "program": "p" * 300, "settings": {"lr": 0.2}}
    with pytest.raises(hw.sweeps.StudyError) as error:
        _store.open(tmp_path, others)
    text = str(error.value)
    assert text.startswith(
        f'folder {tmp_path}: belongs to another study: program was "p"'
    )
    assert 'settings.heads was ["a", "b"], is not set; ' in text
    assert "settings.lr was 0.1, is 0.2; steps was 8, is 9 (give another" in text
    assert len(text) < 500
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("gs://bucket/study", "expected a folder of this machine, got an address"),
        ("file", "expected a folder, found a file"),
        ("a\\b", "expected a path without backslash"),
        ("torn", "study.json: is damaged (Expecting"),
        ("foreign", "study.json: is no study of Headwise"),
    ],
)
def test_a_folder_that_cannot_hold_a_study_is_one_line(folder, words, tmp_path):
    (tmp_path / "file").write_text("mine")
    for name, text in (("torn", '{"text"'), ("foreign", '{"name": "x"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text(text)
    before = listing(tmp_path)
    path = folder if ":" in folder else tmp_path / folder
    with pytest.raises(hw.sweeps.StudyError, match=re.escape(words)) as error:
        open_at(path)
    assert "\n" not in str(error.value)
    assert listing(tmp_path) == before


def test_a_person_can_read_a_study(tmp_path):
    with open_at(tmp_path, worker="w") as store:
        store.compose(0, {"trials": ["aa"], "mode": "vmap"})
        claim = store.claim(0)
        assert store.claim(0) is claim
        claim.beat("running", step=3)
        store.event("report", step=jnp.int32(1), value=float("nan"), names=("a",))
        store.commit("aa", record())
        store.commit("aa", record(metric=0.25))
    read = {p: json.loads(p.read_text()) for p in sorted(tmp_path.rglob("*.json"))}
    study = read[tmp_path / "study.json"]
    assert study["text"] == TEXT
    assert study["made_with"]["versions"]["jax"] == jax.__version__
    assert read[tmp_path / "cohorts/000000.json"] == {"trials": ["aa"], "mode": "vmap"}
    assert read[tmp_path / "done/aa.json"] == record()
    assert read[tmp_path / "beats/w.json"]["worker"] == "w"
    owner = json.loads((tmp_path / "claims/000000.0").read_text())
    assert (owner["worker"], owner["pid"]) == ("w", os.getpid())
    assert (tmp_path / "claims/000000.0.left").exists()
    assert (tmp_path / "trials.jsonl").read_text() == json.dumps(record()) + "\n"
    events, torn = _events.read(tmp_path)
    assert torn == []
    assert [event["kind"] for event in events] == [
        *("cohort", "claim", "report", "done", "duplicate"),
    ]
    assert events[2] | {"step": 1, "value": None, "names": ["a"]} == events[2]
    assert events[4]["result"] == "differs"


def test_a_torn_line_of_events_costs_itself_alone(tmp_path):
    with open_at(tmp_path, worker="w") as store:
        for step in range(4):
            store.event("report", step=step, text="ü")
        path = tmp_path / "events/w.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[1] = lines[1].replace(b'"step": 1', b'"step": 7')  # a flipped bit
        lines[2] = lines[2][:20] + b"\n"
        path.write_bytes(b"".join(lines) + lines[0][:30])  # a kill
        store.event("after")
    events, torn = _events.read(tmp_path)
    assert [event.get("step", event["kind"]) for event in events] == [0, 3, "after"]
    assert torn == [f"{path}: lines 2, 3, 5: torn"]


def test_what_cannot_be_read_is_told_and_passed_over(tmp_path, caplog):
    with open_at(tmp_path) as store:
        for number in range(3):
            store.compose(number, {"trials": [f"{number:02x}"]})
            store.commit(f"{number:02x}", record(float(number)))
    (tmp_path / "cohorts/000001.json").write_text('{"trials": [')
    (tmp_path / "done/01.json").write_text('{"weights": {"a": 1.0}}')
    with open_at(tmp_path) as store:
        assert [c["trials"] for c in store.cohorts()] == [["00"], [], ["02"]]
        assert sorted(store.records()) == sorted(store.records()) == ["00", "02"]
        assert len(told(caplog)) == 2
        assert "cohorts/000001.json: is damaged (Expecting" in told(caplog)[0]
        assert told(caplog)[1].endswith("done/01.json: is no record: left out")
        # What is in the way of a result is kept aside.
        assert store.commit("01", record(1.0)) == "new"
        assert sorted(store.records()) == ["00", "01", "02"]
    assert told(caplog)[2].endswith("is no record: moved to 01.json.damaged")
    assert (tmp_path / "done/01.json.damaged").exists()


def test_records_of_an_older_study_are_there(tmp_path):
    hw.sweeps.append(tmp_path, record(), record(2.0))
    with open_at(tmp_path) as store:
        assert store.records() == {}
        assert store.older() == [record(), record(2.0)]
        store.commit("aa", record(2.0, 0.75))
        assert store.older() == [record()]
    assert hw.sweeps.read(tmp_path) == [record(), record(2.0, 0.75)]


def test_a_lost_claim_writes_nothing(tmp_path):
    with open_at(tmp_path) as store:
        claim = store.claim(0)
        (tmp_path / "claims/000000.1").write_text("{}")
        before = listing(tmp_path)
        for act in (
            lambda: store.save(claim, 1, {"w": jnp.ones(2)}),
            lambda: store.curves(claim, 0, {"t": np.arange(1)}),
            claim.beat,
            claim.check,
        ):
            with pytest.raises(_claims.LostClaim, match="cohort 0: another worker"):
                act()
        assert listing(tmp_path) == before
    assert not (tmp_path / "claims/000000.0.left").exists()


def test_what_happened_first_is_told(tmp_path, caplog):
    """The end has its own trouble with a folder that is gone."""

    def work(last):
        with open_at(tmp_path / "study") as store:
            store.claim(0)
            (tmp_path / "study").rename(tmp_path / f"away {last}")
            if last:
                store.commit("aa", record())

    with pytest.raises(OSError, match=r"done/aa\.json: No such file or directory$"):
        work(True)
    assert told(caplog)[-1].endswith("claims/000000.0.left: No such file or directory")
    with pytest.raises(OSError, match=r"000000\.0\.left: No such file or directory$"):
        work(False)


# Processes and disks.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def faults(folder):
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweeps._store_faults", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": "research:."},
        stdout=subprocess.PIPE,
        timeout=900,
        check=True,
        text=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["by_link", "by_folder"])
def test_of_many_that_race_for_a_name_one_has_it(way, faults):
    found = faults["raced"][way]
    owners = [(name, me) for me, taken in enumerate(found["taken"]) for name in taken]
    assert [me for _, me in sorted(owners)] == found["held"]
    assert len(owners) == len(found["held"]) == 60


def test_workers_that_race_for_trials_share_them(faults):
    found = faults["composed"]
    keys = [key for cohort in found["cohorts"][0] for key in cohort]
    assert sorted(keys) == [f"{i:02x}" for i in range(12)]
    assert found["cohorts"] == [found["cohorts"][0]] * 3
    assert found["lines"] == 12


def test_an_owner_that_was_stopped_finds_its_claim_lost(faults):
    found = faults["taken_over"]
    assert found["live"] is None  # it is alive: nobody takes it
    epoch, waited, step, restored = found["heir"]
    assert (epoch, step, restored) == (1, 1, 1)
    assert waited >= 2.0
    owner = found["owner"]
    assert owner["lost"].startswith("cohort 0: another worker has taken it over")
    assert owner["refused"] == ["check", "beat", "save", "curves"]
    assert owner["again"] is None
    assert found["more"] <= 1  # what it was writing when it was stopped
    assert found["checkpoints"] == ["000000.0"]


def test_a_worker_that_was_killed_is_followed_at_once_on_its_machine(faults):
    alive, unreaped, reaped, far, stale, left = faults["gone"]
    assert (alive, far) == (None, None)
    assert (unreaped, reaped, stale, left) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("limited", "File too large"),
        ("filled", "No space left on device"),
        ("vanished", "No such file or directory"),
    ],
)
def test_a_disk_that_fails_is_one_line_and_the_store_as_before(
    name, reason, faults, folder
):
    if (found := faults[name]) is None:
        pytest.skip("no file system may be mounted here")
    study = folder / name if name == "vanished" else folder / name / "study"
    files = {
        "save": "ckpt/000000.0/2",
        "curves": "curves/000000/0.0.npz",
        "commit": "done/bb.json",
    }
    for what, file in files.items():
        assert found[what] == f"OSError: {study / file}: {reason}"
    if name == "vanished":
        assert not found["made"]
        return
    assert found["open"].endswith(reason)
    assert found["after"] == [1, ["aa"], "new", ["aa", "bb"]]
    if name == "limited":
        assert found["fresh"] == []
