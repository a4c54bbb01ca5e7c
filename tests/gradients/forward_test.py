"""What is alike in the forward pass of many heads is computed as one program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import headwise as hw
from headwise import _xla
from headwise.gradients import _forward
from tests.gradients import _programs

HEADS = 4


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    """So that programs stay small."""
    monkeypatch.setattr(_xla, "ALIKE_HEADS", 3)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"w": (5, 6), "v": (5, 6), "out": (6, HEADS), "square": (HEADS, 6, 6)}
    p = {n: rng.normal(size=s) / 2 for n, s in shapes.items()}
    p["own"] = [rng.normal(size=(6, 2)) for _ in range(HEADS)]
    d = {"x": rng.normal(size=(7, 5)), "t": [rng.normal(size=7) for _ in range(HEADS)]}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (p, d))


def trunk(p, d):
    return jnp.tanh(d["x"] @ p["w"])


def columns(h, p, d, i):
    return jnp.mean((h @ p["out"])[:, i] * d["t"][i]) ** 2


def every_other_column(h, p, d, i):
    wide = jnp.concatenate([h @ p["out"]] * 2, 1)
    return jnp.sum(jnp.sin(wide[:, 2 * i]))


def columns_backwards(h, p, d, i):
    return jnp.sum(jnp.sin((h @ p["out"])[:, HEADS - 1 - i : HEADS - i]))


def one_of_two_trunks(h, p, d, i):
    other = jnp.tanh(d["x"] @ p["v"])
    return jnp.sum((h, other)[i % 2] @ p["own"][i])


def one_of_many_trunks(h, p, d, i):
    return jnp.sum(jnp.exp(h * (i // 2)) @ p["own"][i])


def written_numbers(h, p, d, i):
    return jnp.sum(jnp.where(h > i / HEADS, h, (i + 1.0) * h) ** 2)


def the_same_again(h, p, d, i):
    """Each head computes it anew, nothing differs but what comes last."""
    return (i + 1.0) * jnp.sum(jnp.exp(h))


def conditional(h, p, d, i):
    return jax.lax.cond(jnp.sum(d["t"][i]) > 0, jnp.sum, jnp.max, h @ p["own"][i])


def until_small(h, p, d, i):
    count = jax.lax.while_loop(
        lambda c: jnp.sum(c) > 1e-2, lambda c: c / 2, jnp.square(d["t"][i])
    )
    return jnp.sum(h[:, 0] * count)


def scanned(h, p, d, i):
    def one(c, x):
        return jnp.cos(c + x), c

    return jnp.sum(jax.lax.scan(one, h @ p["own"][i], d["t"][i])[1])


def solved(h, p, d, i):
    matrix = p["square"][i] @ p["square"][i].T + jnp.eye(6)
    return jnp.sum(jnp.linalg.solve(matrix, h.T))


def dropped_out(h, p, d, i):
    kept = jax.random.bernoulli(jax.random.fold_in(jax.random.key(3), i), 0.5, h.shape)
    return jnp.sum(jnp.where(kept, h, 0.0) @ p["own"][i])


def convolved(h, p, d, i):
    kernel = p["square"][i][:3, None, :1]
    return jnp.sum(jax.lax.conv_general_dilated(h[:, None], kernel.T, (1,), "SAME"))


def ragged(h, p, d, i):
    return jnp.sum(
        jax.lax.ragged_dot(h, p["square"][i : i + 1], jnp.array([7], jnp.int32))
    )


def integers(h, p, d, i):
    order = jnp.argsort(d["t"][i])
    return jnp.sum(h[order] @ p["own"][i] * jnp.arange(2)[None])


KINDS = [
    *(columns, every_other_column, columns_backwards, one_of_two_trunks),
    *(one_of_many_trunks, written_numbers, the_same_again, conditional, until_small),
    *(scanned, solved, dropped_out, convolved, ragged, integers),
]


def heads_of(kind, p, d):
    h = trunk(p, d)
    return {f"y{i:02}": kind(h, p, d, i) for i in range(HEADS)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_rows_are_what_each_is_alone(kind):
    """Of every intermediate array, not of the values alone."""
    p, d = inputs()

    def all_of(p, d):
        program = jax.make_jaxpr(lambda: heads_of(kind, p, d))()
        forward, values = _forward.forward(program)
        every = {v: [v] for v in forward._steps}
        groups = {}
        for v in every:
            groups.setdefault(forward._kinds[v], []).append(v)
        alike = [tuple(g) for g in groups.values() if len(g) == HEADS]
        pairs = [
            (forward.rows(g), jnp.stack([forward[v] for v in g]))
            for g in alike
            if jnp.issubdtype(g[0].aval.dtype, jnp.number)
        ]
        expected = jnp.stack(list(heads_of(kind, p, d).values()))
        return pairs, forward.rows(values), expected

    pairs, rows, expected = jax.device_get(_programs.quickly(all_of, p, d))
    assert pairs
    for mine, alone in pairs:
        np.testing.assert_allclose(mine, alone, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(rows, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_values_and_gramian(kind, monkeypatch):
    p, d = inputs(1)

    def all_of(p, d):
        return hw.head_gramian(functools.partial(heads_of, kind))(p, d)

    mine = jax.device_get(_programs.quickly(all_of, p, d))
    monkeypatch.setattr(_xla, "ALIKE_HEADS", 2**62)
    copies = jax.device_get(_programs.quickly(lambda *a: all_of(*a), p, d))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        mine,
        copies,
    )


def lines(heads):
    """Of the program that a compiler gets, without what nobody uses."""

    def values_fn(p, x):
        out = jnp.tanh(x @ p["w"]) @ p["out"]
        return {
            f"y{i:03}": jnp.mean((out[:, i] - (i + 1.0)) ** 2) for i in range(heads)
        }

    p = {"w": jnp.ones((3, 3)), "out": jnp.ones((3, heads))}
    gramian = jax.jit(lambda p, x: hw.head_gramian(values_fn)(p, x)[1])
    return gramian.lower(p, jnp.ones((2, 3))).compile().as_text().count("\n")


def test_a_program_does_not_grow_with_the_heads():
    assert lines(64) <= 1.1 * lines(32)


def test_effects_happen_once(capfd):
    p, d = inputs()

    def values_fn(p, d):
        jax.debug.print("seen {}", jnp.sum(p["w"]))
        return heads_of(columns, p, d)

    jax.block_until_ready(jax.jit(hw.head_gramian(values_fn))(p, d))
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen") == 1


def test_what_comes_with_the_values_is_whole():
    """Counts of masked heads, numbers that are no arrays, and what is not alike."""
    p, d = inputs()
    names = [f"y{i:02}" for i in range(HEADS)]

    def values_fn(p, d):
        out = trunk(p, d) @ p["out"]
        known = [jnp.abs(t) < 1.0 for t in d["t"]]
        counts = {n: jnp.sum(k) for n, k in zip(names, known, strict=True)}
        values = {
            n: jnp.sum(jnp.where(known[i], out[:, i], 0.0)) for i, n in enumerate(names)
        }
        return hw.Means(values, counts=counts), {"out": out, "heads": HEADS}

    compiled = jax.jit(hw.head_grads(values_fn, has_aux=True))
    (values, aux), _ = jax.device_get(compiled(p, d))
    counts = {n: np.sum(np.abs(t) < 1) for n, t in zip(names, d["t"], strict=True)}
    assert {n: int(c) for n, c in values.counts.items()} == counts
    np.testing.assert_allclose(aux["out"], trunk(p, d) @ p["out"], rtol=1e-5, atol=1e-6)
    assert aux["heads"] == HEADS


def test_what_a_model_draws_while_it_is_traced_is_drawn_once():
    """NumPy's random numbers are constants of a trace: values and gradients agree."""
    p, d = inputs()
    rng = np.random.default_rng(0)

    def values_fn(p, d):
        out = trunk(p, d) @ (p["out"] * rng.normal())
        return {f"y{i:02}": jnp.sum(out[:, i]) for i in range(HEADS)}

    values, grads = jax.jit(hw.head_grads(values_fn))(p, d)
    for name, value in values.items():
        # Linear in "out".
        inner = jnp.vdot(grads[name]["out"], p["out"])
        np.testing.assert_allclose(value, inner, rtol=1e-4, atol=1e-5)


