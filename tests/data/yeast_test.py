"""The yeast labels, and the split that all data sets share."""

import chex
import jax
import numpy as np
from absl.testing import parameterized

from headwise import data


class YeastTest(chex.TestCase):
    def test_content(self):
        genes = data.load_yeast()
        self.assertEqual(genes.inputs.shape, (2417, 103))
        self.assertEqual(genes.targets.shape, (2417, 14))
        self.assertEqual((genes.inputs.dtype, genes.targets.dtype), (np.float32,) * 2)
        self.assertEqual(set(np.unique(genes.targets)), {0.0, 1.0})
        self.assertTrue(np.isfinite(genes.inputs).all())

    def test_published_statistics(self):
        """MULAN: cardinality 4.237, density 0.303, 198 distinct label sets."""
        targets = data.load_yeast().targets
        self.assertAlmostEqual(targets.sum(1).mean(), 4.237, delta=5e-4)
        self.assertAlmostEqual(targets.mean(), 0.303, delta=5e-4)
        self.assertLen(np.unique(targets, axis=0), 198)

    def test_names_are_sorted_in_column_order(self):
        genes = data.load_yeast()
        self.assertEqual(list(genes.names), sorted(genes.names))
        self.assertLen(set(genes.names), 14)
        self.assertEqual(genes.targets[:, genes.names.index("class14")].sum(), 34)
        self.assertEqual(genes.targets[:, genes.names.index("class12")].sum(), 1816)

    def test_first_row(self):
        genes = data.load_yeast()
        np.testing.assert_allclose(genes.inputs[0, :2], [0.004168, -0.170975])
        self.assertEqual(np.flatnonzero(genes.targets[0]).tolist(), [6, 7, 11, 12])


class SplitTest(chex.TestCase):
    @parameterized.parameters(
        (10, 0.2, 2), (2, 0.01, 1), (2, 0.99, 1), (2417, 0.25, 604)
    )
    def test_parts_are_disjoint_and_complete(self, count, held_out, expected):
        train, test = data.split(count, jax.random.key(0), held_out)
        self.assertLen(test, expected)
        self.assertEqual((train.dtype, test.dtype), (np.int32, np.int32))
        both = np.concatenate([train, test])
        np.testing.assert_array_equal(np.sort(both), np.arange(count))

    def test_deterministic_by_key(self):
        first, same, other = (data.split(50, jax.random.key(k)) for k in (0, 0, 1))
        chex.assert_trees_all_equal(first, same)
        self.assertNotEqual(set(first[1].tolist()), set(other[1].tolist()))

    @parameterized.parameters(0.0, 1.0, -0.5, 2, float("nan"), "0.2", None)
    def test_bad_share(self, held_out):
        with self.assertRaisesRegex(ValueError, "held_out.*\\(0, 1\\)"):
            data.split(10, jax.random.key(0), held_out)

    def test_bad_count(self):
        with self.assertRaisesRegex(ValueError, "count.*at least 2.*1"):
            data.split(1, jax.random.key(0))
        with self.assertRaisesRegex(ValueError, "count: expected a positive int, got "):
            data.split(10.0, jax.random.key(0))
