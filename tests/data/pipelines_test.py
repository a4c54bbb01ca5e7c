"""Batches: from device arrays by index, and from the host through grain."""

import functools
import json
import sys
import typing

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from headwise import data


class SampleTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_same_rows_of_every_leaf(self):
        arrays = {"x": jnp.arange(20.0), "y": (jnp.arange(40).reshape(20, 2),)}
        draw = self.variant(lambda a, key: data.sample(a, key, 64))
        batch = draw(arrays, jax.random.key(0))
        chex.assert_shape([batch["x"], batch["y"][0]], [(64,), (64, 2)])
        chex.assert_type([batch["x"], batch["y"][0]], [jnp.float32, jnp.int32])
        np.testing.assert_array_equal(2 * batch["x"], batch["y"][0][:, 0])
        # With replacement: 64 draws of 20 rows miss a given row with 0.95**64 = 4 %.
        self.assertBetween(len(np.unique(batch["x"])), 15, 20)

    def test_deterministic_by_key(self):
        arrays = np.arange(1000)
        first, same, other = (
            data.sample(arrays, jax.random.key(k), 8) for k in (0, 0, 1)
        )
        chex.assert_trees_all_equal(first, same)
        self.assertFalse(bool((first == other).all()))

    def test_inside_scan(self):
        def step(total, key):
            return total + data.sample(jnp.ones((5, 3)), key, 4).sum(), None

        keys = jax.random.split(jax.random.key(0), 7)
        total, _ = jax.lax.scan(step, 0.0, keys)
        self.assertEqual(float(total), 7 * 12)

    @parameterized.parameters(
        ({}, "at least one array"),
        ({"a": np.ones(3), "b": np.ones(4)}, r"'a'.*\(3,\).*'b'.*\(4,\)"),
        ({"a": np.ones(3), "b": 1.0}, "leading axis.*'b'"),
        (
            {"a": np.ones(3), "b": (np.ones(3), {"c": np.ones((4, 2))})},
            r"'a' of shape \(3,\) and 'b/1/c' of shape \(4, 2\)",
        ),
        (np.ones((0, 2)), "at least one example"),
    )
    def test_bad_arrays(self, arrays, message):
        with self.assertRaisesRegex(ValueError, f"arrays.*{message}"):
            data.sample(arrays, jax.random.key(0), 2)

    def test_bad_batch_size(self):
        with self.assertRaisesRegex(ValueError, "batch_size.*positive int.*-1"):
            data.sample(np.ones(3), jax.random.key(0), -1)
        with self.assertRaisesRegex(
            ValueError, "batch_size: expected a positive int, got '"
        ):
            data.sample(np.ones(3), jax.random.key(0), "2")


class Pair(typing.NamedTuple):
    """Two columns."""

    x: np.ndarray
    y: dict


class _Records:
    """A random-access source: record i is a picture and a number made from i."""

    def __len__(self):
        return 11

    def __getitem__(self, index):
        return {"x": np.full((2, 2), index, np.float32), "y": np.int32(index)}


def _take(iterator, count):
    return [next(iterator) for _ in range(count)]


