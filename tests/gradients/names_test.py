"""Names of heads and modules that are markup elsewhere: shown, told apart, kept."""

import html
import re

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import headwise as hw
from tests._hostile import NAMES
from tests._hostile import SHOWN

HEADS = sorted(NAMES)
SEEN = [SHOWN.get(name, name) for name in HEADS]


def tree(flag):
    """Of a shared array, and one under each of the names."""
    return {"trunk": True, "own": {name: flag(name) for name in HEADS}}


ROUTING = hw.gradients.Routing({n: tree(lambda m, n=n: m == n) for n in HEADS})


def of(names, modules=("m",)):
    """Contributions of so many heads, all of them to every module."""
    shape = (len(modules), len(names))
    ones = jnp.ones(shape)
    cosine = jnp.ones((*shape, len(names)))
    share = ones / len(names)
    return hw.gradients.Contributions(tuple(names), tuple(modules), ones, share, cosine)


def test_there_are_enough_of_them():
    assert len(set(NAMES)) == len(NAMES) > 61


@pytest.mark.parametrize("names", [HEADS[i : i + 4] for i in range(0, len(HEADS), 4)])
def test_tables(names, monkeypatch):
    """Four heads have a column each; each is a module, too."""
    monkeypatch.setenv("COLUMNS", "100")
    keys = dict.fromkeys(names, True)
    r = hw.gradients.Routing({n: keys | {m: m == n for m in names} for n in names})
    assert list(r.by_module().values()) == [(name,) for name in sorted(names)]
    for text in (str(r), str(of(names)), str(of(["h"], names))):
        assert all(c.isprintable() or c == "\n" for c in text)
        for name in names:
            for word in SHOWN.get(name, name).split():
                # A very long one is folded, beside other columns.
                assert word in text or text.count("x") >= len(word) == 300


def test_tables_of_many_heads():
    for text in (str(ROUTING), str(of(HEADS))):
        assert all(c.isprintable() or c == "\n" for c in text)
        assert len(text.splitlines()) < 40


def test_mermaid():
    """Every line is a box or an arrow, and a browser shows the name."""
    lines = ROUTING.mermaid().split("\n")
    assert lines[0] == "graph LR"
    boxes = {}
    for line in lines[1:]:
        box = re.fullmatch(r'  ([hm]\d+)(\(\[|\[)"([^"]*)"(\]\)|\])', line)
        if box is None:
            assert re.fullmatch(r"  h\d+ --> m\d+", line)
            continue
        text = box[3].replace("<br/>", "\0")
        assert not set(text) & set('"`<>&[](){}|:$\\')
        boxes[box[1]] = html.unescape(re.sub(r"#(\d+);", r"&#\1;", text))
    heads = [boxes[f"h{i}"] for i in range(len(HEADS))]
    assert heads == SEEN
    modules = [boxes[f"m{i}"] for i in range(len(HEADS) + 1)]
    own = [f"own/{name}\0private to {name}" for name in SEEN]
    assert modules[:-1] == own
    assert modules[-1] == "trunk\0shared"


def test_pictures():
    """They draw: no name is taken for a formula; every head is in the legend."""
    names = [n for n in HEADS if "$" in n or "_" in n or n in SHOWN or len(n) > 60]
    r = hw.gradients.Routing({n: {m: m == n for m in names} for n in names})
    figure = plt.figure()
    routes, bars = figure.subplots(1, 2)
    r.plot(routes)
    of(names, names[:3]).plot(bars)
    figure.canvas.draw()
    legend = [text.get_text() for text in bars.get_legend().get_texts()]
    shown = [text.replace(r"\$", "$").removeprefix(" ") for text in legend]
    cut = {"x" * 300: f"{'x' * 20}…{'x' * 19}"}
    assert shown == [(SHOWN | cut).get(name, name) for name in names]
    words = [text.get_text() for text in routes.texts]
    assert words.count(r"a\nb  (a\nb)") == 1
    plt.close("all")


def test_metrics_keep_them_apart(tmp_path):
    """What was measured comes back from the file, under its head and pair."""
    rows = {name: np.eye(4)[i % 4] + 0.01 * i for i, name in enumerate(HEADS)}

    def values_fn(params, _):
        return {name: jnp.dot(params["trunk"], row) for name, row in rows.items()}

    optimizer, balancer = optax.sgd(0.1), hw.balancers.equal()
    step = hw.training.make_step(values_fn, optimizer, balancer, contributions=True)
    params = {"trunk": jnp.ones(4)}
    state = hw.training.init_state(HEADS, params, optimizer, balancer)
    hw.training.fit(
        step, state, lambda t: 0.0, 1, workdir=tmp_path, progress=False, check=False
    )
    c = hw.reports.mean_contributions(hw.training.read_metrics(tmp_path))
    assert c.names == tuple(HEADS)
    matrix = np.stack([rows[name] for name in HEADS])
    lengths = np.linalg.norm(matrix, axis=1)
    np.testing.assert_allclose(c.norm, [lengths], rtol=1e-5)
    pulls = matrix @ matrix.sum(axis=0)
    np.testing.assert_allclose(c.share, [pulls / pulls.sum()], rtol=1e-5)
    cosine = matrix @ matrix.T / np.outer(lengths, lengths)
    np.testing.assert_allclose(c.cosine, [cosine], rtol=1e-5)


@pytest.mark.parametrize(("name", "error"), [("a\ud800", ValueError), ("", TypeError)])
def test_a_name_that_no_file_can_hold_is_named(name, error):
    both = {name: 1.0, "b": 1.0}
    for named in (
        lambda: hw.Objective(dict.fromkeys(both, optax.losses.squared_error)),
        lambda: hw.balancers.equal().init(both),
        lambda: hw.head_grads(lambda p: {n: p * x for n, x in both.items()})(1.0),
        lambda: hw.contributions(both),
        lambda: hw.sweeps.grid({n: [1.0] for n in both}),
    ):
        with pytest.raises(error) as raised:
            named()
        assert repr(name) in str(raised.value)


def test_modules_whose_names_agree_are_two():
    """A key with a "/" beside a path of two parts."""
    params = {"a/b": {"w": 1.0}, "a": {"b": {"w": 2.0}}, "c%": 3.0, "\ud800": 4.0}

    def program(p):
        shared = p["c%"] * p["\ud800"]
        return {"u": p["a/b"]["w"] * shared, "v": p["a"]["b"]["w"] * shared}

    r = hw.routing(program, params)
    expected = {"a/b": ("v",), "a%2Fb": ("u",), "c%25": ("u", "v")}
    assert r.by_module() == expected | {"\ud800": ("u", "v")}
    c = hw.contributions(hw.head_grads(program)(params)[1], reaches=r.reaches)
    assert set(c.modules) == set(r.by_module())
    np.testing.assert_array_equal(c.norm[c.modules.index("a/b")], [0.0, 12.0])
    assert r"\ud800" in str(c)
    str(c).encode()
    assert jax.tree.leaves(r.private("u")) == [False, True, False, False]
