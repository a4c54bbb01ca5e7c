"""`jax.test_util.check_grads` in few programs: each derivative is compiled as a whole.

By itself it takes second derivatives of what is not compiled, one operation at a time.
"""

import jax
import numpy as np
from jax.test_util import check_jvp
from jax.test_util import check_vjp


def check(f, args, order, modes=("fwd", "rev"), **tolerance):
    """The same checks of the same derivatives as `check_grads` makes."""
    if "fwd" not in modes:
        check_backward([(f, args)], order, **tolerance)
        return
    _check_forward(f, args, **tolerance)
    if order > 1:

        def pushed(primals, tangents):
            return jax.jvp(f, primals, tangents)

        check(pushed, (args, args), order - 1, modes, **tolerance)
    if "rev" in modes:
        check_backward([(f, args)], 1, **tolerance)
        if order > 1:
            check(_pulled(f), args, order - 1, modes, **tolerance)


def _check_forward(f, args, **tolerance):
    @jax.jit
    def both(primals, tangents):
        return f(*primals), jax.jvp(f, primals, tangents)

    def value(*args):
        return both(args, args)[0]

    def push(primals, tangents):
        return both(primals, tangents)[1]

    check_jvp(value, push, args, **tolerance)


def check_backward(cases, order, **tolerance):
    """Each f of [(f, args)] as `check_grads` with "rev"; all of them are one program.

    A derivative's value, of which the next one is taken, is that of the one before.
    """
    functions, starts = zip(*cases)
    nothing = []
    for f, args in cases:
        like = [jax.eval_shape(f, *args), *[args] * (order - 1)]
        nothing.append(jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like))

    @jax.jit
    def numbers(all_args, all_cotangents):
        return [
            list(_orders(f, args, cotangents))
            for f, args, cotangents in zip(functions, all_args, all_cotangents)
        ]

    def at(where, things, thing):
        return [thing if i == where else x for i, x in enumerate(things)]

    for i, args in enumerate(starts):
        for k in range(order):

            def value(*args, i=i, k=k):
                return numbers(at(i, starts, args), nothing)[i][k][0]

            def pull(*args, i=i, k=k):
                changed = at(i, starts, args)

                def back(cotangents):
                    given = at(i, nothing, at(k, nothing[i], cotangents))
                    return numbers(changed, given)[i][k][2]

                return numbers(changed, nothing)[i][k][1], back

            told = dict(err_msg=f"case {i}, order {k + 1}:") | tolerance
            check_vjp(value, pull, args, **told)


def _orders(f, args, cotangents):
    """Of each order: the value alone, that beside the way back, what comes back."""
    value = f(*args)
    for cotangent in cotangents:
        out, pull = jax.vjp(f, *args)
        yield value, out, pull(cotangent)
        value, f = pull(out), _pulled(f)


def _pulled(f):
    def pulled(*args):
        out, pull = jax.vjp(f, *args)
        return pull(out)

    return pulled
