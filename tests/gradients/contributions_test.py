"""Contributions against an independent float64 computation, and their reading."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import headwise as hw

WEIGHTS = {"y1": 0.5, "y2": 2.0, "y3": 1.0}
MODULES = ("c", "trunk/0", "trunk/1")


contributions = jax.jit(hw.contributions, static_argnames="depth")


def make_grads(seed=0, scale=1.0):
    """y1 reaches trunk and c, y2 the trunk, y3 the last layer of the trunk."""
    rng = np.random.default_rng(seed)

    def dense(on):
        sign = float(on) * scale
        return {
            "bias": np.float32(sign * rng.normal(size=3)),
            "kernel": np.float32(sign * rng.normal(size=(2, 3))),
        }

    def head(first, second, c):
        return {"c": {"w": dense(c)["bias"]}, "trunk": [dense(first), dense(second)]}

    return {"y3": head(0, 1, 0), "y1": head(1, 1, 1), "y2": head(1, 1, 0)}


def rows_of(tree, module):
    """The module's part of a gradient as one float64 row, picked by hand."""
    parts = {
        "c": lambda: [tree["c"]["w"]],
        "trunk/0": lambda: [tree["trunk"][0]["bias"], tree["trunk"][0]["kernel"]],
        "trunk/1": lambda: [tree["trunk"][1]["bias"], tree["trunk"][1]["kernel"]],
    }[module]()
    return np.concatenate([np.ravel(np.asarray(p, np.float64)) for p in parts])


def reference(grads, weights, update=None):
    names = sorted(grads)
    w = np.array([weights[n] for n in names], np.float64)
    norm, share, cosine = [], [], []
    for module in MODULES:
        rows = np.stack([rows_of(grads[n], module) for n in names])
        along = w @ rows if update is None else rows_of(update, module)
        lengths = np.linalg.norm(rows, axis=1)
        pull = w * (rows @ along)
        norm.append(lengths)
        share.append(pull / pull.sum() if pull.sum() else 0 * pull)
        outer = np.outer(lengths, lengths)
        dots = rows @ rows.T
        cosine.append(np.where(outer > 0, dots / np.where(outer > 0, outer, 1), 0))
    return np.stack(norm), np.stack(share), np.stack(cosine)


