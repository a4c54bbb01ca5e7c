"""Routing: who moves what, through every way to write a program."""

import random
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import headwise as hw

ABCD = {"A": 2.0, "B": 3.0, "C": 5.0, "D": 7.0}


def network(p, x):
    """x -> A -> B -> C to loss1, D to loss2."""
    h = p["B"] * (p["A"] * x)
    return {"loss1": p["C"] * h, "loss2": p["D"] * h}


def moved(program, params, *args, **kwargs):
    """{head: names of the parameters it moves}, for flat dicts of parameters."""
    reaches = hw.routing(program, params, *args, **kwargs).reaches
    return {
        name: "".join(sorted(key for key, flag in tree.items() if flag))
        for name, tree in reaches.items()
    }


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


def nested_jit(p, x):
    return jax.jit(lambda p, x: jax.jit(network)(p, x))(p, x)


def remat(p, x):
    return jax.checkpoint(network)(p, x)


def vmapped(p, x):
    each = jax.vmap(network, in_axes=(None, 0))(p, jnp.stack([x, 2 * x]))
    return jax.tree.map(jnp.sum, each)


@jax.custom_jvp
def both(a, b):
    return a * b, a + b


@both.defjvp
def both_jvp(primals, tangents):
    (a, b), (_, db) = primals, tangents
    return both(a, b), (a * db, db)  # a counts for nothing


@jax.custom_vjp
def dropped(a, b):
    return a * b


dropped.defvjp(
    lambda a, b: (a * b, a),
    lambda a, ct: (None, a * ct),  # its bwd drops a
)


def cond(p, x):
    h = jax.lax.cond(x > 0, lambda p: p["A"] * p["B"], lambda p: p["B"] * 1.0, p)
    return {"loss1": p["C"] * h, "loss2": p["D"] * x}


def cond_of_both(p, x):
    one, two = jax.lax.cond(
        x > 0, lambda p: (p["C"], p["D"]), lambda p: (p["A"], p["B"]), p
    )
    return {"loss1": one * x, "loss2": two * x}


def fori(p, x):
    h = jax.lax.fori_loop(0, 3, lambda i, h: h * p["B"] + i, p["A"] * x)
    return {"loss1": p["C"] * h, "loss2": p["D"] * p["A"]}


def stopped(p, x):
    h = p["B"] * jax.lax.stop_gradient(p["A"] * x)
    return {"loss1": p["C"] * h, "loss2": jax.lax.stop_gradient(p["C"]) * p["D"]}


def integers(p, x):
    table = jnp.stack([p["C"], p["D"]])
    choice = jnp.argmax(p["A"] * jnp.arange(2.0))
    rounded = jnp.int32(p["B"]).astype(jnp.float32)
    return {"loss1": table[choice] * rounded, "loss2": p["B"] * x}


def dead(p, x):
    """Gradient 0 at this point, but the path is there."""
    return {
        "loss1": jax.nn.relu(-p["A"] * p["A"]) * p["C"],
        "loss2": p["D"] * (x - x) + 0.0 * p["B"],
    }


def two_iterations(p, x):
    """Each carry takes from the next: D needs three iterations to reach loss1."""

    def body(carry, _):
        a, b, c, d = carry
        return (a + b, b + c, c + d, 2 * d), None

    start = (p["A"], p["B"], p["C"], p["D"])
    (a, _, c, _), _ = jax.lax.scan(body, start, None, length=2)
    return {"loss1": a * x, "loss2": c * x}


def rotated(p, x):
    """Exact in the number of iterations: a permutation, applied 1000 times."""

    def body(carry, _):
        return (*carry[1:], carry[0]), carry[0]

    start = (p["A"], p["B"], p["C"])
    carry, seen = jax.lax.scan(body, start, None, length=1000)
    return {"loss1": carry[0] * x, "loss2": jnp.sum(seen) + p["D"]}


def overwritten(p, x):
    """The initial carry is lost in the first iteration."""
    carry, _ = jax.lax.scan(lambda c, x: (p["B"] * x, None), p["A"], jnp.arange(3.0))
    return {"loss1": carry * p["C"], "loss2": p["D"] * x}


def scanned_over(p, x):
    """Constants, carries, scanned and stacked values at once, in reverse, nested."""

    def outer(h, w):
        inner, _ = jax.lax.scan(lambda h, _: (h * p["B"], None), h, None, length=2)
        return inner * w, h * p["D"]

    xs = p["A"] * jnp.arange(1.0, 4.0)
    carry, each = jax.lax.scan(outer, p["C"], xs, reverse=True)
    return {"loss1": carry * x, "loss2": each[0] * x}


