"""Batches by epochs of arrays on the device: each example once, in any order."""

import collections
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from headwise import data
from headwise.data import _permutation


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
        chex.assert_trees_all_equal(jax.jit(batches)(3), here[3])
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