class StreamTest(chex.TestCase):
    def test_batches_of_a_pytree(self):
        batch = next(iter(data.stream(_Records(), batch_size=4, seed=0)))
        self.assertEqual((batch["x"].shape, batch["y"].shape), ((4, 2, 2), (4,)))
        np.testing.assert_array_equal(batch["x"][:, 1, 0], batch["y"])

    def test_each_epoch_holds_every_record_in_another_order(self):
        batches = list(data.stream(range(12), batch_size=4, seed=1, epochs=2))
        self.assertLen(batches, 6)
        first, second = np.split(np.concatenate(batches), 2)
        self.assertEqual(sorted(first), list(range(12)))
        self.assertEqual(sorted(second), list(range(12)))
        self.assertNotEqual(first.tolist(), second.tolist())

    def test_batches_run_over_the_end_of_an_epoch(self):
        batches = data.stream(range(5), batch_size=3, seed=0, shuffle=False, epochs=2)
        got = [batch.tolist() for batch in batches]
        self.assertEqual(got, [[0, 1, 2], [3, 4, 0], [1, 2, 3]])

    def test_deterministic_by_seed(self):
        make = functools.partial(data.stream, range(100), batch_size=10)
        first, same, other = (next(iter(make(seed=s))).tolist() for s in (0, 0, 1))
        self.assertEqual(first, same)
        self.assertNotEqual(first, other)

    @parameterized.parameters(0, 1, 5, 9)
    def test_resumes_exactly(self, done):
        """Through JSON, in a new iterator of a new data set, over epoch ends."""
        make = functools.partial(data.stream, _Records(), batch_size=4, seed=3)
        iterator = iter(make())
        _take(iterator, done)
        state = json.dumps(iterator.get_state())
        expected = _take(iterator, 6)
        resumed = iter(make())
        resumed.set_state(json.loads(state))
        chex.assert_trees_all_equal(_take(resumed, 6), expected)
        fresh = _take(iter(make()), 6)
        equal = all(np.array_equal(a["y"], b["y"]) for a, b in zip(fresh, expected))
        self.assertEqual(equal, done == 0)

    def test_arrays_are_as_their_rows(self):
        """Dict, tuple, NamedTuple, nested: batches and states of a list of rows."""
        x, y = np.arange(22.0).reshape(11, 2), np.arange(11)
        forms = [
            (dict(x=x, y=y), [dict(x=x[i], y=y[i]) for i in range(11)]),
            (
                Pair(x, {"a": (y, jnp.asarray(x))}),
                [Pair(x[i], {"a": (y[i], x[i])}) for i in range(11)],
            ),
            ((x, y), [(x[i], y[i]) for i in range(11)]),
        ]
        for columns, rows in forms:
            make = functools.partial(data.stream, batch_size=4, seed=3, epochs=2)
            chex.assert_trees_all_equal(list(make(columns)), list(make(rows)))
            iterator = iter(make(columns))
            _take(iterator, 2)
            state = json.dumps(iterator.get_state())
            expected = _take(iterator, 3)
            iterator.set_state(json.loads(state))
            chex.assert_trees_all_equal(_take(iterator, 3), expected)
        texts = next(iter(data.stream(("a", "b"), batch_size=2, seed=0, shuffle=False)))
        self.assertEqual(texts.tolist(), ["a", "b"])

    def test_bad_arguments(self):
        call = functools.partial(data.stream, batch_size=2, seed=0)
        with self.assertRaisesRegex(
            ValueError, r"records: .*'x' of shape \(3,\) and 'y' of shape \(4,\)"
        ):
            call({"x": np.ones(3), "y": np.ones(4)})
        with self.assertRaisesRegex(ValueError, "records: .*a scalar at 'y'"):
            call({"x": np.ones(3), "y": 1.0})
        with self.assertRaisesRegex(TypeError, "records.*length and an index.*set"):
            call({1, 2, 3})
        with self.assertRaisesRegex(ValueError, "records.*at least one"):
            call([])
        with self.assertRaisesRegex(ValueError, "batch_size.*at most the 3.*4"):
            data.stream([1, 2, 3], batch_size=4, seed=0, epochs=1)
        with self.assertRaisesRegex(ValueError, "epochs.*positive int.*0"):
            call([1, 2], epochs=0)
        with self.assertRaisesRegex(ValueError, "seed.*-1"):
            data.stream([1, 2], batch_size=1, seed=-1)
        with self.assertRaisesRegex(ValueError, "seed: expected an int >= 0, got "):
            data.stream([1, 2], batch_size=1, seed=0.5)
        with self.assertRaisesRegex(TypeError, "shuffle: expected True or False"):
            call([1, 2], shuffle=1)


@pytest.mark.parametrize("function", ["stream", "mix"])
def test_without_grain_it_says_what_to_install(function, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    call = getattr(data, function)
    message = rf'data.{function} needs.*pip install "headwise\[data\]"'
    with pytest.raises(ModuleNotFoundError, match=message):
        call({"a": np.ones(2)}, batch_size=1, seed=0)
