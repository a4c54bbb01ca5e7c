"""What every loss promises, as one battery; a family of losses is a subclass.

Tests take `name` and run for each of `entries`, or for those that they concern.
"""

import functools
import inspect
import random
import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec
from jax.test_util import check_grads

from tests.losses import _entry

SHAPES = {"1-D": (2, 5, 3), "2-D": (2, 3, 4, 3), "3-D": (2, 2, 3, 2, 3)}

# float32 against float64: sums of up to 24 terms, and of weights up to 1 / volume²,
# keep 5 digits (eps = 6e-8, and differences of numbers near 1 lose no more than two).
CLOSE: Mapping = dict(rtol=2e-5, atol=2e-6)
# The same operations fused or in another order: the last float32 digits may differ.
SAME: Mapping = dict(rtol=1e-5, atol=1e-6)

WHERE = [
    None,
    "example",
    "position",
    "position of all examples",
    "channel axis of 1",
    "entry",
    "class of example",
]


def make_where(rng, shape, kind):
    """A mask of about 70 % True; `shape` is that of preds."""
    shapes = {
        "example": shape[:1],
        "position": shape[:-1],
        "position of all examples": (1, *shape[1:-1]),
        "channel axis of 1": (*shape[:-1], 1),
        "entry": shape,
        "class of example": (shape[0], *(1 for _ in shape[1:-1]), shape[-1]),
    }
    return None if kind is None else rng.random(shapes[kind]) < 0.7


def concerns(condition):
    """Marks a test of the losses whose entry meets the condition."""

    def mark(test):
        test.concerns = condition
        return test

    return mark


def takes(option) -> Callable:
    """Whether a loss has the option."""
    return lambda entry: option in entry.options


def takes_labels(entry):
    """Whether integer labels may be its targets."""
    return "labels" in entry.targets


def ignores(entry):
    """Whether it can ignore a label."""
    return takes_labels(entry) and "ignore" in inspect.signature(entry.loss).parameters


def both(one, other):
    """A pattern for texts that hold both, in any order."""
    return f"(?s)(?=.*{re.escape(one)})(?=.*{re.escape(other)})"


def bind(entry, options):
    """The loss as a function of the arrays alone."""
    options = dict(options)
    if "activation" in options:
        options["activation"] = _entry.ACTIVATIONS[options["activation"]]
    return functools.partial(entry.loss, **options)


def shapes_of(entry):
    return entry.shapes or SHAPES


def smallest(entry):
    return min(shapes_of(entry).values(), key=np.prod)


def draws(name, entry, shape, count, seed=0):
    """Random members of the product of all options: (preds, targets, options)."""
    choose = random.Random(f"{name} {shape} {seed}")
    rng = np.random.default_rng(len(shape) + seed)
    # Each draw has another mask and the next form of targets, so that all occur over
    # the three ranks.
    start = len(shape) * count
    for i in range(start, start + count):
        options = {key: choose.choice(values) for key, values in entry.options.items()}
        make = entry.preds if options.get("activation") is None else _entry.normal
        preds = make(rng, shape)
        targets = entry.make_targets(rng, shape, entry.targets[i % len(entry.targets)])
        where = make_where(rng, shape, WHERE[i % len(WHERE)])
        yield preds, targets, options | dict(where=where)


def example(entry, shape=None, kind=None):
    """Predictions and hard targets, without options."""
    rng = np.random.default_rng(7)
    shape = shape or smallest(entry)
    kind = kind or ("one-hot" if "one-hot" in entry.targets else entry.targets[0])
    return jnp.array(entry.preds(rng, shape)), jnp.array(
        entry.make_targets(rng, shape, kind)
    )


def total(entry, **options):
    """The sum of the values, as a function of the arrays."""
    loss = bind(entry, options)
    return lambda preds, targets: jnp.sum(loss(preds, targets))


