"""evaluate and predict: over uneven batches exactly what all data at once give."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import headwise as hw

RNG = np.random.default_rng(0)
DATA = {
    "x": RNG.normal(size=(7, 3)).astype(np.float32),
    "y": RNG.integers(0, 2, 7),
    "known": np.array([True, False, True, True, False, False, True]),
}
PARAMS = {"w": jnp.asarray(RNG.normal(size=(3, 2)), jnp.float32)}
OBJECTIVE = hw.Objective(dict.fromkeys("ab", optax.losses.squared_error))


def cut(*sizes):
    """A list of batches of so many examples."""
    ends = np.cumsum(sizes)
    return [
        {name: x[end - size : end] for name, x in DATA.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def metrics_fn(params, batch, where=None):
    scores = batch["x"] @ params["w"]
    mean = jnp.mean(scores[:, 0], where=where)
    return {
        "accuracy": hw.metrics.pixel_accuracy(scores, batch["y"], where=where),
        "deep": {"iou": hw.metrics.iou(scores[:, None], batch["y"][:, None])}
        if where is None
        else {},
        "mean": mean,
    }


def without_where(params, batch):
    return metrics_fn(params, batch)


jitted = jax.jit(without_where)


def with_rest(params, rest, batch):
    return metrics_fn({"w": params["w"] * rest["scale"]}, batch)


def expected():
    """In float64, of all data at once."""
    scores = np.float64(DATA["x"]) @ np.float64(PARAMS["w"])
    hard, y = scores.argmax(-1), DATA["y"]
    both = [np.sum((hard == c) & (y == c)) for c in (0, 1)]
    either = [np.sum((hard == c) | (y == c)) for c in (0, 1)]
    return np.mean(hard == y), np.divide(both, either), scores[:, 0].mean()


WAYS = {
    "arrays": dict(batches=DATA, batch_size=3),
    "arrays, one batch": dict(batches=DATA, batch_size=100),
    "a tuple of arrays": dict(
        metrics_fn=lambda p, b: without_where(p, {"x": b[0], "y": b[1]}),
        batches=(DATA["x"], DATA["y"]),
        batch_size=3,
    ),
    "on the device": dict(batches=jax.tree.map(jnp.asarray, DATA), batch_size=3),
    "list": dict(batches=cut(3, 3, 1)),
    "generator": dict(batches=iter(cut(3, 3, 1))),
    "smallest first": dict(batches=cut(1, 3, 3)),
    "empty ones": dict(batches=cut(0, 3, 3, 0, 1, 0)),
    "where": dict(metrics_fn=metrics_fn, batches=cut(3, 1, 3)),
    "where, smallest first": dict(metrics_fn=metrics_fn, batches=cut(1, 3, 3)),
    "jitted": dict(metrics_fn=jitted, batches=cut(3, 3, 1)),
    "rest": dict(
        metrics_fn=with_rest, batches=cut(3, 3, 1), rest={"scale": jnp.float32(1.0)}
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_uneven_batches_give_the_metrics_of_all_data(way):
    options = {"metrics_fn": without_where, "params": PARAMS} | WAYS[way]
    found = hw.training.evaluate(**options)
    accuracy, iou, mean = expected()
    assert found["accuracy"].count == 7
    np.testing.assert_allclose(found["accuracy"].value, accuracy, rtol=1e-6)
    np.testing.assert_allclose(found["mean"], mean, rtol=1e-5)
    assert isinstance(found["accuracy"].total, np.ndarray | np.generic)
    if "where" not in way:
        np.testing.assert_allclose(found["deep"]["iou"].value, iou, rtol=1e-6)


def masked(params, batch):
    """The values of an Objective: `b` has labels for some examples."""
    outputs = {"a": batch["x"][:, 0] * params["w"][0, 0], "b": batch["x"][:, 1]}
    targets = dict.fromkeys("ab", jnp.zeros(len(batch["x"])))
    return OBJECTIVE.values(outputs, targets, where={"b": batch["known"]})


@pytest.mark.parametrize("sizes", [(7,), (3, 3, 1), (1, 1, 3, 2)])
def test_values_of_an_objective_add_up_by_their_counts(sizes):
    """In (1, 1, 3, 2) the second batch has no label of `b`."""
    found = hw.training.evaluate(masked, PARAMS, cut(*sizes))
    x, known = np.float64(DATA["x"]), DATA["known"]
    a = np.mean((x[:, 0] * np.float64(PARAMS["w"][0, 0])) ** 2)
    np.testing.assert_allclose(found["a"], a, rtol=1e-6)
    np.testing.assert_allclose(found["b"], np.mean(x[known, 1] ** 2), rtol=1e-6)
    assert isinstance(found, hw.Means)
    assert (found.counts["b"], found.present["b"]) == (4, 1)
    # The total is that of the objective over all data.
    total = OBJECTIVE.total(found)
    np.testing.assert_allclose(total, found["a"] + found["b"], rtol=1e-6)


def test_a_head_without_any_data_is_absent_and_no_number_in_a_record():
    nothing = [batch | {"known": np.zeros(2, bool)} for batch in cut(2, 2)]
    found = hw.training.evaluate(masked, PARAMS, nothing)
    assert (found["b"], found.present["b"]) == (0, 0)
    record = validated(lambda params, rest: found)
    assert record["validation"] == {"a": pytest.approx(float(found["a"])), "b": None}


def validated(validate):
    step = hw.training.make_step(lambda p, b: {"a": jnp.sum(p["w"])}, optax.sgd(0.0))
    state = hw.training.init_state(["a"], PARAMS, optax.sgd(0.0))
    return hw.training.fit(
        step, state, lambda t: 0.0, 1, validate=validate, progress=False
    )[1][-1]


def test_fit_validates_with_it_in_one_line():
    def validate(params, rest):
        return hw.training.evaluate(without_where, params, cut(3, 3, 1), rest=rest)

    def named(params, rest):
        found = validate(params, rest)
        iou = found["deep"]["iou"]
        return {"accuracy": found["accuracy"], "iou": iou.named(["sky", "road"])}

    accuracy, iou, _ = expected()
    with pytest.raises(ValueError, match=r"'deep/iou': .*its .mean, or .named"):
        validated(validate)
    found = validated(named)["validation"]
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["iou"] == {"sky": pytest.approx(iou[0]), "road": pytest.approx(iou[1])}


@pytest.mark.parametrize("masks", [True, False])
def test_programs_are_as_few_as_can_be(masks, caplog):
    traced = []

    def plain(params, batch):
        traced.append(batch["x"].shape)
        return {"n": hw.metrics.Ratio(jnp.sum(batch["x"]), jnp.float32(1))}

    def with_where(params, batch, where):
        traced.append(batch["x"].shape)
        mean = jnp.mean(batch["x"], where=where[:, None])
        return {"n": hw.metrics.Ratio(mean, jnp.sum(where) * 1.0)}

    sizes = (9, 1, 5, 4, 3, 2, 7, 8, 6)  # the largest first
    data = [{"x": np.ones((n, 1), np.float32)} for n in sizes]
    for _ in range(2):  # the second time nothing is compiled
        found = hw.training.evaluate(with_where if masks else plain, {}, data)
    assert found["n"].count == (45 if masks else 9)
    assert len(traced) == (1 if masks else 9)
    told = ["9 shapes" in message for message in caplog.messages]
    assert told == ([] if masks else [True, True])


def test_small_batches_count_after_very_many():
    """In float32 2²⁴ + 1 is 2²⁴."""
    sums = [np.float32([2**24]), *[np.float32([1.0])] * 5]

    def total(params, batch):
        return {"r": hw.metrics.Ratio(batch[0], batch[0])}

    assert hw.training.evaluate(total, {}, sums)["r"].total == 2**24 + 4 + 1 - 1
    infinite = hw.training.evaluate(total, {}, [np.float32([np.inf]), *sums])
    assert np.isinf(infinite["r"].total)


class Confusion(NamedTuple):
    """Any pytree of sums will do."""

    matrix: jax.Array


def test_batches_may_leave_out_heads_and_metrics_may_be_of_any_kind():
    def one_source(params, batch):
        (name, x), *_ = batch.items()
        return {name: jnp.mean(x), "all": Confusion(jnp.ones((2, 2), int) * len(x))}

    stream = [{"a": np.float32([1.0, 2.0])}, {"b": np.float32([5.0])}]
    stream.append({"a": np.float32([6.0])})
    found = hw.training.evaluate(one_source, {}, stream)
    assert (found["a"], found["b"]) == (3.0, 5.0)
    np.testing.assert_array_equal(found["all"].matrix, np.full((2, 2), 4))


def test_params_on_a_mesh():
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=auto)
    spec = jax.sharding.PartitionSpec(None, "model")
    params = jax.device_put(PARAMS, jax.sharding.NamedSharding(mesh, spec))
    for function in (without_where, metrics_fn):
        found = hw.training.evaluate(function, params, DATA, batch_size=3)
        assert found["accuracy"].value == pytest.approx(expected()[0])


def nnx_model():
    class Model(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0), use_running_average=True)
            self.norm.mean[...] = jnp.arange(3.0)

        def __call__(self, x):
            return {"y": self.norm(x)}

    return nnx.split(Model(), nnx.Param, ...)


def test_nnx_models_by_split_and_merge():
    graphdef, params, rest = nnx_model()

    def predict_fn(params, rest, batch):
        return nnx.merge(graphdef, params, rest)(batch["x"])

    def metrics_fn(params, rest, batch):
        return {"y": jnp.mean(predict_fn(params, rest, batch)["y"])}

    options = dict(params=params, batches=cut(3, 3, 1), rest=rest)
    right = (np.float64(DATA["x"]) - np.arange(3)) / np.sqrt(1 + 1e-5)
    outputs = hw.training.predict(predict_fn, **options)
    np.testing.assert_allclose(outputs["y"], right, rtol=1e-5)
    found = hw.training.evaluate(metrics_fn, **options)
    np.testing.assert_allclose(found["y"], right.mean(), rtol=1e-5)


BAD = {
    "a function": (dict(batches=lambda t: 0), TypeError, "that ends, .*<lambda>"),
    "a dict": (dict(batches=DATA), TypeError, "got dict, .*one batch: give batch_size"),
    "a tuple": (dict(batches=(1, 2)), TypeError, "got tuple, which stands for one"),
    "none": (dict(batches=[]), ValueError, "one or more with examples, got none"),
    "empty": (dict(batches=cut(0)), ValueError, "one or more with examples, got none"),
    "lengths": (
        dict(batches={"x": np.ones(3), "y": np.ones(2)}, batch_size=2),
        ValueError,
        r"one leading axis, .* x \(3,\), y \(2,\)",
    ),
    "a scalar": (dict(batches={"x": 1.0}, batch_size=2), TypeError, "got 1.0 as x"),
    "size": (dict(batches=DATA, batch_size=0), ValueError, "batch_size: .* got 0"),
    "other arguments": (
        dict(metrics_fn=with_rest),
        TypeError,
        r"metrics_fn\(params, batch\), got metrics_fn\(params, rest, batch\); rest= g",
    ),
    "no dict": (
        dict(metrics_fn=lambda p, b: b["x"]),
        TypeError,
        "expected it to return {name: metric}, got an array",
    ),
    "a vector": (
        dict(metrics_fn=lambda p, b: {"d": {"v": b["x"][:, 0]}}),
        ValueError,
        r"metric 'd/v': .*, got shape \(3,\); .*Ratio\(total, count\)",
    ),
    "an int": (
        dict(metrics_fn=lambda p, b: {"n": jnp.sum(b["y"])}),
        TypeError,
        "metric 'n': .*got int32; a number of what is there is a sum",
    ),
    "text": (dict(metrics_fn=lambda p, b: {"n": None}), TypeError, "'n': .*got None"),
    "no count": (
        dict(
            metrics_fn=lambda p, b: {"n": jnp.mean(b["x"])},
            batches=[{"x": np.ones(2), "y": np.ones(3)}],
        ),
        ValueError,
        "metric 'n': expected to know of how many entries",
    ),
    "over the batch": (
        dict(metrics_fn=lambda p, b: coupled(b)),
        ValueError,
        "more than one batch: the value of head 'a' is no mean over examples",
    ),
}


def coupled(batch):
    return hw.Means({"a": jnp.mean(batch["x"])}, coupled={"a": "Dice of the batch"})


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_evaluated_is_named(kind):
    given, error, words = BAD[kind]
    good = dict(metrics_fn=without_where, params=PARAMS, batches=cut(3, 3, 1))
    with pytest.raises(error, match=words):
        hw.training.evaluate(**good | given)


def test_one_batch_of_a_coupled_value_is_fine():
    found = hw.training.evaluate(lambda p, b: coupled(b), {}, DATA, batch_size=7)
    np.testing.assert_allclose(found["a"], DATA["x"].mean(), rtol=1e-5)


def outputs_fn(params, batch):
    y = batch["x"] @ params["w"]
    return {"a": y, "b": [jnp.argmax(y, -1)], "half": y[:, 0].astype(jnp.bfloat16)}


@pytest.mark.parametrize("sizes", [(7,), (3, 3, 1), (1, 2, 4), (3, 0, 4), (1,) * 7])
def test_predictions_have_a_row_an_example_in_order(sizes):
    found = hw.training.predict(outputs_fn, PARAMS, cut(*sizes))
    right = np.float64(DATA["x"]) @ np.float64(PARAMS["w"])
    np.testing.assert_allclose(found["a"], right, rtol=1e-5)
    np.testing.assert_array_equal(found["b"][0], right.argmax(-1))
    assert found["half"].dtype == jnp.bfloat16
    assert found["a"].flags.writeable


def test_predictions_of_arrays_are_one_program():
    traced = []

    def predict_fn(params, x):
        traced.append(x.shape)
        return jnp.sum(x, axis=1)

    found = hw.training.predict(predict_fn, (), DATA["x"], batch_size=3)
    np.testing.assert_allclose(found, DATA["x"].sum(1), rtol=1e-5)
    assert traced == [(3, 3)]
    with pytest.raises(ValueError, match=r"row for each of 3 .* shape \(\) as the out"):
        hw.training.predict(lambda p, x: jnp.sum(x), (), DATA["x"], batch_size=3)
    with pytest.raises(ValueError, match="batches: expected one or more, got none"):
        hw.training.predict(predict_fn, (), [])
