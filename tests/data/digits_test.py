"""Digits, MNIST's file format and MultiMNIST."""

import functools
import gzip
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from headwise import data


@functools.cache
def _digits():
    return data.load_digits()


def _rows(images):
    return {image.tobytes() for image in np.asarray(images)}


class DigitsTest(chex.TestCase):
    def test_content(self):
        digits = _digits()
        self.assertEqual(digits.images.shape, (5000, 28, 28))
        self.assertEqual(digits.images.dtype, np.uint8)
        self.assertEqual(digits.labels.dtype, np.uint8)
        self.assertEqual(np.bincount(digits.labels).tolist(), [500] * 10)
        self.assertEqual(digits.images.max(), 255)
        self.assertLen(_rows(digits.images), 5000)

    def test_labels_belong_to_images(self):
        """Each class mean is nearest to its own class: pixels and labels line up."""
        digits = _digits()
        pixels = digits.images.reshape(5000, -1).astype(np.float32)
        means = np.stack([pixels[digits.labels == c].mean(0) for c in range(10)])
        scores = pixels @ means.T - 0.5 * np.square(means).sum(1)[None]
        accuracy = (scores.argmax(1) == digits.labels).mean()
        self.assertGreater(accuracy, 0.78)  # a nearest-mean rule reaches 0.8 on MNIST

    def test_split_shares_no_image(self):
        train, test = data.split_digits(_digits(), jax.random.key(0), 0.3)
        self.assertEqual((len(train.images), len(test.images)), (3500, 1500))
        self.assertEmpty(_rows(train.images) & _rows(test.images))
        self.assertLen(_rows(train.images) | _rows(test.images), 5000)
        self.assertGreater(np.bincount(test.labels, minlength=10).min(), 100)
        place = {image.tobytes(): i for i, image in enumerate(_digits().images)}
        rows = [place[image.tobytes()] for image in test.images]
        np.testing.assert_array_equal(test.labels, _digits().labels[rows])

    def test_split_rejects_unequal_lengths(self):
        broken = data.Digits(_digits().images, _digits().labels[:-1])
        with self.assertRaisesRegex(ValueError, "digits.*equal leading axes.*4999"):
            data.split_digits(broken, jax.random.key(0))


class MultiMnistTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(28, 36, 40)
    def test_pictures_equal_a_plain_loop(self, size):
        """Digits with one grey value each, so that every picture names its digits."""
        images = np.zeros((200, 28, 28), np.uint8)
        images[:, 2:26, 5:23] = np.arange(1, 201, dtype=np.uint8)[:, None, None]
        digits = data.Digits(images, np.arange(200, dtype=np.uint8) % 10)
        make = functools.partial(data.multi_mnist, count=30, size=size)
        got = self.variant(lambda d, key: make(d, key))(digits, jax.random.key(0))
        chex.assert_shape(got.inputs, (30, size, size, 1))
        chex.assert_type(
            [got.inputs, got.left, got.right], [jnp.float32] + 2 * [jnp.int32]
        )
        pictures = np.rint(np.asarray(got.inputs[..., 0]) * 255).astype(np.uint8)
        margin = size - 28
        for picture, left, right in zip(pictures, got.left, got.right, strict=True):
            if margin:
                i = int(picture[2, 5]) - 1
                j = int(picture[margin + 25, margin + 22]) - 1
                self.assertEqual((int(left), int(right)), (i % 10, j % 10))
                expected = np.zeros((size, size), np.uint8)
                expected[:28, :28] = images[i]
                corner = expected[margin:, margin:]
                np.maximum(corner, images[j], out=corner)
                np.testing.assert_array_equal(picture, expected)
            else:
                self.assertIn(picture.max() % 10 or 10, ((left + 1), (right + 1)))

    def test_pictures_hold_digits_of_their_own_split(self):
        """A margin of a whole digit keeps the two apart, so each can be looked up."""
        train, test = data.split_digits(_digits(), jax.random.key(0))
        pictures = data.multi_mnist(test, jax.random.key(1), 50, size=56)
        pixels = np.rint(np.asarray(pictures.inputs[..., 0]) * 255).astype(np.uint8)
        label = {image.tobytes(): int(c) for image, c in zip(test.images, test.labels)}
        for picture, left, right in zip(pixels, pictures.left, pictures.right):
            first, second = picture[:28, :28], picture[28:, 28:]
            self.assertEqual(label[first.tobytes()], int(left))
            self.assertEqual(label[second.tobytes()], int(right))
            self.assertNotIn(first.tobytes(), _rows(train.images))

    def test_deterministic_by_key_and_independent_sides(self):
        make = functools.partial(data.multi_mnist, _digits(), count=1000)
        first, same, other = (make(jax.random.key(k)) for k in (0, 0, 1))
        chex.assert_trees_all_equal(first, same)
        self.assertGreater(float(jnp.abs(first.inputs - other.inputs).max()), 0.5)
        # Equal classes: 1 in 10, standard error 0.0095 over 1000 pictures.
        equal = float((first.left == first.right).mean())
        self.assertBetween(equal, 0.06, 0.14)
        self.assertBetween(float(first.inputs.max()), 0.9, 1.0)

    def test_bad_arguments(self):
        call = functools.partial(data.multi_mnist, key=jax.random.key(0), count=2)
        with self.assertRaisesRegex(ValueError, "size.*at least 28.*27"):
            call(_digits(), size=27)
        with self.assertRaisesRegex(ValueError, r"digits\.images.*\[M, H, H\].*784"):
            call(data.Digits(np.zeros((3, 784), np.uint8), np.zeros(3, np.uint8)))
        with self.assertRaisesRegex(ValueError, "at least one example"):
            call(data.Digits(np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)))
        with self.assertRaisesRegex(ValueError, "count.*positive int"):
            data.multi_mnist(_digits(), jax.random.key(0), 0)


