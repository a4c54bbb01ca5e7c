"""Routing: who moves what, as tables, graphs and flags."""

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

import headwise as hw
from tests.gradients._routes import ABCD
from tests.gradients._routes import moved
from tests.gradients._routes import network


class TestTheQuestionOfTheNetworkWithTwoHeads:
    def test_who_moves_what(self):
        assert moved(network, ABCD, 1.0) == {"loss1": "ABC", "loss2": "ABD"}

    def test_table(self):
        lines = str(hw.routing(network, ABCD, 1.0)).splitlines()
        assert [line.split() for line in lines if "─" not in line] == [
            ["module", "loss1", "loss2"],
            ["A", "moves", "moves", "shared"],
            ["B", "moves", "moves", "shared"],
            ["C", "moves", "-", "private", "to", "loss1"],
            ["D", "-", "moves", "private", "to", "loss2"],
            ["loss1", "moves", "A,", "B,", "C"],
            ["loss2", "moves", "A,", "B,", "D"],
        ]

    def test_parts(self):
        r = hw.routing(network, ABCD, 1.0)
        assert r.names == ("loss1", "loss2")
        assert r.shared == {"A": True, "B": True, "C": False, "D": False}
        assert r.private("loss1") == {"A": False, "B": False, "C": True, "D": False}
        assert r.private("loss2") == {"A": False, "B": False, "C": False, "D": True}
        assert r.moves("loss1") == ("A", "B", "C")
        assert r.by_module()["D"] == ("loss2",)

    def test_mermaid(self):
        lines = hw.routing(network, ABCD, 1.0).mermaid().splitlines()
        assert lines[0] == "graph LR"
        boxes = {}
        for line in lines[1:]:
            if "-->" not in line:
                label, text = line.strip().split("[", 1) if "[" in line else (line, "")
                boxes[label.rstrip("(")] = text
        arrows = {tuple(line.split(" --> ")) for line in lines if "-->" in line}
        read = {
            (boxes[a.strip()].split('"')[1], boxes[b][1:].split("<br/>")[0])
            for a, b in arrows
        }
        expected = {("loss1", m) for m in "ABC"} | {("loss2", m) for m in "ABD"}
        assert read == expected
        assert "private to loss2" in "\n".join(lines)

    def test_plot(self):
        ax = hw.routing(network, ABCD | {"E": 1.0}, 1.0).plot()
        arrows = [t for t in ax.texts if getattr(t, "arrow_patch", None) is not None]
        assert len(arrows) == 6
        words = " ".join(t.get_text() for t in ax.texts)
        for expected in ("A  (shared)", "C  (loss1)", "E  (not trained)", "loss2"):
            assert expected in words
        mine = plt.figure().add_subplot()
        assert hw.routing(network, ABCD, 1.0).plot(mine) is mine
        plt.close("all")


def test_static_and_keyword_arguments_and_aux():
    def program(p, x, mode, *, which):
        values = network(p, x)
        assert mode == "train"
        return {name: values[name] for name in which}, {"mode": mode}

    args = (ABCD, np.float32(1.0), "train")
    assert moved(program, *args, has_aux=True, which=["loss2"]) == {"loss2": "ABD"}


@pytest.mark.parametrize("seed", range(5))
def test_shared_private_and_unreached_part_the_parameters(seed):
    rng = np.random.default_rng(seed)
    table = rng.random((4, 6)) < 0.3

    def program(p):
        return {
            f"h{h}": 0.5 + sum(p[f"p{i}"] for i in range(6) if table[h, i])
            for h in range(4)
        }

    r = hw.routing(program, {f"p{i}": 1.0 for i in range(6)})
    trees = [r.shared, r.unreached, *(r.private(name) for name in r.names)]
    count = np.array([list(tree.values()) for tree in trees]).sum(axis=0)
    np.testing.assert_array_equal(count, 1)
    np.testing.assert_array_equal(list(r.shared.values()), table.sum(axis=0) > 1)
    np.testing.assert_array_equal(list(r.unreached.values()), table.sum(axis=0) == 0)


def test_by_module_and_depth():
    params = {"trunk": [{"w": 1.0, "b": 1.0}, {"w": 1.0}], "out": {"w": 1.0}}

    def program(p):
        h = p["trunk"][0]["w"] * p["trunk"][1]["w"]
        return {"u": h * p["out"]["w"], "v": p["trunk"][0]["b"]}

    r = hw.routing(program, params)
    # What different heads move is split, down to the parameters if need be.
    split = {"trunk/0/b": ("v",), "trunk/0/w": ("u",), "trunk/1": ("u",)}
    assert r.by_module() == r.by_module(depth=1) == {"out": ("u",)} | split
    assert r.moves("v", depth=1) == ("trunk/0/b",)
    assert r.private("v")["trunk"] == [{"w": False, "b": True}, {"w": False}]
    with pytest.raises(ValueError, match=r"'w'.*'u', 'v'"):
        r.private("w")
    with pytest.raises(ValueError, match=r"'w'.*'u', 'v'"):
        r.moves("w")


