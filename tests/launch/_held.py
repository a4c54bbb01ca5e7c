"""Question: where do the parabolas of `_tiny` pull a number that waits for a file?

No step ends before the file of `--set=until=PATH` is there; with `pause=0.02`, too, each
takes so many seconds until then, and signals find a worker that can save. So what has
to be at work when something happens is at work, however fast or busy the machine is.
"""

import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np

from tests.launch import _tiny

SPEC = _tiny.SPEC._replace(defaults=_tiny.SPEC.defaults | {"until": "", "pause": 0.0})


def build(settings):
    """As `_tiny`, with values that wait."""
    tiny, file = _tiny.build(settings), pathlib.Path(settings["until"])

    def wait(key):
        del key
        while not file.exists():
            time.sleep(settings["pause"] or 0.02)
            if settings["pause"]:
                break
        return np.float32(0.0)

    def values_fn(params, rest, batch, key):
        values, rest = tiny.values_fn(params, rest, batch, key)
        zero = jax.ShapeDtypeStruct((), jnp.float32)
        of_step = jax.random.key_data(key)  # or it would be asked for once
        zero = jax.pure_callback(wait, zero, of_step, vmap_method="sequential")
        return {name: x + zero for name, x in values.items()}, rest

    return tiny._replace(values_fn=values_fn)
