"""Batches of several sources: their shares, their epochs, and exact resume."""

import functools
import json

import chex
import numpy as np
from absl.testing import parameterized

from headwise import data


def take(iterator, count):
    """The next batches."""
    return [next(iterator) for _ in range(count)]


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
        seen = take(iter(batches), 100)
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
        in_turn = take(iter(data.mix(SOURCES, batch_size=2, seed=0)), 4)
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
            [b["ct"] for b in seen], [b["ct"] for b in take(iter(alone), 4)]
        )

    def test_examples_of_any(self):
        batches = data.mix(
            SOURCES, batch_size=6, seed=0, weights={"ct": 1, "mri": 2}, batch_of="any"
        )
        seen = take(iter(batches), 6)
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
        take(iterator, 3)
        state = json.dumps(iterator.get_state())
        expected = take(iterator, 6)
        resumed = iter(make(SOURCES))
        resumed.set_state(json.loads(state))
        chex.assert_trees_all_equal(take(resumed, 6), expected)
        fresh, other = (take(iter(make(SOURCES, seed=s)), 6) for s in (5, 6))
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