PARAMS = {"trunk": jnp.ones((3, 2)), "heads": {"y1": jnp.ones(2), "y2": jnp.ones(2)}}


class TestParametersOfOneModuleWithDifferentHeads:
    """Nothing is said of a module that holds of none of its parameters."""

    def program(self, p, x):
        h = x @ p["trunk"]
        one, two = h @ p["heads"]["y1"], h @ p["heads"]["y2"]
        return {"y1": jnp.mean(one), "y2": jnp.mean(two**2)}

    def test_routing(self):
        r = hw.routing(self.program, PARAMS, jnp.ones((4, 3)))
        lines = str(r).splitlines()
        assert [line.split() for line in lines if "─" not in line] == [
            ["module", "y1", "y2"],
            ["heads/y1", "moves", "-", "private", "to", "y1"],
            ["heads/y2", "-", "moves", "private", "to", "y2"],
            ["trunk", "moves", "moves", "shared"],
            ["y1", "moves", "heads/y1,", "trunk"],
            ["y2", "moves", "heads/y2,", "trunk"],
        ]
        assert r.by_module(1) == r.by_module(9) == r.by_module()
        assert r.moves("y1", 1) == ("heads/y1", "trunk")
        assert 'm1["heads/y2<br/>private to y2"]\n  h1 --> m1' in r.mermaid()
        words = [text.get_text() for text in r.plot().texts]
        assert "heads/y1  (y1)" in words
        assert "trunk  (shared)" in words
        plt.close("all")

    def test_metrics_of_a_run(self):
        """As `fit` records them; by hand: no head is ever named in the other's row."""
        optimizer, balancer = optax.sgd(0.1), hw.balancers.equal()
        make_step = hw.training.make_step
        step = make_step(self.program, optimizer, balancer, contributions=True)
        state = hw.training.init_state(["y1", "y2"], PARAMS, optimizer, balancer)
        x = jnp.ones((4, 3))
        _, history = hw.training.fit(step, state, lambda t: x, 1, progress=False)
        found = history[0]["contributions"]
        assert list(found) == ["heads/y1", "heads/y2", "trunk"]
        for mine, other in (("y1", "y2"), ("y2", "y1")):
            row = found[f"heads/{mine}"]
            assert (row[mine]["share"], row[other]["norm"]) == (1.0, 0.0)
            assert row["cosine"] == {}
        # h = (3, 3); the trunk's gradients are six entries of 1 and of 2 * 6.
        assert found["trunk"]["y1"]["cosine"] == {"y2": pytest.approx(1.0)}
        norms = [found["trunk"][n]["norm"] for n in ("y1", "y2")]
        np.testing.assert_allclose(norms, [6**0.5, 12 * 6**0.5], rtol=1e-6)
        shares = [found["trunk"][n]["share"] for n in ("y1", "y2")]
        np.testing.assert_allclose(shares, [1 / 13, 12 / 13], rtol=1e-5)


def test_a_hundred_decoders_fit_a_screen(monkeypatch):
    """Rows of a single head give way, and are counted; the data are complete."""
    monkeypatch.setenv("COLUMNS", "100")
    names = [f"y{i:03}" for i in range(128)]

    def reaches(i):
        trunk = {"in": True, "out": i < 100}
        return {"heads": [i == k for k in range(128)], "rest": False, "trunk": trunk}

    r = hw.gradients.Routing({name: reaches(i) for i, name in enumerate(names)})
    lines = str(r).splitlines()
    assert lines[2].split() == ["heads/0", "y000", "private", "to", "y000"]
    assert lines[-4].split() == ["rest", "-", "not", "trained"]
    assert lines[-3].split() == ["trunk/in", "all", "128", "heads", "shared"]
    assert lines[-2].split()[-4:] == ["...", "93", "more", "shared"]
    assert lines[-1] == "... 115 more: by_module() has all"
    assert len(lines) == 2 + 16 + 1
    assert len(r.by_module()) == 131
    # Alike modules share a row, and a row names some of them.
    deep = {"t": [{"w": True}] * 100, "z": False}
    text = str(hw.gradients.Routing(dict.fromkeys(names, deep)))
    assert "t/6, ... 93 more" in " ".join(text.split())


def test_a_hundred_layers_in_seconds():
    layers = [{"w": jnp.eye(8), "b": jnp.zeros((1, 8))} for _ in range(100)]
    params = {"trunk": layers, "C": jnp.ones((8, 1)), "D": jnp.ones((8, 1))}

    def program(p, x):
        for layer in p["trunk"]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return {"u": jnp.sum(x @ p["C"]), "v": jnp.sum(x @ p["D"])}

    start = time.process_time()  # what others take of the machine does not count
    r = hw.routing(program, params, jnp.ones((4, 8)))
    # Measured: half a second. The bound leaves room for a slow machine, and fails for
    # anything quadratic in the length of the program.
    assert time.process_time() - start < 20
    assert all(jax.tree.leaves(r.shared["trunk"]))
    assert r.moves("u")[0] == "C"
    assert "D" not in r.moves("u")
