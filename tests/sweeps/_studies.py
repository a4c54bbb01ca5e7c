"""A tiny program, and workers that can be started, stopped and killed.

`python -m tests.sweeps._studies FOLDER` is a nursery: it imports everything once and
forks a worker for each line that it reads, which takes a tenth of the time that a
fresh Python takes. It answers with the worker's number.
"""

import gc
import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp

import headwise as hw
from headwise.sweeps._store import _store
from headwise.sweeps._work import _pace
from headwise.sweeps._work import _running
from headwise.sweeps._work import _work

DESIGN = {"a": [1.0, 1.0, 2.0], "b": [0.5, 1.0, 1.0]}
STEPS, EVERY = 120, 5
OPTIONS = {"mode": "vmap", "size": 2, "report_every": EVERY, "progress": False}


def program(work=0):
    """Descent on a |x - 1|^2 + b |x + 1|^2 with noise; `work` makes it slow."""

    def init(trial):
        x = jax.random.normal(jax.random.key(trial["seed"]), (3,))
        return {"x": x, "weights": trial["weights"], "seed": trial["seed"]}

    def step(state, t):
        key = jax.random.fold_in(jax.random.key(state["seed"]), t)
        x = state["x"] + 0.01 * jax.random.normal(key, (3,))
        busy = jax.lax.fori_loop(0, work, lambda i, y: jnp.sin(y + i), x)
        a, b = state["weights"]["a"], state["weights"]["b"]
        x = x - 0.05 * (a * (x - 1) + b * (x + 1)) + 0 * busy
        values = {"a": jnp.sum((x - 1) ** 2), "b": jnp.sum((x + 1) ** 2)}
        return {**state, "x": x}, {"values": values}

    return hw.sweeps.Program(init, step, lambda state: {"x": jnp.mean(state["x"])})


def result(record):
    """What a run and another must agree in, to the last bit."""
    return record["weights"], record["seed"], record["metrics"], record["digests"]


def breaks(trial_seed=1):
    """x grows by 1 a step; the trials of one seed become infinite after step 5."""

    def step(state, t):
        bad = (state["seed"] == trial_seed) & (t == 5)
        x = jnp.where(bad, jnp.inf, state["x"] + state["a"])
        return {**state, "x": x}, {"values": {"a": x}}

    return hw.sweeps.Program(
        lambda trial: {
            "x": jnp.zeros(()),
            "a": trial["weights"]["a"],
            "seed": trial["seed"],
        },
        step,
        lambda state: {"x": state["x"]},
    )


def results(records):
    """`result` of each."""
    return [result(record) for record in records]


class Killed(BaseException):
    """A kill that a test survives."""


class Nursery:
    """Starts workers on a folder; all are killed when the block ends.

    While the file of `hold` is there, a worker stays where it starts to save the first
    time (after its first steps), or with its records before it says that it has them.
    """

    def __init__(self, folder, seeds, work, stale=90.0, hold=None):
        settings = {"folder": str(folder), "seeds": seeds, "work": work, "stale": stale}
        settings["hold"] = hold
        self.held = folder / "held"
        self.held.touch()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sweeps._studies", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pids = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self._process:
            self._process.stdin.close()
            try:
                self._process.wait(timeout=300)
            finally:
                self._process.kill()

    def start(self):
        """A new worker; its process number."""
        pid = int(self._ask("start"))
        self.pids.append(pid)
        return pid

    def wait(self, pid):
        """Waits for a worker's end; its exit code, or minus the signal."""
        return int(self._ask(f"wait {pid}"))

    def _ask(self, line):
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def _worker(settings):
    """One worker to its end; it leaves the records that it got."""
    _pace.SECONDS, _work.PAUSE = 0.05, 0.05
    _store.open.__kwdefaults__["stale"] = settings["stale"]
    folder = pathlib.Path(settings["folder"])

    def stay(at):
        while settings["hold"] == at and (folder / "held").exists():
            time.sleep(0.01)

    def save(self, saved=_running.Course.save):
        saved(self)
        stay("save")

    _running.Course.save = save
    records = hw.sweeps.run(
        program(settings["work"]),
        DESIGN,
        settings["seeds"],
        steps=STEPS,
        folder=folder / "study",
        checkpoint_every=0.0 if settings["hold"] == "save" else 0.1,
        **OPTIONS,
    )
    stay("end")
    text = json.dumps([result(record) for record in records])
    (folder / f"{os.getpid()}.out").write_text(text)


def _nursery(settings):
    from orbax.checkpoint import v1  # noqa: F401  # or each worker would import it

    gc.collect()
    gc.freeze()
    children = set()
    for line in sys.stdin:
        order, *pids = line.split()
        if order == "start":
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    _worker(settings)
                    code = 0
                except KeyboardInterrupt:
                    code = 75
                finally:
                    os._exit(code)
            children.add(pid)
            print(pid, flush=True)
        else:
            _, status = os.waitpid(int(pids[0]), 0)
            children.discard(int(pids[0]))
            print(os.waitstatus_to_exitcode(status), flush=True)
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    _nursery(json.loads(sys.argv[1]))
