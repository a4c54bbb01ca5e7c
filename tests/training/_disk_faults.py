"""Small fits whose process is killed or whose disk fails, each in a forked process.

Forked from one that has imported everything and computed nothing, they start at once.
Prints {name: what came of it} as JSON. `python -m tests.training._disk_faults FOLDER`
"""

import functools
import gc
import json
import os
import pathlib
import random
import resource
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import optax
import tensorboardX  # noqa: F401
from orbax.checkpoint import v1  # noqa: F401

import headwise as hw
from tests import _forked

STEPS = 24


def fit(folder, batches=lambda t: 0.0):
    """A record and a checkpoint every two steps; the numbers of the last state."""

    def values_fn(params, batch):
        noise = jax.random.normal(
            jax.random.fold_in(jax.random.key(1), batch[0]), (40,)
        )
        return {
            "a": jnp.mean((params["w"] - noise) ** 2),
            "b": jnp.sum(params["w"]) ** 2,
        }

    def batch_at(t):
        batches(t)
        return jnp.full(1, t)

    optimizer, balancer = optax.adam(0.1), hw.balancers.uncertainty()
    parts = (["a", "b"], {"w": jnp.ones(40)}, optimizer, balancer)
    state, _ = hw.training.fit(
        hw.training.make_step(values_fn, optimizer, balancer),
        hw.training.init_state(*parts, key=jax.random.key(0)),
        batch_at,
        STEPS,
        workdir=folder,
        log_every=2,
        checkpoint_every=2,
        check=False,
        progress=False,
    )
    arrays = (state.params, state.optimizer, state.balancer)
    return [x.tobytes().hex() for x in map(jax.device_get, jax.tree.leaves(arrays))]


def at(step, act):
    """Batches that act once, at a step."""
    return lambda t: act() if t == step else None


def killed(folder):
    """Killed at random moments, also in the middle of a save, until it is done."""
    draw, kills = random.Random(0), 0

    def soon_after(step, delay):
        timers = []  # made in the fork: Python 3.13 starts none that is older

        def act(t):
            if t >= step and not timers:
                kill = functools.partial(os.kill, os.getpid(), signal.SIGKILL)
                timers.append(threading.Timer(delay, kill))
                timers[0].start()
            if t == STEPS - 1:  # it does not come to its end
                timers[0].join()

        return act

    for step in range(3, STEPS, 4):
        kill = soon_after(step, draw.uniform(0.0, 0.03))
        kills += _forked.call(fit, folder, kill) is None
    return {"kills": kills, "end": _forked.call(fit, folder)}


def limited(folder, size):
    """No file may be larger: EFBIG. Then there is space."""

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return fit(folder)

    return {"full": _forked.call(full), "end": _forked.call(fit, folder)}


def filled(folder):
    """The disk is full from step 9 on: ENOSPC. Then there is space."""
    with _forked.small_disk(folder, 1) as fill:
        if fill is None:
            return None
        answer = {"full": _forked.call(fit, folder / "run", at(9, fill))}
        answer["steps"] = [r["step"] for r in hw.training.read_metrics(folder / "run")]
        (folder / "filler").unlink()
        return answer | {"end": _forked.call(fit, folder / "run")}


def terminated(folder):
    """A scheduler ends it at step 9: SIGTERM, which the script does not handle."""

    def newest():
        with hw.training.Checkpoints(folder / "checkpoints") as checkpoints:
            return checkpoints.latest

    first = _forked.Process(
        fit, folder, at(9, lambda: os.kill(os.getpid(), signal.SIGTERM))
    )
    _, status = os.waitpid(first.pid, 0)
    os.close(first.pipe)
    ends = os.waitstatus_to_exitcode(status)
    return {
        "ends": ends,
        "saved": _forked.call(newest),
        "end": _forked.call(fit, folder),
    }


def replaced(folder):
    """A file stands where the checkpoints were, from step 9 on."""

    def replace():
        (folder / "checkpoints").rename(folder / "elsewhere")
        (folder / "checkpoints").write_text("")

    return _forked.call(fit, folder, at(9, replace))


def removed(folder):
    """The folder is not there any more, from step 9 on."""
    return _forked.call(fit, folder, at(9, lambda: folder.rename(f"{folder}.away")))


def in_use(folder):
    """Another process asks while one is at step 5, and after that was killed."""
    ready, go = os.pipe()

    def stay():
        os.write(go, b"x")
        time.sleep(_forked.SECONDS)

    first = _forked.Process(fit, folder, at(5, stay))
    os.read(ready, 1)
    claim = _forked.call(
        lambda: str(hw.training.claim_workdir(folder / "new", {"a": 1}))
    )
    second = _forked.call(fit, folder)
    os.kill(first.pid, signal.SIGKILL)
    first.answer()
    return {
        "pid": first.pid,
        "claim": claim,
        "second": second,
        "end": _forked.call(fit, folder),
    }


def main():
    gc.freeze()  # as commands do: tracing is faster
    folder = pathlib.Path(sys.argv[1])
    print(
        json.dumps(
            {
                "whole": _forked.call(fit, folder / "whole"),
                "killed": killed(folder / "killed"),
                "filled": filled(folder / "filled"),
                "in_use": in_use(folder / "in_use"),
                "terminated": terminated(folder / "terminated"),
                "removed": removed(folder / "removed"),
                "replaced": replaced(folder / "replaced"),
                **{
                    f"limited {size}": limited(folder / f"limited_{size}", size)
                    for size in (300, 1500)
                },
            }
        )
    )


if __name__ == "__main__":
    main()
