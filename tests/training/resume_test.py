"""Going on from a checkpoint: by name, with what is set now, not without a word."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import headwise as hw

pytestmark = pytest.mark.optimized

ROOT = pathlib.Path(__file__).parents[2]
SEEN = "the step is another program than the one that made the checkpoint of step 4"


def run(folder, steps=4, *, batches=lambda t: 0.0, settings=None, **parts):
    """Heads at distance 1 from p, by gradient descent: the gap shrinks every step."""
    heads = parts.get("heads", ("a", "b"))
    balancer = parts.get("balancer", hw.balancers.imtl_g())
    optimizer = parts.get("optimizer", optax.sgd(0.1))
    loss = parts.get("loss", lambda gap: gap**2)
    state = hw.training.init_state(
        heads,
        parts.get("params", {"p": jnp.zeros(())}),
        optimizer,
        balancer,
        rest=parts.get("rest", ()),
        key=jax.random.key(parts.get("seed", 0)),
    )

    def values_fn(params, rest, batch, key):
        gap = loss(sum(jnp.mean(p) for p in params.values()) + batch - 1.0)
        return dict.fromkeys(heads, gap), rest

    step = hw.training.make_step(values_fn, optimizer, balancer, stateful=True)
    return hw.training.fit(
        parts.get("wrap", lambda f: f)(step),
        parts.get("state", state),
        batches,
        steps,
        workdir=folder,
        settings=settings,
        log_every=1,
        checkpoint_every=1000,
        progress=False,
    )


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    """The workdir of a run of four steps."""
    folder = tmp_path_factory.mktemp("of") / "four_steps"
    run(folder, settings={"lr": 0.1})
    return folder


def inside(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def wrapped(weights):
    return hw.balancers.warm_up(hw.balancers.constant(weights), 0)


@pytest.mark.parametrize(
    ("make", "where"), [(hw.balancers.constant, ""), (wrapped, "inner/")]
)
def test_a_weight_that_was_changed_acts_and_is_told(make, where, tmp_path, caplog):
    run(tmp_path, 5, balancer=make({"a": 1.0, "b": 1.0}))
    assert caplog.messages == []
    state, history = run(tmp_path, 7, balancer=make({"a": 1.0, "b": 0.0}))
    weights = [record["weights"] for record in history]
    assert weights[4:] == [{"a": 1.0, "b": 1.0}] + 2 * [{"a": 1.0, "b": 0.0}]
    # p' = p + 0.1 (2 + 2) (1 - p) five times, then p + 0.1 * 2 (1 - p) twice.
    gap = 1 - float(state.params["p"])
    assert gap == pytest.approx(0.6**5 * 0.8**2, rel=1e-5)
    line = f"{where}weights of 'b': 1 -> 0 from step 5 on"
    assert caplog.messages == [f"{tmp_path}: {line}"]
    assert [record.get("changed") for record in history] == 5 * [None] + [[line], None]
    run(tmp_path, 8, balancer=make({"a": 1.0, "b": 0.0}))
    assert len(caplog.messages) == 1


OTHERS = {
    "heads": (
        {"heads": ("x", "y")},
        ["heads: ['a', 'b'] in the checkpoint, ['x', 'y'] now"],
    ),
    "one head more": (
        {"heads": ("a", "b", "c")},
        ["heads:", "balancer/weights: float32[2] in the checkpoint, float32[3] now"],
    ),
    "balancer": (
        {"balancer": hw.balancers.constant()},
        ["balancer: GramState in the checkpoint, ConstantState now"],
    ),
    "wrapped": (
        {"balancer": hw.balancers.every(2, hw.balancers.imtl_g())},
        ["balancer: GramState in the checkpoint, EveryState now"],
    ),
    "optimiser": (
        {"optimizer": optax.adamw(0.1)},
        ["optimizer/0: EmptyState in the checkpoint, ScaleByAdamState now"],
    ),
    "dtype": (
        {"params": {"p": jnp.zeros((), jnp.bfloat16)}},
        ["params/p: float32[] in the checkpoint, bfloat16[] now"],
    ),
    "shape": (
        {"params": {"p": jnp.zeros(3)}},
        ["params/p: float32[] in the checkpoint, float32[3] now"],
    ),
    "names of parameters": (
        {"params": {"q": jnp.zeros(())}},
        [
            "params/p: float32[] in the checkpoint, nothing now",
            "params/q: nothing in the checkpoint, float32[] now",
        ],
    ),
    "rest": (
        {"rest": {"mean": np.zeros(2)}},
        ["rest/mean: nothing in the checkpoint, float32[2] now"],
    ),
    "seed": ({"seed": 7}, ["key: [0, 0] in the checkpoint, [0, 7] now"]),
    "all at once": (
        {"heads": ("x", "y"), "seed": 7, "params": {"p": jnp.zeros(3)}},
        ["heads:", "key:", "params/p:"],
    ),
    "many": (
        {"params": {f"p{i:02}": jnp.zeros(()) for i in range(30)}},
        ["params/p00", "params/p09", "and 21 more"],
    ),
    "settings": ({"settings": {"lr": 0.2}}, ["another run: lr was 0.1, is 0.2"]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_by_name(what, four_steps):
    parts, words = OTHERS[what]
    before = inside(four_steps)
    with pytest.raises(hw.training.WorkdirError) as error:
        run(four_steps, 8, **parts)
    text = str(error.value)
    assert [word for word in words if word not in text] == []
    assert str(four_steps) in text
    assert "(give another folder)" in text
    assert len(text.splitlines()) <= 13
    assert inside(four_steps) == before


def test_fewer_steps_than_are_done(four_steps, tmp_path):
    with pytest.raises(ValueError, match=r"steps: .* 4 that are done in .*, got 3"):
        run(four_steps, 3)
    state, _ = run(None)
    with pytest.raises(ValueError, match=r"steps: .* 4 that are done in state, got 3"):
        run(None, 3, state=state)
    run(tmp_path, 2)
    with pytest.raises(
        ValueError, match=r"state: expected at most the 2 steps .*got 4"
    ):
        run(tmp_path, 8, state=state)


@pytest.mark.parametrize(
    ("before", "parts"),
    [
        ({}, {"optimizer": optax.sgd(0.2)}),
        ({}, {"loss": jnp.abs}),
        ({"optimizer": optax.adam(0.1)}, {"optimizer": optax.yogi(0.1)}),
        (
            {"balancer": hw.balancers.cagrad(0.4)},
            {"balancer": hw.balancers.cagrad(0.8)},
        ),
    ],
)
def test_another_program_goes_on_and_is_told_once(before, parts, tmp_path, caplog):
    run(tmp_path, **before)
    _, history = run(tmp_path, 5, **parts)
    assert [SEEN in message for message in caplog.messages] == [True]
    assert SEEN in history[-1]["changed"][0]
    run(tmp_path, 6, **parts)
    assert len(caplog.messages) == 1


def test_the_same_program_is_not_told(four_steps, tmp_path, caplog):
    """Also if it was traced again, with shapes of batches that cannot be compared."""
    run(tmp_path)
    run(tmp_path, 5)
    run(
        tmp_path, 6, batches=lambda t: np.zeros(3, np.float32), loss=lambda x: x[0] ** 2
    )
    assert caplog.messages == []


class Opaque:
    """A compiled step that does not show its program."""

    lower = None

    def __init__(self, step):
        self.step = jax.jit(step)

    def __call__(self, state, batch):
        return self.step(state, batch)


def test_a_step_that_does_not_show_its_program_goes_on(tmp_path, caplog):
    run(tmp_path, wrap=Opaque)
    state, _ = run(tmp_path, 5, wrap=Opaque, optimizer=optax.sgd(0.2))
    # Two heads of weight 1/2: p' = p + rate * 2 (1 - p), with the new rate at the end.
    gap = 1 - float(state.params["p"])
    assert gap == pytest.approx(0.8**4 * 0.6, rel=1e-5)
    assert caplog.messages == []


def test_a_program_has_one_hash_in_every_process(tmp_path):
    code = """