def _images_file(images):
    return struct.pack(">4I", 2051, *images.shape) + images.tobytes()


def _labels_file(labels):
    return struct.pack(">2I", 2049, *labels.shape) + labels.tobytes()


@pytest.fixture
def files(tmp_path):
    """Writes a pair of IDX files, optionally changed first; returns their paths."""

    def write(images, labels, edit=lambda i, c: (i, c)):
        contents = edit(_images_file(images), _labels_file(labels))
        paths = tmp_path / "train-images", tmp_path / "train-labels"
        for path, content in zip(paths, contents):
            path.write_bytes(content)
        return paths

    return write


_PACK = {
    "plain": lambda i, c: (i, c),
    "gzip": lambda i, c: (gzip.compress(i), gzip.compress(c)),
    "mixed": lambda i, c: (gzip.compress(i), c),
}
_IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 7), dtype=np.uint8)
_LABELS = np.arange(6, dtype=np.uint8)


@pytest.mark.parametrize("pack", sorted(_PACK))
def test_idx_round_trip(files, pack):
    digits = data.read_mnist_idx(*files(_IMAGES, _LABELS, _PACK[pack]))
    np.testing.assert_array_equal(digits.images, _IMAGES)
    np.testing.assert_array_equal(digits.labels, _LABELS)
    digits.images[0] = 0  # writable, not a view of the file's bytes


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda i, c: (i[:-1], c), r"train-images: expected 210 bytes.*got 209"),
        (lambda i, c: (i + b"0", c), r"train-images: expected 210 bytes.*got 211"),
        (lambda i, c: (i[:9], c), r"train-images: expected an IDX header of 16.*got 9"),
        (
            lambda i, c: (c, i),
            r"train-images: expected an IDX header|magic number 2051",
        ),
        (
            lambda i, c: (i, i),
            r"train-labels: expected IDX magic number 2049, got 2051",
        ),
        (lambda i, c: (i, c[:-2]), r"train-labels: expected 6 bytes.*got 4"),
        (
            lambda i, c: (gzip.compress(i)[:-12], c),
            r"train-images: expected a whole gzip",
        ),
        (lambda i, c: (b"", c), r"train-images: expected an IDX header.*got 0"),
        (
            lambda i, c: (i, struct.pack(">2I", 2049, 5) + c[8:13]),
            r"same number, got 6 .* and 5",
        ),
    ],
)
def test_broken_idx_files_name_the_file(files, edit, message):
    with pytest.raises(ValueError, match=message):
        data.read_mnist_idx(*files(_IMAGES, _LABELS, edit))


def test_idx_files_without_examples(files):
    with pytest.raises(ValueError, match=r"train-images: expected images.*\(0, 5, 7\)"):
        data.read_mnist_idx(*files(_IMAGES[:0], _LABELS[:0]))
