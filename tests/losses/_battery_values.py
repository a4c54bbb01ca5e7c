"""The battery: values, derivatives, transformations, dtypes."""

import functools
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec

from headwise import _reduction
from tests import _derivatives
from tests.losses import _draws
from tests.losses import _entry


class Values:
    """Equal to the reference, under every transformation."""

    entries: ClassVar[Mapping[str, _entry.Entry]]

    @pytest.mark.parametrize("rank", [1, 2, 3])
    def test_equals_naive_float64(self, name, rank):
        entry = self.entries[name]
        for shape in _draws.shapes_of(entry).values():
            if len(shape) != rank + 2:
                continue
            drawn = list(_draws.draws(name, entry, shape, count=8))
            for (preds, targets, options), got in zip(
                drawn, _draws.values(entry, drawn)
            ):
                expected = entry.reference(preds, targets, **options)
                np.testing.assert_allclose(
                    got,
                    expected,
                    **_draws.CLOSE | dict(entry.close),
                    err_msg=str(options),
                )

    @pytest.mark.parametrize("over_batch", _entry.FLAGS)
    @pytest.mark.parametrize("background", _entry.FLAGS)
    def test_declared_layout_is_the_shape_of_the_result(
        self, name, over_batch, background
    ):
        entry = self.entries[name]
        given = dict(over_batch=over_batch, background=background)
        options = {k: v for k, v in given.items() if k in _draws.parameters(entry)}
        assert _reduction.layout_of(entry.loss) is not None
        for shape in _draws.shapes_of(entry).values():
            loss = functools.partial(entry.loss, **options)
            got = jax.eval_shape(loss, *_draws.example(entry, shape)).shape
            assert got == _entry.declared_shape(loss, shape, **options)

    def test_jit_equals_eager(self, name):
        entry = self.entries[name]
        drawn = list(_draws.draws(name, entry, _draws.smallest(entry), 2, seed=1))
        for (*arrays, options), got in zip(drawn, _draws.values(entry, drawn)):
            eager = _draws.bind(entry, options)(*arrays)
            np.testing.assert_allclose(got, eager, **_draws.SAME, err_msg=str(options))

    def test_vmap_equals_loop(self, name):
        entry = self.entries[name]
        drawn = list(_draws.draws(name, entry, _draws.smallest(entry), 2, seed=2))

        @jax.jit
        def both(of_draws):
            losses = [_draws.bind(entry, options) for *_, options in drawn]
            return [
                (jax.vmap(loss)(*stacks), [loss(*one) for one in zip(*stacks)])
                for stacks, loss in zip(of_draws, losses)
            ]

        stacks = [(np.stack([p, p[::-1]]), np.stack([t] * 2)) for p, t, _ in drawn]
        for (got, expected), (*_, options) in zip(both(stacks), drawn):
            np.testing.assert_allclose(
                got, np.stack(expected), **_draws.SAME, err_msg=str(options)
            )

    def test_no_dtype_is_promoted_by_itself(self, name):
        entry = self.entries[name]
        shape = _draws.smallest(entry)
        for dtype in (jnp.float32, jnp.bfloat16):
            for preds, targets, options in _draws.draws(name, entry, shape, 2, seed=11):
                if np.issubdtype(targets.dtype, np.floating):
                    targets = targets.astype(dtype)
                total = _draws.total(entry, **options)
                with jax.numpy_dtype_promotion("strict"):
                    jax.eval_shape(jax.grad(total), preds.astype(dtype), targets)

    def test_sharded_batch_equals_one_device(self, name):
        entry = self.entries[name]
        shape = (4, *_draws.smallest(entry)[1:])
        mesh = jax.make_mesh((4,), ("data",))
        split = NamedSharding(mesh, PartitionSpec("data"))
        drawn = list(_draws.draws(name, entry, shape, 2, seed=4))
        options = [dict(given, where=None) for *_, given in drawn]

        @jax.jit
        def gradients(of_draws):
            return [
                jax.value_and_grad(_draws.total(entry, **given))(*arrays)
                for arrays, given in zip(of_draws, options)
            ]

        arrays = [(preds, targets) for preds, targets, _ in drawn]
        expected = gradients(arrays)
        got = gradients(jax.device_put(arrays, split))
        for ones, others, given in zip(got, expected, options):
            for one, other in zip(ones, others):
                np.testing.assert_allclose(
                    one, other, **_draws.SAME, err_msg=str(given)
                )

    def test_derivatives(self, name):
        entry = self.entries[name]
        with jax.enable_x64(True):
            shape = (2, 2, 3) if entry.shapes is None else _draws.smallest(entry)
            cases = [
                (
                    functools.partial(_draws.bind(entry, options), targets=targets),
                    (np.float64(preds),),
                )
                for preds, targets, options in _draws.draws(
                    name, entry, shape, 2, seed=3
                )
            ]
            _derivatives.check_backward(cases, entry.order)

    # Without optimisation jaxlib 0.10.2 compiles clDice in what is below to a wrong
    # number: its gradient, 0 alone and by differences, is 0.01 beside the other ways.
    @_draws.optimized(lambda entry: entry.spatial)
    def test_forward_equals_backward(self, name):
        """<J v, u> = <v, Jᵀ u>, and where the values bend <J v, u> has a slope too."""
        entry = self.entries[name]
        with jax.enable_x64(True):
            shape = (2, 2, 3) if entry.shapes is None else _draws.smallest(entry)
            ((preds, targets, options),) = _draws.draws(name, entry, shape, 1, seed=5)
            loss = functools.partial(_draws.bind(entry, options), targets=targets)
            rng = np.random.default_rng(6)
            v, u = (
                rng.normal(size=s) for s in (shape, jax.eval_shape(loss, preds).shape)
            )

            def forward(p):
                return jnp.sum(jax.jvp(loss, (p,), (v,))[1] * u)

            def backward(p):
                return jnp.sum(jax.vjp(loss, p)[1](u)[0] * v)

            @jax.jit
            def both(p):
                one = [forward(p)]
                if entry.order > 1:
                    one = jax.jvp(forward, (p,), (v,))
                return one, jax.value_and_grad(backward)(p)

            (one, *more), (other, slope) = both(np.float64(preds))
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
            for second in more:
                expected = np.sum(slope * v)
                np.testing.assert_allclose(second, expected, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize("smooth", [1e-5, 0.0])
    def test_finite_at_the_edges(self, name, smooth):
        entry = self.entries[name]
        if "smooth" not in entry.options and smooth == 0.0:
            pytest.skip("has no smooth")
        shape = (1, *_draws.smallest(entry)[1:-1], 2)
        if entry.shapes is not None and shape[-1] != _draws.smallest(entry)[-1]:
            shape = (1, *_draws.smallest(entry)[1:])
        ones, zeros = np.ones(shape), np.zeros(shape)
        first = zeros.copy()
        first[..., 0] = 1
        edges = np.float32([ones, zeros, first, 1 - first])
        options = dict(smooth=smooth) if "smooth" in entry.options else {}
        gradient = jax.value_and_grad(_draws.total(entry, **options))
        labels = _draws.takes_labels(entry)
        kinds = {}
        if "one-hot" in entry.targets or not labels:
            kinds["one-hot"] = edges
        if labels:
            kinds["labels"] = [np.full(shape[:-1], i % 2) for i in range(4)]

        @jax.jit
        def of_all_kinds(preds, targets):
            return {kind: gradient(preds, t) for kind, t in targets.items()}

        for p in edges:
            for i in range(4):
                got = of_all_kinds(p, {kind: t[i] for kind, t in kinds.items()})
                for kind, (value, grads) in got.items():
                    assert np.isfinite(value), kind
                    assert np.all(np.isfinite(grads)), kind

    @_draws.concerns(_draws.takes_labels)
    def test_finite_at_extreme_logits(self, name):
        entry = self.entries[name]
        softmax = dict(activation="softmax") if "activation" in entry.options else {}
        if not softmax and entry.preds is _entry.probabilities:
            pytest.skip("takes probabilities alone")
        shape = _draws.smallest(entry)
        rng = np.random.default_rng(0)
        logits = jnp.array(rng.choice([-1e4, 0.0, 1e4], shape), jnp.float32)
        gradient = jax.jit(jax.value_and_grad(_draws.total(entry, **softmax)))
        for label in (None, 0, 1):
            labels = rng.integers(0, shape[-1], shape[:-1])
            labels = labels if label is None else np.full(shape[:-1], label)
            value, grads = gradient(logits, labels)
            assert np.isfinite(value)
            assert np.all(np.isfinite(grads))

    @_draws.concerns(lambda entry: entry.perfect_is_0)
    def test_perfect_is_0_and_worse_is_more(self, name):
        entry = self.entries[name]
        _, targets = _draws.example(entry)
        # smooth = 1e-5 above and below cancels to the last digit of float32.
        targets, loss = np.asarray(targets), jax.jit(entry.loss)
        np.testing.assert_allclose(loss(targets, targets), 0.0, atol=1e-6)
        assert np.sum(loss(0.5 * targets, targets)) > 0.1
        assert np.all(np.asarray(loss(1.0 - targets, targets)) > 0.1)

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_half_precision_in_float32_out(self, name, dtype):
        entry = self.entries[name]
        shape = None if entry.spatial else (2, 300, 3)
        preds, targets = _draws.example(entry, shape)
        preds, targets = np.asarray(preds).astype(dtype), np.asarray(targets)
        if jnp.issubdtype(targets.dtype, jnp.floating):
            targets = targets.astype(dtype)

        @jax.jit
        def both_and_gradient(*given):
            wide = [x if x.dtype == int else x.astype(jnp.float32) for x in given]
            grads = jax.grad(_draws.total(entry))(*given)
            return entry.loss(*given), entry.loss(*wide), grads

        got, expected, grads = both_and_gradient(preds, targets)
        assert got.dtype == jnp.float32
        # Summed in float32, so equal to rounding. A part of a mixture that is not ours
        # squares in half precision: 8 bits of mantissa, 2⁻⁸ = 0.004.
        rtol = 0.004 if name == "mix" else 2e-6
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-7)
        assert grads.dtype == dtype
        assert np.all(np.isfinite(np.float32(grads)))

    def test_float64_stays(self, name):
        entry = self.entries[name]
        with jax.enable_x64(True):
            preds, targets = map(np.asarray, _draws.example(entry))
            if np.issubdtype(targets.dtype, np.floating):
                targets = np.float64(targets)
            preds = np.float64(preds)
            got = jax.jit(entry.loss)(preds, targets)
            assert got.dtype == jnp.float64
            expected = entry.reference(preds, targets)
            # A few float64 digits.
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)

    @_draws.concerns(lambda entry: entry.traced)
    def test_one_trace_for_all_hyper_parameters(self, name):
        entry, traces = self.entries[name], []
        preds, targets = _draws.example(entry)

        @jax.jit
        def loss(preds, targets, hyper):
            traces.append(None)
            return entry.loss(preds, targets, **hyper)

        for i in range(2):
            hyper = {key: values[i] for key, values in entry.traced.items()}
            expected = entry.reference(np.array(preds), np.array(targets), **hyper)
            np.testing.assert_allclose(
                loss(preds, targets, hyper),
                expected,
                **_draws.CLOSE | dict(entry.close),
            )
        assert len(traces) == 1