MISUSE = {
    "preds without channels": (
        dict(preds=jnp.ones(4)),
        ValueError,
        r"\[B, \*S, C\].*\(4,\)",
    ),
    "integer preds": (dict(preds=jnp.ones((2, 5, 3), int)), TypeError, "floating.*int"),
    "floating labels": (
        dict(targets=jnp.zeros((2, 5))),
        ValueError,
        r"\(2, 5, 3\).*integer labels \(2, 5\).*float32 \(2, 5\)",
    ),
    "class weights of another length": (
        dict(class_weights=jnp.ones(2)),
        ValueError,
        r"class_weights.*\(3,\).*\(2,\)",
    ),
    "activation by name": (
        dict(activation="softmax"),
        (TypeError, ValueError),
        "activation.*'softmax'",
    ),
    "no class left": (
        dict(preds=jnp.ones((2, 5, 1)), targets=jnp.ones((2, 5, 1)), background=False),
        ValueError,
        "background=False drops channel 0 of 1",
    ),
    "labels for one channel": (
        dict(preds=jnp.ones((2, 5, 1)), targets=jnp.zeros((2, 5), int)),
        ValueError,
        r"two or more channels.*\(2, 5, 1\)",
    ),
    "three smooths": (dict(smooth=(1.0, 1.0, 1.0)), ValueError, "smooth.*3 entries"),
    "ignore without labels": (
        dict(ignore=1, targets=jnp.ones((2, 5, 3))),
        ValueError,
        r"ignore.*integer labels \(2, 5\).*float32 \(2, 5, 3\)",
    ),
}


