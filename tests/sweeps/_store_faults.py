"""Stores whose processes race, are stopped or killed, or whose disk fails.

Prints {name: what came of it} as JSON. `python -m tests.sweeps._store_faults FOLDER`
"""

import contextlib
import json
import os
import pathlib
import resource
import signal
import sys
import time

import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1  # noqa: F401

import headwise as hw
from headwise.sweeps._store import _claims
from headwise.sweeps._store import _links
from headwise.sweeps._store import _store
from tests import _forked

TEXT = {"program": "p", "steps": 8}
NAMES = 60
STALE = 2.0
"""Seconds: a live process that waits for a processor is not dead."""


def tree(step, size=8):
    return {"w": jnp.arange(float(size)), "t": jnp.int32(step)}


def record(weight, metric=0.5):
    made = {"versions": {}, "revision": None}
    return hw.sweeps.record({"a": weight}, 0, {"m": metric}, made_with=made)


def raced(folder):
    """Four processes take the same names, in each way; who has which."""

    def take(way, folder, me):
        taken = []
        for i in range(NAMES):
            data = json.dumps({"who": me, "rest": "x" * 5000}).encode()
            if getattr(_links, way)(folder / f"{i}.json", data):
                taken.append(i)
        return taken

    answers = {}
    for way in ("by_link", "by_folder"):
        where = folder / way
        where.mkdir(parents=True)
        processes = [_forked.Process(take, way, where, me) for me in range(4)]
        taken = [process.answer() for process in processes]
        held = [_links.read(where / f"{i}.json")["who"] for i in range(NAMES)]
        answers[way] = {"taken": taken, "held": held}
    return answers


def composed(folder):
    """Three workers put twelve trials into cohorts of two, as fast as they can."""

    def work(me):
        with _store.open(folder, TEXT) as store:
            while True:
                cohorts = store.cohorts()
                used = {key for cohort in cohorts for key in cohort["trials"]}
                left = [f"{i:02x}" for i in range(12) if f"{i:02x}" not in used]
                if not left:
                    break
                store.compose(len(cohorts), {"trials": left[:2], "by": me})
            for i in range(12):
                store.commit(f"{i:02x}", record(float(i)))
            return [cohort["trials"] for cohort in store.cohorts()]

    answers = [p.answer() for p in [_forked.Process(work, me) for me in range(3)]]
    lines = hw.sweeps.read(folder / "trials.jsonl")
    return {"cohorts": answers, "lines": len(lines)}


def taken_over(folder):
    """An owner is stopped; who takes its cohort; what it does when it goes on."""
    ready, go = os.pipe()
    over, end = os.pipe()

    def own():
        with _store.open(folder, TEXT, stale=STALE) as store:
            store.compose(0, {"trials": ["aa"]})
            claim = store.claim(0)
            store.save(claim, 1, tree(1))
            store.wait(claim)
            os.write(go, b"x")
            try:
                for i in range(100_000):
                    claim.beat("running", step=i)
                    store.curves(claim, i, {"t": np.array([i])})
                    time.sleep(0.02)
            except _claims.LostClaim as error:
                lost = str(error)
            refused = []
            for name, act in {
                "check": claim.check,
                "beat": claim.beat,
                "save": lambda: store.save(claim, 9, tree(9)),
                "curves": lambda: store.curves(claim, 10**6, {"t": np.array([0])}),
            }.items():
                try:
                    act()
                except _claims.LostClaim:
                    refused.append(name)
            return {"lost": lost, "refused": refused, "again": claim_of(store)}

    def claim_of(store):
        claim = store.claim(0)
        return None if claim is None else claim.epoch

    def ask(seconds):
        with _store.open(folder, TEXT, stale=STALE) as store:
            start = time.monotonic()
            while (claim := store.claim(0)) is None:
                if time.monotonic() - start > seconds:
                    return None
                time.sleep(0.02)
            waited = time.monotonic() - start
            claim.beat()
            found, step = store.restore(0, tree(0))
            os.write(go, b"x")
            os.read(over, 1)  # alive while the first owner goes on
            return [claim.epoch, waited, step, int(found["t"])]

    owner = _forked.Process(own)
    os.read(ready, 1)
    live = _forked.call(ask, 1.5 * STALE)
    os.kill(owner.pid, signal.SIGSTOP)
    os.waitpid(owner.pid, os.WUNTRACED)
    before = len(list((folder / "curves/000000").iterdir()))
    heir = _forked.Process(ask, _forked.SECONDS)
    os.read(ready, 1)
    os.kill(owner.pid, signal.SIGCONT)
    answer = owner.answer()
    os.write(end, b"x")
    after = sorted(path.name for path in (folder / "curves/000000").iterdir())
    return {
        "live": live,
        "heir": heir.answer(),
        "owner": answer,
        "more": len(after) - before,
        "checkpoints": sorted(p.parent.name for p in folder.glob("ckpt/*/[0-9]*")),
    }


