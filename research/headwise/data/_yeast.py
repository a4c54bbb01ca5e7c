"""Yeast genes: 14 yes-or-no labels, a small set with many heads."""

from typing import NamedTuple

import numpy as np

from headwise.data import _files
from headwise.data import _nifti

_FEATURES, _LABELS = 103, 14


class Yeast(NamedTuple):
    """Genes, their features and their functional classes."""

    inputs: np.ndarray
    """[2417, 103] float32"""
    targets: np.ndarray
    """[2417, 14] float32, each 0 or 1"""
    names: tuple[str, ...]
    """the 14 label names in column order, which is also sorted order"""


def load_yeast() -> Yeast:
    """2417 yeast genes with 103 features and 14 labels, several of them true at once.

    Features are micro-array expressions and phylogenetic profiles, already scaled; the
    last 14 columns of the file, Class1 to Class14, are the labels. Here they are called
    "class01" to "class14", so that sorting the names keeps the columns in order. A gene
    has 4.237 labels on average; class14 is true for 34 genes only.

    Licence: the package that carries it is BSD-3-Clause; the data set, spread by MULAN
    and OpenML (40597), comes without a licence text of its own.

    Returns:
        `Yeast` of numpy arrays. Divide it with `split`.

    Raises:
        ModuleNotFoundError: river, whose file is read, is not installed.
        ValueError: the file is not the expected release.

    Example:
        >>> from headwise import data
        >>> genes = data.load_yeast()
        >>> genes.inputs.shape, genes.targets.shape, genes.names[0]
        ((2417, 103), (2417, 14), 'class01')
        >>> print(f"{genes.targets.sum(1).mean():.3f} labels a gene")
        4.237 labels a gene
        >>> targets = dict(zip(genes.names, genes.targets.T))     # one head a label

    References:
        Elisseeff, Weston: A kernel method for multi-labelled classification, NeurIPS
        2001. Tsoumakas et al.: MULAN, JMLR 12, 2011.
    """
    path = _files.locate("river", "datasets", "yeast.csv.gz")
    header, *lines = _nifti.read_bytes(path).decode("ascii").splitlines()
    columns = [f"Att{i + 1}" for i in range(_FEATURES)]
    columns += [f"Class{i + 1}" for i in range(_LABELS)]
    if header.split(",") != columns:
        raise ValueError(f"{path}: expected columns {columns}, got {header!r}")
    table = np.loadtxt(lines, dtype=np.float32, delimiter=",")
    names = tuple(f"class{i + 1:02}" for i in range(_LABELS))
    inputs, targets = np.split(table, [_FEATURES], axis=1)
    return Yeast(inputs.copy(), targets.copy(), names)