class Battery:
    """All tests; `entries` is {name: Entry}."""

    entries: ClassVar[Mapping[str, _entry.Entry]]

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_equals_naive_float64(self, name, rank):
        entry = self.entries[name]
        for shape in shapes_of(entry).values():
            if len(shape) != rank + 2:
                continue
            for preds, targets, options in draws(name, entry, shape, count=8):
                got = bind(entry, options)(preds, targets)
                expected = entry.reference(preds, targets, **options)
                np.testing.assert_allclose(
                    got, expected, **CLOSE | dict(entry.close), err_msg=str(options)
                )

    def test_shape_of_the_result(self, name):
        entry = self.entries[name]
        preds, targets = example(entry)
        got = jax.eval_shape(entry.loss, preds, targets).shape
        assert got == entry.result(preds.shape)

    def test_jit_equals_eager(self, name):
        entry = self.entries[name]
        for preds, targets, options in draws(name, entry, smallest(entry), 2, seed=1):
            loss = bind(entry, options)
            np.testing.assert_allclose(
                jax.jit(loss)(preds, targets), loss(preds, targets), **SAME
            )

    def test_vmap_equals_loop(self, name):
        entry = self.entries[name]
        for preds, targets, options in draws(name, entry, smallest(entry), 2, seed=2):
            loss = bind(entry, options)
            stacks = np.stack([preds, preds[::-1]]), np.stack([targets] * 2)
            expected = [loss(p, t) for p, t in zip(*stacks)]
            np.testing.assert_allclose(
                jax.vmap(loss)(*stacks), np.stack(expected), **SAME
            )

    def test_sharded_batch_equals_one_device(self, name):
        entry = self.entries[name]
        shape = (4, *smallest(entry)[1:])
        mesh = jax.make_mesh((4,), ("data",))
        split = NamedSharding(mesh, PartitionSpec("data"))
        for preds, targets, options in draws(name, entry, shape, 2, seed=4):
            options.pop("where")
            gradient = jax.jit(jax.value_and_grad(total(entry, **options)))
            expected = gradient(preds, targets)
            got = gradient(*jax.device_put((preds, targets), split))
            for one, other in zip(got, expected):
                np.testing.assert_allclose(one, other, **SAME)

    def test_derivatives(self, name):
        entry = self.entries[name]
        with jax.enable_x64(True):
            shape = (2, 2, 3) if entry.shapes is None else smallest(entry)
            for preds, targets, options in draws(name, entry, shape, 2, seed=3):
                loss = jax.jit(functools.partial(bind(entry, options), targets=targets))
                preds = jnp.asarray(preds, jnp.float64)
                check_grads(loss, (preds,), order=entry.order, modes=["rev"])

    @pytest.mark.parametrize("smooth", [1e-5, 0.0])
    def test_finite_at_the_edges(self, name, smooth):
        entry = self.entries[name]
        if "smooth" not in entry.options and smooth == 0.0:
            pytest.skip("has no smooth")
        shape = (1, *smallest(entry)[1:-1], 2)
        if entry.shapes is not None and shape[-1] != smallest(entry)[-1]:
            shape = (1, *smallest(entry)[1:])
        ones, zeros = np.ones(shape), np.zeros(shape)
        first = zeros.copy()
        first[..., 0] = 1
        edges = [jnp.array(x, jnp.float32) for x in (ones, zeros, first, 1 - first)]
        options = dict(smooth=smooth) if "smooth" in entry.options else {}
        gradient = jax.jit(jax.value_and_grad(total(entry, **options)))
        targets = edges if "one-hot" in entry.targets or not takes_labels(entry) else []
        if takes_labels(entry):
            targets = [*targets, jnp.zeros(shape[:-1], int), jnp.ones(shape[:-1], int)]
        for p in edges:
            for t in targets:
                value, grads = gradient(p, t)
                assert np.isfinite(value)
                assert np.all(np.isfinite(grads))

    @concerns(takes_labels)
    def test_finite_at_extreme_logits(self, name):
        entry = self.entries[name]
        softmax = dict(activation="softmax") if "activation" in entry.options else {}
        if not softmax and entry.preds is _entry.probabilities:
            pytest.skip("takes probabilities alone")
        shape = smallest(entry)
        rng = np.random.default_rng(0)
        logits = jnp.array(rng.choice([-1e4, 0.0, 1e4], shape), jnp.float32)
        gradient = jax.jit(jax.value_and_grad(total(entry, **softmax)))
        for label in (None, 0, 1):
            labels = rng.integers(0, shape[-1], shape[:-1])
            labels = labels if label is None else np.full(shape[:-1], label)
            value, grads = gradient(logits, labels)
            assert np.isfinite(value)
            assert np.all(np.isfinite(grads))

    @concerns(lambda entry: entry.perfect_is_0)
    def test_perfect_is_0_and_worse_is_more(self, name):
        entry = self.entries[name]
        _, targets = example(entry)
        # smooth = 1e-5 above and below cancels to the last digit of float32.
        np.testing.assert_allclose(entry.loss(targets, targets), 0.0, atol=1e-6)
        assert jnp.sum(entry.loss(0.5 * targets, targets)) > 0.1
        assert jnp.all(entry.loss(1.0 - targets, targets) > 0.1)

    @concerns(lambda entry: not entry.spatial)
    def test_where_equals_slicing_out(self, name):
        entry = self.entries[name]
        preds, targets = example(entry, (2, 6, 3))
        keep = np.array([True, False, True, True, False, True])
        got = entry.loss(preds, targets, where=keep[None])
        kept = entry.loss(preds[:, keep], targets[:, keep])
        if got.shape[1:2] == (6,):  # one value a position
            assert not np.any(got[:, ~keep])
            got = got[:, keep]
        # The same sums with zeros in between.
        np.testing.assert_allclose(got, kept, rtol=2e-6, atol=1e-7)

    @concerns(lambda entry: not entry.spatial)
    def test_order_of_positions_is_irrelevant(self, name):
        entry = self.entries[name]
        preds, targets = example(entry, (2, 3, 4, 3))
        where = np.random.default_rng(0).random((2, 3, 4)) < 0.7
        order = np.random.default_rng(1).permutation(12)

        def shuffled(x):
            return x.reshape(2, 12, *x.shape[3:])[:, order]

        expected = entry.loss(preds, targets, where=where)
        if expected.shape[1:3] == (3, 4):  # one value a position
            expected = shuffled(expected)
        got = entry.loss(shuffled(preds), shuffled(targets), where=shuffled(where))
        np.testing.assert_allclose(got, expected, **SAME)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_masked_values_leak_nowhere(self, name, bad):
        entry = self.entries[name]
        preds, targets = example(entry)
        where = np.ones(preds.shape[:-1], bool)
        where[0].flat[1] = False
        where[1].flat[3:] = False
        hidden = ~where[..., None]
        gradient = jax.value_and_grad(total(entry, where=where))
        bad_targets = targets
        if jnp.issubdtype(targets.dtype, jnp.floating):
            bad_targets = jnp.where(hidden, bad, targets)
        value, grads = gradient(jnp.where(hidden, bad, preds), bad_targets)
        expected_value, expected_grads = gradient(preds, targets)
        np.testing.assert_array_equal(value, expected_value)
        np.testing.assert_array_equal(grads, expected_grads)
        assert not np.any(grads[~where])
        if not entry.spatial:
            assert np.any(grads[where])

    @concerns(lambda entry: takes("activation")(entry) or takes_labels(entry))
    def test_masked_nan_passes_no_activation(self, name):
        entry = self.entries[name]
        softmax = dict(activation="softmax") if "activation" in entry.options else {}
        for kind in ("one-hot", "labels"):
            if kind not in entry.targets:
                continue
            preds, targets = example(entry, kind=kind)
            where = np.ones(preds.shape[:-1], bool)
            where[0].flat[1] = False
            gradient = jax.value_and_grad(total(entry, where=where, **softmax))
            hidden = ~where[..., None]
            value, grads = gradient(jnp.where(hidden, jnp.nan, preds), targets)
            assert np.isfinite(value)
            assert np.all(np.isfinite(grads))
            assert not np.any(grads[~where])

    @concerns(lambda entry: takes("activation")(entry) and not entry.spatial)
    def test_mask_of_one_channel_leaves_the_softmax_alone(self, name):
        entry = self.entries[name]
        if entry.preds is not _entry.probabilities:
            pytest.skip("takes logits alone")
        logits, targets = example(entry)
        where = np.ones(logits.shape, bool)
        where[..., 2] = False
        # The second loss reads probabilities that were rounded once.
        np.testing.assert_allclose(
            entry.loss(logits, targets, where=where, activation=jax.nn.softmax),
            entry.loss(jax.nn.softmax(logits), targets, where=where),
            rtol=1e-6,
        )

    def test_all_masked_is_0_with_zero_gradient(self, name):
        entry = self.entries[name]
        preds, targets = example(entry)
        where = np.zeros(preds.shape[:-1], bool)
        got = entry.loss(preds, targets, where=where)
        np.testing.assert_array_equal(got, 0.0)
        grads = jax.grad(total(entry, where=where))(preds, targets)
        np.testing.assert_array_equal(grads, 0.0)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_half_precision_in_float32_out(self, name, dtype):
        entry = self.entries[name]
        shape = None if entry.spatial else (2, 300, 3)
        preds, targets = example(entry, shape)
        preds = preds.astype(dtype)
        if jnp.issubdtype(targets.dtype, jnp.floating):
            targets = targets.astype(dtype)
        got = entry.loss(preds, targets)
        assert got.dtype == jnp.float32
        wide = [
            x if x.dtype == int else x.astype(jnp.float32) for x in (preds, targets)
        ]
        expected = entry.loss(*wide)
        # Summed in float32, so equal to rounding. A part of a mixture that is not ours
        # squares in half precision: 8 bits of mantissa, 2⁻⁸ = 0.004.
        rtol = 0.004 if name == "mix" else 2e-6
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-7)
        grads = jax.grad(total(entry))(preds, targets)
        assert grads.dtype == dtype
        assert np.all(np.isfinite(grads.astype(np.float32)))

    def test_float64_stays(self, name):
        entry = self.entries[name]
        with jax.enable_x64(True):
            preds, targets = example(entry)
            if jnp.issubdtype(targets.dtype, jnp.floating):
                targets = targets.astype(jnp.float64)
            preds = preds.astype(jnp.float64)
            got = entry.loss(preds, targets)
            assert got.dtype == jnp.float64
            expected = entry.reference(np.array(preds), np.array(targets))
            # A few float64 digits.
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)

    @concerns(lambda entry: entry.traced)
    def test_one_trace_for_all_hyper_parameters(self, name):
        entry, traces = self.entries[name], []
        preds, targets = example(entry)

        @jax.jit
        def loss(preds, targets, hyper):
            traces.append(None)
            return entry.loss(preds, targets, **hyper)

        for i in range(2):
            hyper = {key: values[i] for key, values in entry.traced.items()}
            expected = entry.reference(np.array(preds), np.array(targets), **hyper)
            np.testing.assert_allclose(
                loss(preds, targets, hyper), expected, **CLOSE | dict(entry.close)
            )
        assert len(traces) == 1

    @concerns(takes_labels)
    def test_labels_out_of_range_are_no_class(self, name):
        entry = self.entries[name]
        shape = smallest(entry)
        preds, labels = example(entry, kind="labels")
        labels = np.maximum(labels, 0)
        expected = None
        for odd in (-1, -2, -100, shape[-1], 255):
            moved = labels.copy()
            moved[0].flat[0] = odd
            got = entry.loss(preds, moved)
            assert np.all(np.isfinite(got))
            expected = got if expected is None else expected
            np.testing.assert_array_equal(got, expected)
        if "one-hot" in entry.targets:
            one_hot = np.stack([moved == c for c in range(shape[-1])], -1)
            hot = entry.loss(preds, one_hot.astype(np.float32))
            np.testing.assert_allclose(got, hot, **SAME)

    @concerns(ignores)
    def test_ignore_equals_where(self, name):
        entry = self.entries[name]
        preds, labels = example(entry, kind="labels")
        labels = np.maximum(labels, 0)
        labels[0].flat[:2] = 255
        where = np.ones(labels.shape, bool)
        where[1].flat[1] = False
        for activation in entry.options.get("activation", [None]):
            options = dict(activation=activation) if activation else {}
            got = bind(entry, options)(preds, labels, ignore=255, where=where)
            expected = bind(entry, options)(
                preds, labels, where=where & (labels != 255)
            )
            np.testing.assert_array_equal(got, expected)

    def test_mismatched_shapes_are_both_named(self, name):
        entry = self.entries[name]
        one, other = (2, 15, 15, 3), (2, 14, 15, 3)
        with pytest.raises(ValueError, match=both(str(one), str(other))):
            entry.loss(jnp.ones(one), jnp.ones(other))

    @pytest.mark.parametrize("shape", [(0, 15, 15, 3), (2, 0, 15, 3)])
    def test_nothing_to_average_is_an_error(self, name, shape):
        entry = self.entries[name]
        with pytest.raises(ValueError, match=re.escape(str(shape))):
            entry.loss(jnp.ones(shape), jnp.ones(shape))

    def test_mask_that_does_not_fit_is_named(self, name):
        entry = self.entries[name]
        preds, targets = example(entry)
        odd = (2, preds.shape[1] - 1)
        with pytest.raises(ValueError, match=re.escape(str(odd))):
            entry.loss(preds, targets, where=np.ones(odd, bool))
        with pytest.raises(TypeError, match=r"where.*bool.*float"):
            entry.loss(preds, targets, where=jnp.ones(preds.shape[:2]))

    @concerns(takes_labels)
    @pytest.mark.parametrize("case", MISUSE)
    def test_misuse_is_a_clear_error(self, name, case):
        entry = self.entries[name]
        arguments, error, text = MISUSE[case]
        options = set(arguments) - {"preds", "targets"}
        if not options <= set(inspect.signature(entry.loss).parameters):
            pytest.skip("has no such option")
        rng = np.random.default_rng(0)
        preds = jnp.array(entry.preds(rng, (2, 5, 3)))
        targets = jnp.array(entry.make_targets(rng, (2, 5, 3), entry.targets[0]))
        with pytest.raises(error, match=text):
            entry.loss(**dict(preds=preds, targets=targets) | arguments)
