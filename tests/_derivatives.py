"""`jax.test_util.check_grads` in few programs: each derivative is compiled as a whole.

By itself it takes second derivatives of what is not compiled, one operation at a time.
"""

import jax
import jax.numpy as jnp
from jax.test_util import check_jvp
from jax.test_util import check_vjp


def check(f, args, order, modes=("fwd", "rev"), **tolerance):
    """The same checks of the same derivatives as `check_grads` makes."""
    if "fwd" in modes:
        _check_forward(f, args, **tolerance)
        if order > 1:

            def pushed(primals, tangents):
                return jax.jvp(f, primals, tangents)

            check(pushed, (args, args), order - 1, modes, **tolerance)
    if "rev" in modes:
        _check_backward(f, args, **tolerance)
        if order > 1:

            def pulled(*args):
                out, pull = jax.vjp(f, *args)
                return pull(out)

            check(pulled, args, order - 1, modes, **tolerance)


def _check_forward(f, args, **tolerance):
    @jax.jit
    def both(primals, tangents):
        return f(*primals), jax.jvp(f, primals, tangents)

    def value(*args):
        return both(args, args)[0]

    def push(primals, tangents):
        return both(primals, tangents)[1]

    check_jvp(value, push, args, **tolerance)


def _check_backward(f, args, **tolerance):
    nothing = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, *args)
    )

    @jax.jit
    def both(args, cotangents):
        out, pull = jax.vjp(f, *args)
        return f(*args), out, pull(cotangents)

    def value(*args):
        return both(args, nothing)[0]

    def pull(*args):
        return both(args, nothing)[1], lambda cotangents: both(args, cotangents)[2]

    check_vjp(value, pull, args, **tolerance)
