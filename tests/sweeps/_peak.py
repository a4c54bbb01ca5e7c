"""What a vmapped loop takes, and what is said of it, in a process that does no more.

32 members of an MLP: 100 MB between operations, which the compiler's peak leaves out.
Prints {"said", "half": of 16 members, "real": bytes}. `python -m tests.sweeps._peak`
"""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
from jax import lax

from headwise.sweeps._cohort import _memory
from tests import _compiled

PROC = pathlib.Path("/proc/self")
ROWS, WIDTH = 2048, 64


def start(members):
    return jnp.full((members, WIDTH, WIDTH), 0.1)


def compiled(members):
    x = jnp.ones((ROWS, WIDTH))

    def loss(w):
        return jnp.mean(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)

    def train(ws, steps):
        return lax.fori_loop(
            0, steps, lambda i, ws: ws - jax.vmap(jax.grad(loss))(ws), ws
        )

    lowered = jax.jit(train, donate_argnums=0).lower(start(members), 1)
    return _compiled.as_users(lowered)


def status(name):
    """Bytes that this process has by `/proc/self/status`."""
    text = (PROC / "status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", text)[1])


def main():
    program, ws = compiled(32), start(32)
    said, half = _memory.used(program), _memory.used(compiled(16))
    # The threads of JAX begin with the first program, and take some memory for good.
    jax.block_until_ready(compiled(2)(start(2), 2))
    (PROC / "clear_refs").write_text("5")  # the peak is now
    before = status("VmRSS")
    jax.block_until_ready(program(ws, 2))
    print(json.dumps({"said": said, "half": half, "real": status("VmHWM") - before}))


if __name__ == "__main__":
    main()
