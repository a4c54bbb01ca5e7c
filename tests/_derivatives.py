"""`jax.test_util.check_grads` in few programs: each derivative is compiled as a whole.

By itself it takes second derivatives of what is not compiled, one operation at a time.
"""

import jax
from jax.test_util import check_grads


def check(f, args, order, modes=("fwd", "rev"), **tolerance):
    """The same checks of the same derivatives as `check_grads` makes."""
    f = jax.jit(f)
    check_grads(f, args, 1, modes, **tolerance)
    if order == 1:
        return
    if "fwd" in modes:

        def pushed(primals, tangents):
            return jax.jvp(f, primals, tangents)

        check(pushed, (args, args), order - 1, modes, **tolerance)
    if "rev" in modes:

        def pulled(*args):
            out, pull = jax.vjp(f, *args)
            return pull(out)

        check(pulled, args, order - 1, modes, **tolerance)