def empty_loop(p, x):
    carry, _ = jax.lax.scan(lambda c, _: (p["B"] * c, None), p["A"], None, length=0)
    return {"loss1": carry * p["C"], "loss2": p["D"] * x}


def reference(p, x):
    """Through a mutable array."""
    ref = jax.new_ref(jnp.zeros(()))
    ref[...] = p["A"] * p["B"]
    return {"loss1": ref[...] * p["C"], "loss2": ref[...] * p["D"]}


def updated_reference(p, x):
    """A mutable array that a loop writes, read twice."""
    ref = jax.new_ref(jnp.zeros(()))

    def body(i, _):
        ref[...] = ref[...] * p["A"] + p["B"] * i

    jax.lax.fori_loop(0, 3, body, None)
    return {"loss1": ref[...] * ref[...] * p["C"], "loss2": p["D"] * x}


def indexed(p, x):
    all_of_them = jnp.stack([p["A"], p["B"]])
    return {"loss1": all_of_them[0] * p["C"], "loss2": jnp.sum(all_of_them) * p["D"]}


CASES = [
    (network, "ABC", "ABD"),
    (nested_jit, "ABC", "ABD"),
    (jax.jit(network), "ABC", "ABD"),
    (remat, "ABC", "ABD"),
    (vmapped, "ABC", "ABD"),
    (lambda p, x: dict(zip(["u", "v"], both(p["A"], p["B"]))), "B", "B"),
    (lambda p, x: {"u": dropped(p["A"], p["B"]), "v": p["C"] * p["A"]}, "B", "AC"),
    (
        jax.checkpoint(lambda p, x: {"u": dropped(p["A"], p["B"]), "v": p["C"] * x}),
        "B",
        "C",
    ),
    (cond, "ABC", "D"),
    (cond_of_both, "AC", "BD"),
    (fori, "ABC", "AD"),
    (stopped, "BC", "D"),
    (integers, "CD", "B"),
    (dead, "AC", "BD"),
    (two_iterations, "ABC", "CD"),
    (rotated, "B", "ABCD"),
    (overwritten, "BC", "D"),
    (scanned_over, "ABC", "ABCD"),
    (empty_loop, "AC", "D"),
    (reference, "ABC", "ABD"),
    (updated_reference, "ABC", "D"),
    # Entry by entry: the loss that takes the first entry does not move B.
    (indexed, "AC", "ABD"),
    (lambda p, x: {"u": 1.0 * x, "v": jnp.sum(x * p["D"])}, "", "D"),
]


@pytest.mark.parametrize(("program", "one", "two"), CASES)
def test_through(program, one, two):
    assert list(moved(program, ABCD, 1.0).values()) == [one, two]


def stacked(p, x):
    losses = jnp.stack(list(network(p, x).values()))
    return {"loss1": losses[0], "loss2": losses[-1]}


def unstacked(p, x):
    losses = jnp.concatenate([value[None] for value in network(p, x).values()])
    return dict(zip(["loss1", "loss2"], losses * jnp.array([0.3, 0.7])))


@jax.custom_vjp
def pair(a, b):
    return jnp.stack([a, b])


pair.defvjp(lambda a, b: (pair(a, b), None), lambda _, ct: (ct[0], 2 * ct[1]))


def custom(p, x):
    one, two = jnp.unstack(pair(*network(p, x).values()))
    return {"loss1": one, "loss2": two}


def stacked_cond(p, x):
    losses = jax.lax.cond(
        x > 0,
        lambda p: jnp.stack([p["A"], p["B"]]),
        lambda p: jnp.stack([p["C"], p["D"]]),
        p,
    )
    return {"loss1": losses[0], "loss2": losses[1]}


def accumulated(p, x):
    """Over small batches, as an array of losses."""

    def body(sums, x):
        return sums + jnp.stack(list(network(p, x).values())), None

    sums, _ = jax.lax.scan(body, jnp.zeros(2), x * jnp.arange(100.0))
    return {"loss1": sums[0], "loss2": sums[1]}


def rolled(p, x):
    """A carry that keeps changing is followed for some steps only."""
    start = jnp.concatenate([p["C"][None], p["D"] * jnp.ones(49)])
    row, _ = jax.lax.scan(lambda row, _: (jnp.roll(row, 1), None), start, length=49)
    return {"loss1": row[49] * x, "loss2": row[0] * x}