def assert_is(c, expected):
    # Dot products of at most 9 terms in float32, divided: some 1e-6.
    for got, want in zip((c.norm, c.share, c.cosine), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_update", [False, True])
def test_against_numpy_for_every_module(with_update):
    grads = make_grads()
    update = make_grads(7)["y1"] if with_update else None
    c = contributions(grads, WEIGHTS, update)
    assert c.modules == MODULES
    assert c.names == ("y1", "y2", "y3")
    assert_is(c, reference(grads, WEIGHTS, update))


@pytest.mark.parametrize("with_update", [False, True])
def test_what_a_head_does_not_reach_is_not_read(with_update):
    grads = make_grads()
    update = make_grads(7)["y1"] if with_update else None
    reaches = {n: jax.tree.map(lambda g: bool(np.any(g)), grads[n]) for n in grads}
    spoiled = {
        n: jax.tree.map(lambda g, on: g if on else g * np.nan, grads[n], reaches[n])
        for n in grads
    }

    @jax.jit
    def told(grads, update):
        return hw.contributions(grads, WEIGHTS, update, reaches=reaches)

    c = told(spoiled, update)
    assert_is(c, reference(grads, WEIGHTS, update))
    with pytest.raises(ValueError, match="reaches: expected the names"):
        hw.contributions(grads, reaches={"y1": reaches["y1"]})
    with pytest.raises(ValueError, match=r"reaches\['y1'\]: expected a pytree of bool"):
        hw.contributions(grads, reaches=reaches | {"y1": True})


def test_a_module_of_one_head_is_all_its_own_if_it_moves():
    """By the formula, w <g, u> over itself; without a look at the gradient."""
    grads = make_grads()
    reaches = {n: jax.tree.map(lambda g: bool(np.any(g)), grads[n]) for n in grads}
    update = jax.tree.map(lambda g: -3.0 * g, grads["y1"])
    against = jax.tree.map(lambda g: -g, update)
    frozen = update | {"c": {"w": np.zeros(3, np.float32)}}
    for u, share in ((update, 1.0), (against, 1.0), (frozen, 0.0)):
        c = hw.contributions(grads, WEIGHTS, u, reaches=reaches)
        np.testing.assert_array_equal(c.share[0], [share, 0.0, 0.0])
    c = hw.contributions(grads, WEIGHTS | {"y1": 0.0}, update, reaches=reaches)
    np.testing.assert_array_equal(c.share[0], [0.0, 0.0, 0.0])
    still = {"c": {"w": np.zeros(3, np.float32)}}
    c = hw.contributions(
        grads | {"y1": grads["y1"] | still}, WEIGHTS, update, reaches=reaches
    )
    np.testing.assert_array_equal(c.share[0], [0.0, 0.0, 0.0])


@pytest.mark.parametrize("depth", [None, 1])
def test_a_module_is_split_where_other_heads_reach_its_parts(depth):
    """At any depth, if it is known who reaches what; each part is as a module alone."""
    grads = {
        "a": {"m": {"p": jnp.array([3.0]), "q": jnp.array([4.0])}, "n": [jnp.ones(2)]},
        "b": {"m": {"p": jnp.array([0.0]), "q": jnp.array([-1.0])}, "n": [jnp.ones(2)]},
    }
    reaches = {
        "a": {"m": {"p": True, "q": True}, "n": [True]},
        "b": {"m": {"p": False, "q": True}, "n": [True]},
    }
    for update in (None, jax.tree.map(jnp.add, grads["a"], grads["b"])):

        @jax.jit
        def told(grads, update):
            return hw.contributions(grads, None, update, depth=depth, reaches=reaches)

        c = told(grads, update)
        assert c.modules[:2] == ("m/p", "m/q")
        np.testing.assert_array_equal(c.norm[:2], [[3.0, 0.0], [4.0, 1.0]])
        # m/q: u = 3, <a, u> = 12, <b, u> = -3.
        np.testing.assert_allclose(c.share[:2], [[1, 0], [12 / 9, -3 / 9]], rtol=1e-6)
        np.testing.assert_allclose(c.pull[1:], [[12.0, -3.0], [4.0, 4.0]], rtol=1e-6)
        np.testing.assert_allclose(c.conflict, [0.0, -1.0, 0.0], rtol=1e-6)
        assert str(c).splitlines()[3].split()[-2:] == ["-", "-"]
    assert hw.contributions(grads, depth=depth).modules[0] == "m"


def test_many_heads_fit_a_screen():
    """The first of each module, how many more and their share; shared modules first."""
    names, modules = [f"y{i:02}" for i in range(20)], [f"m{i:02}" for i in range(40)]
    norm = np.vstack([np.eye(20), np.ones((19, 20)), np.zeros((1, 20))])
    share = norm / np.maximum(norm.sum(1, keepdims=True), 1)
    cosine = np.ones((40, 20, 20))
    c = hw.gradients.Contributions(tuple(names), tuple(modules), norm, share, cosine)
    lines = str(c).splitlines()
    assert lines[3].split() == ["m20", "y00", "1.0e+00", "5", "%", "+1.00"]
    assert lines[11].split() == ["...", "12", "more", "60", "%"]
    assert lines[-1] == "... 24 more: the arrays have all"
    assert len(lines) == 3 + 16 * 9 + 1


@pytest.mark.parametrize("scale", [1e-10, 1e10])
def test_shares_do_not_depend_on_the_scale(scale):
    c = contributions(make_grads(scale=scale), WEIGHTS)
    one = contributions(make_grads(), WEIGHTS)
    np.testing.assert_allclose(c.share, one.share, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(c.cosine, one.cosine, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(c.norm, one.norm * scale, rtol=1e-5)


def test_shares_sum_to_one_where_something_moves():
    grads = make_grads() | {"y2": jax.tree.map(np.zeros_like, make_grads()["y2"])}
    c = contributions(grads, {"y1": 0.0, "y2": 1.0, "y3": 1.0})
    # y3 alone moves, and only trunk/1.
    np.testing.assert_allclose(jnp.sum(c.share, axis=1), [0.0, 0.0, 1.0], atol=1e-6)
    np.testing.assert_array_equal(c.share[:, 0], 0.0)


def test_a_head_that_is_moved_against_has_a_negative_share():
    grads = {"a": {"w": jnp.array([3.0, 0.0])}, "b": {"w": jnp.array([-1.0, 0.0])}}
    c = contributions(grads)
    # u = (2, 0): <a, u> = 6, <b, u> = -2, together 4.
    np.testing.assert_allclose(c.share, [[1.5, -0.5]], rtol=1e-6)
    np.testing.assert_allclose(c.conflict, [-1.0], rtol=1e-6)
    agreeing = contributions({"a": grads["a"], "b": grads["a"]})
    np.testing.assert_array_equal(agreeing.conflict, [0.0])


def test_weight_zero_and_nan_leave_no_trace():
    grads = make_grads()
    bad = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), grads["y2"])
    without = {n: g for n, g in grads.items() if n != "y2"}
    expected = contributions(without, {"y1": 0.5, "y3": 1.0})
    for update in (None, make_grads(3)["y1"]):
        c = contributions(grads | {"y2": bad}, WEIGHTS | {"y2": 0.0}, update)
        alone = contributions(without, {"y1": 0.5, "y3": 1.0}, update)
        np.testing.assert_array_equal(c.share[:, 1], 0.0)
        np.testing.assert_allclose(c.share[:, ::2], alone.share, rtol=1e-5)
        np.testing.assert_array_equal(c.norm[:, ::2], expected.norm)


def test_weights_as_array_go_by_sorted_name_and_none_means_one():
    grads = make_grads()
    by_name = contributions(grads, WEIGHTS)
    by_array = contributions(grads, jnp.array([0.5, 2.0, 1.0]))
    np.testing.assert_array_equal(by_name.share, by_array.share)
    ones = contributions(grads, dict.fromkeys(WEIGHTS, 1.0))
    np.testing.assert_array_equal(contributions(grads).share, ones.share)


def test_vmaps_and_averages():
    many = [make_grads(seed) for seed in range(3)]
    stack = jax.tree.map(lambda *g: jnp.stack(g), *many)
    c = jax.jit(jax.vmap(hw.contributions, in_axes=(0, None)))(stack, WEIGHTS)
    assert c.norm.shape == (3, 3, 3)
    assert c.conflict.shape == (3, 3)
    for k, grads in enumerate(many):
        row = jax.tree.map(lambda a, k=k: a[k], c)
        assert_is(row, reference(grads, WEIGHTS))
    mean = jax.tree.map(lambda a: jnp.mean(a, axis=0), c)
    assert mean.modules == MODULES
    assert mean.share.shape == (3, 3)


def test_bfloat16_gradients():
    short = jax.tree.map(lambda g: jnp.asarray(g, jnp.bfloat16), make_grads())
    c = contributions(short, WEIGHTS)
    assert c.norm.dtype == c.share.dtype == c.cosine.dtype == jnp.float32
    exact = jax.tree.map(lambda g: np.asarray(g, np.float64), short)
    assert_is(c, reference(exact, WEIGHTS))


@pytest.mark.parametrize(
    ("depth", "modules"),
    [
        (None, ("c", "trunk/0", "trunk/1")),
        (1, ("c", "trunk")),
        (2, ("c", "trunk/0", "trunk/1")),
        (9, ("c", "trunk/0", "trunk/1")),
    ],
)
def test_grouping_by_depth(depth, modules):
    c = contributions(make_grads(), WEIGHTS, depth=depth)
    assert c.modules == modules
    fine = contributions(make_grads(), WEIGHTS)
    of_trunk = np.sqrt(np.sum(np.square(fine.norm[1:]), axis=0))
    if depth == 1:
        np.testing.assert_allclose(c.norm[1], of_trunk, rtol=1e-6)


def test_names_of_modules():
    one = jnp.ones(1)
    flat = {"A": one, "B": one}
    assert contributions({"y": flat}).modules == ("A", "B")
    wrapped = {"params": {"A": {"w": one, "b": one}, "B": {"w": one}}}
    assert contributions({"y": wrapped}).modules == ("A", "B")
    boxed = {"A": {"w": {"value": one}}, "B": {"w": {"value": one}}}
    assert contributions({"y": boxed}).modules == ("A", "B")
    assert contributions({"y": one}).modules == ("params",)
    assert contributions({"y": [one, one]}).modules == ("0", "1")


def test_table():
    grads = {
        "seg": {"trunk": {"w": jnp.array([3.0, 4.0])}, "out": {"w": jnp.ones(1)}},
        "t1": {"trunk": {"w": jnp.array([-5.0, 0.0])}, "out": {"w": jnp.zeros(1)}},
    }
    text = str(hw.contributions(grads, {"seg": 1.0, "t1": 0.2}))
    title, _, body = text.partition("─")
    assert "norm of each head's gradient" in title
    assert title.splitlines()[-1].split() == ["module", "seg", "t1", "cosine"]
    # out: seg alone. trunk: u = (2, 4), <seg, u> = 22, 0.2 <t1, u> = -2, cos = -0.6.
    out, trunk = body.splitlines()[1:]
    assert out.split() == ["out", "1.0e+00", "100", "%", "-", "-"]
    assert trunk.split() == [
        "trunk",
        "5.0e+00",
        "110",
        "%",
        "5.0e+00",
        "-10",
        "%",
        "-0.60",
    ]


def test_plot_has_a_bar_for_each_module_and_head():
    ax = hw.contributions(make_grads(), WEIGHTS).plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == list(MODULES)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["y1", "y2", "y3"]
    widths = np.array([patch.get_width() for patch in ax.patches]).reshape(3, 3)
    np.testing.assert_allclose(widths.sum(axis=0), 1.0, rtol=1e-5)
    mine = plt.figure().add_subplot()
    assert hw.contributions(make_grads()).plot(mine) is mine
    plt.close("all")


@pytest.mark.parametrize(
    ("weights", "update", "words"),
    [
        ({"y1": 1.0, "y4": 1.0}, None, ["weights", "'y4'", "'y2', 'y3'"]),
        (jnp.ones(2), None, ["weights", "[3]", "(2,)"]),
        ({**WEIGHTS, "y1": jnp.ones(2)}, None, ["weights['y1']", "(2,)"]),
        (None, {"c": 1.0}, ["update"]),
        (None, jax.tree.map(lambda g: g[:1], make_grads()["y1"]), ["update"]),
    ],
)
def test_misuse_is_named(weights, update, words):
    with pytest.raises(ValueError, match=r"weights|update") as raised:
        hw.contributions(make_grads(), weights, update)
    for word in words:
        assert word in str(raised.value)
