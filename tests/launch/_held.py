"""Question: where do the parabolas of `_tiny` pull a number that waits for a file?

Until the file of `--set=until=PATH` is there, a step of a worker takes a third of a
second from its first claim on, in a study beside that file. So a trial is five minutes
long: what has to be at work when something happens is at work, on a machine of any
speed, and a signal finds it able to save.
"""

import os
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from tests.launch import _tiny

SPEC = _tiny.SPEC._replace(
    defaults=_tiny.SPEC.defaults | {"until": ""}, steps=900, seeds=(0,)
)


def build(settings):
    """As `_tiny`, with values that wait."""
    tiny, file = _tiny.build(settings), pathlib.Path(settings["until"])

    def claimed():
        """Not while it is measured how trials run, which is before."""
        me = f'"pid": {os.getpid()}'
        claims = file.parent.glob("*/claims/*.[0-9]")
        return any(me in path.read_text() for path in claims)

    def wait(key):
        del key
        if not file.exists() and claimed():
            time.sleep(1 / 3)
        return np.float32(0.0)

    def values_fn(params, rest, batch, key):
        values, rest = tiny.values_fn(params, rest, batch, key)
        zero = jax.ShapeDtypeStruct((), jnp.float32)
        of_step = jax.random.key_data(key)  # or it would be asked for once
        zero = jax.pure_callback(wait, zero, of_step, vmap_method="sequential")
        return {name: x + zero for name, x in values.items()}, rest

    return tiny._replace(values_fn=values_fn)
