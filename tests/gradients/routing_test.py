"""Routing: who moves what, as tables, graphs and flags."""

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
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
    assert r.by_module() == {"out": ("u",), "trunk/0": ("u", "v"), "trunk/1": ("u",)}
    assert r.by_module(depth=1) == {"out": ("u",), "trunk": ("u", "v")}
    assert r.moves("v", depth=1) == ("trunk",)
    assert r.private("v")["trunk"] == [{"w": False, "b": True}, {"w": False}]
    with pytest.raises(ValueError, match=r"'w'.*'u', 'v'"):
        r.private("w")
    with pytest.raises(ValueError, match=r"'w'.*'u', 'v'"):
        r.moves("w")


def test_a_hundred_layers_in_seconds():
    layers = [{"w": jnp.eye(8), "b": jnp.zeros((1, 8))} for _ in range(100)]
    params = {"trunk": layers, "C": jnp.ones((8, 1)), "D": jnp.ones((8, 1))}

    def program(p, x):
        for layer in p["trunk"]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return {"u": jnp.sum(x @ p["C"]), "v": jnp.sum(x @ p["D"])}

    start = time.perf_counter()
    r = hw.routing(program, params, jnp.ones((4, 8)))
    # Measured: half a second. The bound leaves room for a busy machine, and fails for
    # anything quadratic in the length of the program.
    assert time.perf_counter() - start < 20
    assert all(jax.tree.leaves(r.shared["trunk"]))
    assert r.moves("u")[0] == "C"
    assert "D" not in r.moves("u")