def gone(folder):
    """Owners that were killed: on this machine, and as if on another one."""
    ready, go = os.pipe()

    def own():
        store = _store.open(folder, TEXT)
        store.claim(0)
        os.write(go, b"x")
        time.sleep(_forked.SECONDS)

    def ask(stale, seconds):
        with _store.open(folder, TEXT, stale=stale) as store:
            start = time.monotonic()
            while (claim := store.claim(0)) is None:
                if time.monotonic() - start > seconds:
                    return None
                time.sleep(0.02)
            return claim.epoch

    def ask_and_leave_none(stale, seconds):
        found = ask(stale, seconds)
        for path in (folder / "claims").glob("*.left"):
            path.unlink()
        return found

    owner = _forked.Process(own)
    os.read(ready, 1)
    alive = _forked.call(ask_and_leave_none, 1e6, 0.2)
    os.kill(owner.pid, signal.SIGKILL)
    unreaped = _forked.call(ask_and_leave_none, 1e6, 60.0)
    owner.answer()
    reaped = _forked.call(ask_and_leave_none, 1e6, 60.0)
    for path in (folder / "claims").glob("*"):
        path.write_text(path.read_text().replace('"boot": "', '"boot": "of another '))
    far = _forked.call(ask_and_leave_none, 1e6, 0.3)
    stale = _forked.call(ask, 0.3, 60.0)
    left = _forked.call(ask, 1e6, 60.0)
    return [alive, unreaped, reaped, far, stale, left]


def told(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def save(store, claim, size):
    store.save(claim, 2, tree(2, size))
    store.wait(claim)


def work(folder, fill, size=60_000):
    """A store at work whose disk is full from some moment on; what it says."""
    with _store.open(folder, TEXT) as store:
        store.compose(0, {"trials": ["aa", "bb"]})
        claim = store.claim(0)
        store.commit("aa", record(1.0))
        store.save(claim, 1, tree(1, size))
        store.wait(claim)
        fill()
        chunk = {"t": np.arange(9000), "x": np.random.default_rng(0).normal(size=9000)}
        found = {
            "save": told(save, store, claim, size),
            "curves": told(store.curves, claim, 0, chunk),
            "commit": told(store.commit, "bb", record(2.0, 0.25) | {"x": "y" * 9000}),
        }
        with contextlib.suppress(OSError):
            store.close()
        return found


def after(folder):
    """What the next process finds, once there is space."""
    with _store.open(folder, TEXT) as store:
        (_, step), kept = store.restore(0, tree(0, 60_000)), store.records()
        committed = store.commit("bb", record(2.0))
        return [step, sorted(kept), committed, sorted(store.records())]


def limited(folder):
    """No file may be larger than 4 kB: EFBIG."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    def fresh():
        limit()
        return told(_store.open, folder / "fresh", TEXT)

    found = _forked.call(work, folder / "study", limit)
    return (
        found
        | {"after": _forked.call(after, folder / "study")}
        | {
            "open": _forked.call(fresh),
            "fresh": sorted(p.name for p in (folder / "fresh").glob("*.json")),
        }
    )


def filled(folder):
    """A small disk that is full: ENOSPC. None where nothing may be mounted."""
    with _forked.small_disk(folder, 3) as fill:
        if fill is None:
            return None
        found = _forked.call(work, folder / "study", fill)
        found["open"] = _forked.call(lambda: told(_store.open, folder / "new", TEXT))
        (folder / "filler").unlink()
        return found | {"after": _forked.call(after, folder / "study")}


def vanished(folder):
    """The study's folder is not there any more."""

    def go():
        found = work(folder, lambda: folder.rename(f"{folder}.away"))
        return found | {"made": folder.exists()}

    return _forked.call(go)


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = (raced, composed, taken_over, gone, limited, filled, vanished)
    answers = {}
    for case in cases:
        start = time.monotonic()
        answers[case.__name__] = case(folder / case.__name__)
        print(case.__name__, time.monotonic() - start, file=sys.stderr)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