def test_a_model_may_decide_by_numbers_that_are_known():
    """Without `jit`, in forward mode: they are known there, and not in a trace."""
    p, d = inputs()

    def values_fn(p, d):
        sign = 1.0 if p["w"][0, 0] > 0 else -1.0
        return heads_of(columns, p | {"out": sign * p["out"]}, d)

    def trace(scale):
        scaled = p | {"w": scale * p["w"]}
        return jnp.trace(hw.head_gramian(values_fn)(scaled, d)[1])

    value, slope = jax.jvp(trace, (1.0,), (1.0,))
    more, less = trace(1.01), trace(0.99)
    np.testing.assert_allclose(value, trace(1.0), rtol=1e-5)
    np.testing.assert_allclose(slope, (more - less) / 0.02, rtol=1e-2)


@pytest.mark.parametrize(("size", "stacked"), [(20, True), (300, False)])
def test_large_decoders_are_not_copied_to_be_side_by_side(size, stacked):
    p = {"w": jnp.ones((3, size)), "own": [jnp.ones((size, size))] * HEADS}

    def values(p, x):
        def values_fn(p):
            h = jnp.tanh(x @ p["w"])
            return {f"y{i}": jnp.sum((h @ w) ** 2) for i, w in enumerate(p["own"])}

        return hw.head_gramian(values_fn)(p)[0]

    text = jax.jit(values).lower(p, jnp.ones((2, 3))).as_text()
    assert (f"tensor<{HEADS}x{size}x{size}xf32>" in text) is stacked
