"""Batches: from device arrays by index, and from the host through grain."""

import collections
import functools
import itertools
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
from headwise.data import _permutation


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


def numbers(batches, steps):
    """The rows of the steps, one after the other."""
    return np.asarray(jax.vmap(batches)(jnp.arange(steps)))


class EpochsTest(chex.TestCase):
    @parameterized.parameters((12, 4), (13, 4), (1, 1), (2, 1), (7, 7), (31, 30))
    def test_every_example_once_an_epoch(self, count, size):
        """Wrapped, dropped and masked; each epoch in another order."""
        make = functools.partial(data.epochs, np.arange(count), jax.random.key(0), size)
        every = list(range(count))
        epochs = 3
        wrapped = make()
        up, down = -(-count // size), count // size
        self.assertEqual(wrapped.steps_per_epoch, up)
        rows = numbers(wrapped, epochs * up).ravel()[: epochs * count]
        rows = rows.reshape(epochs, count)
        for epoch in rows:
            self.assertEqual(sorted(epoch.tolist()), every)
        if count > 6:
            self.assertFalse((rows[0] == rows[1]).all())
        dropped = make(last="drop")
        self.assertEqual(dropped.steps_per_epoch, down)
        rows = numbers(dropped, epochs * down).reshape(epochs, -1)
        for epoch in rows:
            self.assertLen(set(epoch.tolist()), down * size)
        masked = make(last="mask")
        self.assertEqual(masked.steps_per_epoch, up)
        rows, where = jax.vmap(masked)(jnp.arange(epochs * up))
        for epoch, counts in zip(
            rows.reshape(epochs, -1), where.reshape(epochs, -1), strict=True
        ):
            self.assertEqual(sorted(epoch[counts].tolist()), every)

    def test_a_function_of_key_and_step(self):
        """Traced or not, as an argument or a closure, under vmap over keys."""
        x = np.arange(26.0).reshape(13, 2)
        arrays = {"x": x, "pair": (x[:, 0], {"y": x[:, 1]})}
        batches = data.epochs(arrays, jax.random.key(1), 4)
        here = [batches(t) for t in range(9)]
        argument = jax.jit(lambda batches, t: batches(t))
        chex.assert_trees_all_equal([argument(batches, t) for t in range(9)], here)
        _, scanned = jax.lax.scan(lambda _, t: (None, batches(t)), None, jnp.arange(9))
        whole = jax.tree.map(lambda *x: jnp.stack(x), *here)
        chex.assert_trees_all_equal(scanned, whole)
        np.testing.assert_array_equal(whole["pair"][0], whole["x"][..., 0])
        np.testing.assert_array_equal(whole["pair"][1]["y"], whole["x"][..., 1])
        keys = jax.random.split(jax.random.key(2), 2)
        both = jax.vmap(lambda key: data.epochs(arrays, key, 4)(3))(keys)
        alone = data.epochs(arrays, keys[1], 4)(3)
        chex.assert_trees_all_equal(jax.tree.map(lambda x: x[1], both), alone)
        self.assertFalse((both["x"][0] == both["x"][1]).all())

    def test_in_order(self):
        batches = data.epochs(jnp.arange(5), jax.random.key(0), 2, shuffle=False)
        expected = [[0, 1], [2, 3], [4, 0], [1, 2], [3, 4], [0, 1]]
        self.assertEqual(numbers(batches, 6).tolist(), expected)

    def test_late_steps(self):
        """Long division by hand, where step times batch has more than 32 bits."""
        t = np.array([0, 1, 7, 12_345, 10**6 + 3, 2**31 - 1], np.uint32)
        for size, count in [
            (1, 1), (1, 7), (64, 5000), (4096, 10**6 + 3), (999_999, 10**6),
            (2**29 + 1, 2**30 - 1),
        ]:  # fmt: skip
            got = _permutation.divmod_of_product(jnp.asarray(t), size, count)
            right = [divmod(int(x) * size, count) for x in t]
            self.assertEqual(np.asarray(got).T.tolist(), [list(x) for x in right])
        batches = data.epochs(jnp.arange(7), jax.random.key(0), 5, shuffle=False)
        last = 2**31 - 1
        self.assertEqual(batches(last).tolist(), [(last * 5 + i) % 7 for i in range(5)])

    def test_permutations_are_uniform(self):
        """χ² of where each place goes, of whole orders, and of neighbours."""
        draws = 12_000
        rng = np.random.default_rng(0)
        words = rng.integers(0, 2**32, (_permutation.ROUNDS, 1, draws), np.uint32)
        words = list(jnp.asarray(words))

        def orders(count):
            places = jnp.arange(count, dtype=jnp.uint32)[:, None]
            return np.asarray(jax.jit(_permutation.permuted, static_argnums=2)(
                places, words, count
            ))  # fmt: skip

        def assert_uniform(counts):
            expected = counts.sum() / counts.size
            chi2 = ((counts - expected) ** 2 / expected).sum()
            freedom = counts.size - 1
            self.assertLess(abs(chi2 - freedom), 5 * (2 * freedom) ** 0.5)

        for count in (2, 3, 11):
            rows = orders(count)
            for place in rows[:3]:
                assert_uniform(np.bincount(place, minlength=count))
        three = collections.Counter(map(tuple, orders(3).T.tolist()))
        self.assertEqual(set(three), set(itertools.permutations(range(3))))
        assert_uniform(np.array(list(three.values())))
        rows = orders(101).astype(int)
        assert_uniform(np.bincount((rows[51] - rows[50]) % 101, minlength=101)[1:])

    @parameterized.parameters(
        (dict(batch_size=4), ValueError, "batch_size: .*at most the 3 examples.*got 4"),
        (dict(batch_size=0), ValueError, "batch_size: expected a positive int, got 0"),
        (dict(last="keep"), ValueError, "last: expected one of .*'mask'.*'keep'"),
        (dict(key=3), TypeError, "key: expected a key"),
        (dict(shuffle=1), TypeError, "shuffle: expected True or False"),
        (
            dict(arrays=(np.ones(3), np.ones(2))),
            ValueError,
            r"arrays: .*'0' of shape \(3,\) and '1' of shape \(2,\)",
        ),
    )
    def test_bad_arguments(self, wrong, error, message):
        right = dict(arrays=np.ones(3), key=jax.random.key(0), batch_size=2)
        with self.assertRaisesRegex(error, message):
            data.epochs(**(right | wrong))


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


SOURCES = {
    "mri": {"x": np.arange(10.0, 16.0), "y": np.arange(6)},
    "ct": {"x": np.arange(3.0), "y": np.arange(3)},
}


class MixTest(chex.TestCase):
    def test_one_source_a_batch(self):
        """By weights, each with its size, started again when it is used up."""
        batches = data.mix(
            SOURCES,
            batch_size={"ct": 2, "mri": 3},
            seed=0,
            weights={"ct": 0.3, "mri": 0.7},
        )
        seen = _take(iter(batches), 100)
        names = [name for (name,) in seen]
        for steps in range(1, 101):
            self.assertLess(abs(names[:steps].count("ct") - 0.3 * steps), 1.1)
        of_ct = np.concatenate([batch["ct"]["x"] for batch in seen if "ct" in batch])
        for epoch in of_ct[:60].reshape(20, 3):
            self.assertEqual(sorted(epoch), [0, 1, 2])
        for batch in seen:
            for name, part in batch.items():
                self.assertLen(part["x"], {"ct": 2, "mri": 3}[name])
                np.testing.assert_array_equal(
                    part["x"], part["y"] + (10 if name == "mri" else 0)
                )
        in_turn = _take(iter(data.mix(SOURCES, batch_size=2, seed=0)), 4)
        self.assertEqual([list(b) for b in in_turn], [["ct"], ["mri"]] * 2)

    def test_a_part_of_all(self):
        batches = data.mix(
            SOURCES,
            batch_size={"ct": 1, "mri": 3},
            seed=0,
            batch_of="all",
            epochs={"ct": None, "mri": 2},
        )
        seen = list(batches)
        self.assertLen(seen, 4)  # mri ends: 2 * 6 / 3
        self.assertEqual([(len(b["ct"]["x"]), len(b["mri"]["x"])) for b in seen],
                         [(1, 3)] * 4)  # fmt: skip
        mri = np.concatenate([b["mri"]["y"] for b in seen]).reshape(2, 6)
        for epoch in mri:
            self.assertEqual(sorted(epoch), list(range(6)))
        # Another source beside it changes nothing of the order of one.
        alone = data.mix({"ct": SOURCES["ct"]}, batch_size=1, seed=0, batch_of="all")
        chex.assert_trees_all_equal(
            [b["ct"] for b in seen], [b["ct"] for b in _take(iter(alone), 4)]
        )

    def test_examples_of_any(self):
        batches = data.mix(
            SOURCES, batch_size=6, seed=0, weights={"ct": 1, "mri": 2}, batch_of="any"
        )
        seen = _take(iter(batches), 6)
        for batch in seen:
            self.assertEqual(batch["source"].dtype, np.int32)
            self.assertEqual(np.bincount(batch["source"]).tolist(), [2, 4])
            examples = batch["examples"]
            np.testing.assert_array_equal(
                examples["x"], examples["y"] + 10 * batch["source"]
            )
        ct = np.concatenate([b["examples"]["y"][b["source"] == 0] for b in seen])
        for epoch in ct.reshape(4, 3):
            self.assertEqual(sorted(epoch), [0, 1, 2])
        ended = data.mix(SOURCES, batch_size=2, seed=0, batch_of="any", epochs=1)
        self.assertLen(list(ended), 3)  # until ct ends: 3 of each

    @parameterized.parameters("one", "all", "any")
    def test_resumes_exactly(self, batch_of):
        """Through JSON, in a new iterator of a new data set, and from records too."""
        sources = {
            "ct": [{"x": np.float64(i), "y": i} for i in range(3)],
            "mri": SOURCES["mri"],
        }
        make = functools.partial(data.mix, batch_size=2, seed=5, batch_of=batch_of)
        iterator = iter(make(sources))
        _take(iterator, 3)
        state = json.dumps(iterator.get_state())
        expected = _take(iterator, 6)
        resumed = iter(make(SOURCES))
        resumed.set_state(json.loads(state))
        chex.assert_trees_all_equal(_take(resumed, 6), expected)
        fresh, other = (_take(iter(make(SOURCES, seed=s)), 6) for s in (5, 6))
        for seen in (fresh, other):
            with self.assertRaises(AssertionError):
                chex.assert_trees_all_equal(seen, expected)

    @parameterized.parameters(
        (dict(sources=[np.ones(2)]), TypeError, "sources: expected a dict .*list"),
        (dict(sources={}), ValueError, "sources: expected at least one source"),
        (dict(sources={1: [1, 2]}), TypeError, r"sources: expected names .*got 1"),
        (dict(sources={"a": 1}), TypeError, r"sources\['a'\]: .*an index, got 1"),
        (dict(batch_of="each"), ValueError, "batch_of: .*'one', 'all', 'any'.*'each'"),
        (dict(batch_size=0), ValueError, r"batch_size\['ct'\]: .*positive int, got 0"),
        (dict(batch_size={"ct": 1}), ValueError, r"batch_size: .*missing \['mri'\]"),
        (
            dict(epochs={"ct": 1, "mri": 0}),
            ValueError,
            r"epochs\['mri'\]: .*positive int, got 0",
        ),
        (
            dict(batch_size={"ct": 4, "mri": 1}, epochs=1),
            ValueError,
            r"batch_size\['ct'\]: .*at most the 3 records.*got 4",
        ),
        (dict(weights={"ct": 1}), ValueError, r"weights: .*missing \['mri'\]"),
        (
            dict(weights={"ct": 1, "mri": 0}),
            ValueError,
            r"weights\['mri'\]: expected a positive number, got 0",
        ),
        (dict(weights=[1, 2]), TypeError, "weights: expected a dict"),
        (
            dict(batch_of="all", weights={"ct": 1, "mri": 1}),
            ValueError,
            "weights: expected None .*sizes say",
        ),
        (
            dict(batch_of="any", sources=SOURCES | {"pet": [1, 2]}),
            ValueError,
            "sources: .*one structure.*'ct'.*'pet'",
        ),
        (
            dict(batch_of="any", batch_size={"ct": 1, "mri": 1}),
            ValueError,
            "batch_size: expected a positive int",
        ),
        (
            dict(batch_of="any", batch_size=9, epochs=1),
            ValueError,
            "batch_size: .*at most the 6 examples until",
        ),
        (dict(seed=-1), ValueError, "seed: expected an int >= 0, got -1"),
        (dict(seed=2**32), ValueError, r"seed: expected 0 <= seed < 2\*\*32"),
    )
    def test_bad_arguments(self, wrong, error, message):
        with self.assertRaisesRegex(error, message):
            data.mix(**(dict(sources=SOURCES, batch_size=2, seed=0) | wrong))


@pytest.mark.parametrize("function", ["stream", "mix"])
def test_without_grain_it_says_what_to_install(function, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    call = getattr(data, function)
    message = rf'data.{function} needs.*pip install "headwise\[data\]"'
    with pytest.raises(ModuleNotFoundError, match=message):
        call({"a": np.ones(2)}, batch_size=1, seed=0)