def decoder(p, x):
    """Channels of one image, up to the losses."""
    image = p["B"] * jnp.full((2, 6, 6, 3), p["A"] * x)
    both = jnp.concatenate([p["C"] * image, p["D"] * image], -1)
    both = jax.nn.gelu(jax.image.resize(both, (2, 12, 12, 6), "linear"))
    both = jnp.moveaxis(both[:, 1:-1, ::2], -1, 1).reshape(2, 6, -1)
    one, two = jnp.split(both, 2, 1)
    return {"loss1": jnp.mean(one), "loss2": jnp.mean(jnp.square(two))}


def one_matrix(p, x):
    h = jnp.full((4, 3), p["A"] * x)
    w = jnp.concatenate([jnp.full((3, 1), p["C"]), jnp.full((3, 2), p["D"])], 1)
    one, two = jnp.split(h @ w + p["B"], [1], -1)
    return {"loss1": jnp.sum(one), "loss2": jnp.sum(two)}


def convolution(image, kernel):
    return jax.lax.conv_general_dilated(
        image, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def one_convolution(p, x):
    image = jnp.full((2, 4, 4, 3), p["A"] * x)
    kernels = [jnp.full((3, 3, 3, 2), p[name]) for name in "CD"]
    one, two = jnp.split(convolution(image, jnp.concatenate(kernels, -1)), 2, -1)
    return {"loss1": jnp.sum(one), "loss2": p["B"] * jnp.sum(two)}


def vmapped_heads(p, x):
    h = jnp.full(3, p["A"] * x)
    heads = jnp.stack([p["C"] * jnp.ones((3, 2)), p["D"] * jnp.ones((3, 2))])
    one, two = jax.vmap(lambda w: jnp.sum(jnp.tanh(h @ w) * p["B"]))(heads)
    return {"loss1": one, "loss2": two}


def indexed_rows(p, x):
    """Nodes of a graph, with the channels of both heads."""
    both = jnp.stack([p["C"] * jnp.ones(5), p["D"] * jnp.ones(5)], -1) * p["A"] * x
    some = both[jnp.array([0, 3, 3])].at[1].add(jnp.stack([p["B"], x]))
    return {"loss1": jnp.sum(some[:, 0]), "loss2": jnp.sum(some[:, 1])}


def computed_index(p, x):
    losses, i = jnp.stack(list(network(p, x).values())), jnp.int32(x)
    return {"loss1": losses[i], "loss2": jax.lax.dynamic_slice(losses, (i,), (1,))[0]}


@pytest.mark.parametrize(
    ("program", "one", "two"),
    [
        (stacked, "ABC", "ABD"),
        (jax.jit(stacked), "ABC", "ABD"),
        (jax.checkpoint(stacked), "ABC", "ABD"),
        (unstacked, "ABC", "ABD"),
        (custom, "ABC", "ABD"),
        (stacked_cond, "AC", "BD"),
        (accumulated, "ABC", "ABD"),
        (decoder, "ABC", "ABD"),
        (jax.jit(decoder), "ABC", "ABD"),
        (jax.checkpoint(decoder), "ABC", "ABD"),
        (one_matrix, "ABC", "ABD"),
        (one_convolution, "AC", "ABD"),
        (vmapped_heads, "ABC", "ABD"),
        (indexed_rows, "ABC", "AD"),
        # On the safe side.
        (rolled, "CD", "CD"),
        (computed_index, "ABCD", "ABCD"),
    ],
)
def test_through_arrays_that_heads_share(program, one, two):
    assert list(moved(program, ABCD, 1.0).values()) == [one, two]


def test_a_parameter_with_all_heads_is_moved_by_all():
    def program(p, x):
        one, two = jax.vmap(lambda w: jnp.sum(w * p["trunk"] * x))(p["heads"])
        return {"loss1": one, "loss2": two + jnp.sum(p["own"])}

    params = {"heads": jnp.ones((2, 3)), "own": jnp.ones(2), "trunk": jnp.ones(3)}
    r = hw.routing(program, params, 1.0)
    assert r.shared == {"heads": True, "own": False, "trunk": True}
    assert r.private("loss2") == {"heads": False, "own": True, "trunk": False}


def test_more_heads_than_bits_of_an_integer():
    names = [f"h{i:02}" for i in range(70)]

    def program(p):
        losses = jnp.stack([p[name] * p["trunk"] for name in names]).reshape(7, 10)
        return {name: losses.T[i % 10, i // 10] for i, name in enumerate(names)}

    r = hw.routing(program, dict.fromkeys([*names, "trunk"], 1.0))
    assert r.by_module() == {name: (name,) for name in names} | {"trunk": r.names}


def test_channels_of_large_images():
    """Takes as long as for small ones; crops and pads of all axes included."""

    def program(p, image):
        both = jnp.concatenate([image * p["C"], image * p["D"]], -1)
        for _ in range(5):
            both = jnp.pad(jnp.tanh(both)[:, 2:-2, 2:-2, 2:-2], [(0, 0), *[(2, 2)] * 4])
            both = jax.nn.relu(both)[..., 2:-2]
        return {"u": jnp.sum(both[..., 0]), "v": jnp.sum(both[:, 1:, 1:, 1:, 1])}

    image = jax.ShapeDtypeStruct((2, 160, 192, 224, 1), jnp.float32)
    assert moved(program, {"C": 1.0, "D": 1.0}, image) == {"u": "C", "v": "D"}


def test_multiplied_by_a_traced_zero_is_a_path():
    @jax.jit
    def traced(p, gate):
        r = hw.routing(lambda p, gate: {"y": p["A"] * gate}, p, gate)
        return jnp.array(r.reaches["y"]["A"])

    assert traced(ABCD, 0.0)


@pytest.mark.parametrize("program", [network, two_iterations, scanned_over])
def test_from_shapes_alone_and_inside_jit(program):
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    expected = moved(program, ABCD, 1.0)
    assert moved(program, dict.fromkeys(ABCD, shape), shape) == expected
    seen = []

    @jax.jit
    def step(p, x):
        seen.append(moved(program, p, x))
        return x

    step(ABCD, 1.0)
    jax.vmap(step, in_axes=(None, 0))(ABCD, jnp.ones(2))
    assert all(found == expected for found in seen)


def test_static_and_keyword_arguments_and_aux():
    def program(p, x, mode, *, which):
        values = network(p, x)
        assert mode == "train"
        return {name: values[name] for name in which}, {"mode": mode}

    args = (ABCD, np.float32(1.0), "train")
    assert moved(program, *args, has_aux=True, which=["loss2"]) == {"loss2": "ABD"}


@pytest.mark.parametrize("seed", range(20))
def test_equals_numbers_on_random_programs(seed):
    """Generic inputs: a derivative is 0 exactly where there is no path.

    Every operation has derivatives that vanish nowhere near these inputs, and arrays
    are scalars, so that the flags and the numbers must agree on every parameter.
    """
    rng = random.Random(seed)
    parameters = [f"p{i}" for i in range(5)]
    steps = [
        (rng.choice(["add", "mul", "tanh", "stop", "jit", "scan", "cond", "int"]), r, s)
        for r, s in [(rng.random(), rng.random()) for _ in range(8)]
    ]
    picks = [rng.random() for _ in range(4)]

    def body(pair, x):
        a, b = pair
        return (a * 0.5 + b * x, jnp.sin(b)), a * x

    def program(p):
        nodes = [p[name] for name in parameters]
        for kind, r, s in steps:
            a, b = (nodes[int(u * len(nodes))] for u in (r, s))
            if kind == "add":
                nodes.append(a + 1.3 * b)
            elif kind == "mul":
                nodes.append(a * b)
            elif kind == "tanh":
                nodes.append(jnp.tanh(0.3 * a))
            elif kind == "stop":
                nodes.append(jax.lax.stop_gradient(a) * b)
            elif kind == "jit":
                nodes += jax.jit(lambda a, b: (jnp.exp(0.1 * a), a * b))(a, b)
            elif kind == "scan":
                length = 1 + int(4 * r)
                carry, each = jax.lax.scan(body, (a, b), jnp.arange(1.0, 1.0 + length))
                nodes += [*carry, jnp.sum(each)]
            elif kind == "cond":
                less, more = (lambda a, b: a + b), (lambda a, b: a - 0.7 * b)
                nodes.append(jax.lax.cond(a > b, less, more, a, b))
            else:
                nodes.append((jnp.floor(a) + 0.5) * b + jnp.float32(a > 0))
        mine = [nodes[int(u * len(nodes))] for u in picks]
        return {"u": mine[0] * mine[1], "v": mine[2], "w": mine[3] + mine[2]}

    values = np.random.default_rng(seed).uniform(0.5, 1.5, size=5).astype(np.float32)
    params = dict(zip(parameters, jnp.asarray(values)))
    grads = jax.jit(lambda p: hw.head_grads(program)(p)[1])(params)
    numbers = jax.tree.map(lambda g: bool(g != 0), grads)
    assert hw.routing(program, params).reaches == numbers


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