import sys
from tests.training import resume_test
resume_test.run(sys.argv[1], int(sys.argv[2]), balancer=resume_test.hw.balancers.mgda())
"""
    run(tmp_path, 1, balancer=hw.balancers.mgda())  # by a seed of hashes that is drawn
    for steps in (2, 3):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(steps)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": "research:.", "PYTHONHASHSEED": str(steps)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "another program" not in done.stderr
    with hw.training.Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.note["program"]["heads"] == ["a", "b"]


@jax.tree_util.register_static
class Names(tuple):
    """Static data with a name of its own, as the states of balancers hold."""


def named(heads, of):
    names = Names(heads)
    names.of = of
    return {"names": names, "x": jnp.ones(1)}


def test_static_data_of_a_state_are_compared(tmp_path):
    with hw.training.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, named("ab", "upgrad"))
        checkpoints.wait()
        assert checkpoints.restore(named("ab", "upgrad"))["names"] == ("a", "b")
        with pytest.raises(ValueError, match=r"names: .*upgrad.* in the ch.*mgda' now"):
            checkpoints.restore(named("ab", "mgda"))
        with pytest.raises(ValueError, match=r"names: \('a', 'b'\) .*'x', 'y'"):
            checkpoints.restore(named("xy", "upgrad"))


def test_settings_belong_to_the_workdir(tmp_path):
    run(tmp_path, 2)  # an older one: without settings
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, 3, settings={"lr": np.float32(0.5), "flag": True})
    run(tmp_path, 4, settings={"flag": True, "lr": 0.5})
    assert hw.training.claim_workdir(tmp_path, {"flag": True, "lr": 0.5}) == tmp_path
    with pytest.raises(hw.training.WorkdirError, match="flag was True, is not set"):
        run(tmp_path, 5, settings={"lr": 0.5})
    with pytest.raises(
        TypeError, match=r"settings\['f'\]: expected what JSON can hold"
    ):
        run(tmp_path, 5, settings={"f": print})


@pytest.mark.parametrize("jitted", [False, True])
def test_every_kind_of_leaf_is_kept(jitted, tmp_path):
    """NumPy, numbers, empty arrays, names that agree when joined, one array twice."""
    params = {"a.b": jnp.zeros(2), "a": {"b": jnp.ones(2)}, "a/b": jnp.full(2, 2.0)}

    def flat(tree):
        return [x for x in jax.tree.leaves(tree) if x.size]

    def train(folder, steps):
        # A jitted step is given its state for good.
        tree = jax.tree.map(jnp.copy, params) | {"x": jnp.full(2, 0.25)}
        also_x = jax.device_put(tree["x"], jax.devices()[0])  # the same memory
        tree |= {"y": tree["x"], "z": also_x, "empty": jnp.zeros(0)}
        key = jax.random.key(0)
        rest = {"mean": np.arange(2.0), "calls": 3, "none": jnp.zeros((0, 4))}
        rest |= {"key": key, "raw": jax.random.key_data(key), "again": tree["x"]}
        optimizer, balancer = optax.adam(0.1), hw.balancers.equal()
        parts = (["a", "b"], tree, optimizer, balancer, rest, key)
        state = hw.training.init_state(*parts)

        def values_fn(p, rest, batch, key):
            total = sum(i * jnp.sum(x) for i, x in enumerate(flat(p), 1))
            return {"a": total**2, "b": -total}, rest

        step = hw.training.make_step(values_fn, optimizer, balancer, stateful=True)
        step = jax.jit(step, donate_argnums=0) if jitted else step
        options = {"workdir": folder, "log_every": 1, "progress": False}
        return hw.training.fit(step, state, lambda t: 0.0, steps, **options)[0]

    train(tmp_path, 2)
    parts_of_it, whole = train(tmp_path, 4), train(None, 4)
    assert jax.tree.structure(parts_of_it) == jax.tree.structure(whole)
    for one, other in zip(jax.tree.leaves(parts_of_it), jax.tree.leaves(whole)):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert jnp.array_equal(one, other)
    assert np.ptp([x[0] for x in flat(whole.params)]) > 1  # none is another
    np.testing.assert_array_equal(whole.rest["mean"], [0.0, 1.0])
    assert (whole.rest["calls"], whole.rest["none"].shape) == (3, (0, 4))


def test_a_run_that_goes_on_needs_no_other_program(tmp_path):
    """JAX makes another one of a step for arrays that are tied to their device."""
    run(tmp_path, 2)
    state, _ = run(tmp_path, 4)
    assert not any(x.committed for x in jax.tree.leaves(state))

    def made(seed):
        tied = {"w": jnp.full(2, seed), "key": jax.random.key(seed)}
        free = {"also": jnp.full(2, seed, jnp.bfloat16), "k": jax.random.key(2 + seed)}
        return free | jax.device_put(tied, jax.devices()[1])

    saved = made(1)
    with hw.training.Checkpoints(tmp_path / "one") as checkpoints:
        checkpoints.save(0, saved)
        checkpoints.wait()
        found = checkpoints.restore(made(0))
    for name, x in saved.items():
        assert (found[name].committed, found[name].dtype) == (x.committed, x.dtype)
        assert found[name].devices() == x.devices()
        assert jnp.array_equal(found[name], x)


def numbered(seen):
    for t in range(100):
        seen.append(t)
        yield np.float32(t)


def test_a_generator_goes_on_where_it_stands(tmp_path, caplog):
    seen = []
    batches, fit = numbered(seen), functools.partial(run, loss=jnp.abs)
    state, _ = fit(None, 2, batches=batches)
    fit(None, 4, batches=batches, state=state)
    assert seen == [0, 1, 2, 3]
    fit(tmp_path, 2, batches=batches)  # another run goes on with the same one
    fit(tmp_path, 4, batches=batches)  # with the first state, from its checkpoint
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7]
    assert caplog.messages == []
    fit(tmp_path, 5, batches=numbered(seen))  # a new one stands at 0
    assert seen[8:] == [0, 1, 2, 3, 4]
    assert "first 4 steps are passed over" in caplog.text
    for steps in (3, 7):  # a list starts again, and is read forward in silence
        rows = [np.float32(t) for t in range(steps)]
        state, _ = fit(tmp_path / "list", steps, batches=rows)
    assert len(caplog.messages) == 1
    assert state.params["p"] == fit(None, 7, batches=np.float32)[0].params["p"]


def test_checkpoints_of_version_0_2_go_on(tmp_path):
    """They hold the tree of the state, and a note that is no dict of ours."""
    from orbax.checkpoint import v1 as ocp

    parts = {"optimizer": optax.adam(0.1), "rest": {"list": [jnp.ones(2), jnp.ones(1)]}}
    state, _ = run(None, 4, **parts)
    with ocp.training.Checkpointer(tmp_path / "checkpoints") as checkpointer:
        checkpointer.save(4, state, custom_metadata={"note": None})
    words = r"params/p: float32\[\] in the checkpoint, float32\[3\] now"
    with pytest.raises(hw.training.WorkdirError, match=words):
        run(tmp_path, 6, **parts | {"params": {"p": jnp.zeros(3)}})
    resumed, whole = run(tmp_path, 6, **parts)[0], run(None, 6, **parts)[0]
    assert jax.tree.structure(resumed) == jax.tree.structure(whole)
    for one, other in zip(jax.tree.leaves(resumed), jax.tree.leaves(whole)):
        assert jnp.array_equal(one, other)


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, caplog):
    for steps in (1, 2):
        run(tmp_path / "run", steps)
    folder = tmp_path / "run/checkpoints/2"
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size > 200 and path.suffix != ".json":
            path.write_bytes(path.read_bytes()[:100])
    state, history = run(tmp_path / "run", 4)
    (message,) = (r.getMessage() for r in caplog.records if r.name == "headwise")
    assert message.startswith(f"{folder}: is damaged (")
    whole, expected = run(tmp_path / "whole", 4)
    assert jnp.array_equal(state.params["p"], whole.params["p"])
    assert history == expected
    assert "2.damaged" in {path.name for path in folder.parent.iterdir()}
