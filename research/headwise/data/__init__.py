"""Data sets for multi-task training, and the two ways to feed them.

Small, real data sets that come inside ordinary Python packages (the extra
`headwise[data]`), so that every demo and test runs without a download:

* brain patches: tissue classes, the clean image and the bias field from one MRI;
* MultiMNIST: two overlapping digits in one image, one head for each;
* yeast: 14 labels on 103 features.

The packages are only opened as folders of files; they are never imported. Arrays that
fit on the device are indexed there (`sample`, `epochs`, `brain_patches`); everything
else streams through grain (`stream`, and `mix` of several sources).
"""

from headwise.data._brain import brain_grid
from headwise.data._brain import brain_patches
from headwise.data._brain import brain_volumes
from headwise.data._brain import BrainVolumes
from headwise.data._digits import Digits
from headwise.data._digits import load_digits
from headwise.data._digits import read_mnist_idx
from headwise.data._digits import split_digits
from headwise.data._epochs import Epochs
from headwise.data._epochs import epochs
from headwise.data._mix import mix
from headwise.data._mni import brain_tissue
from headwise.data._mni import load_mni152
from headwise.data._mni import Mni152
from headwise.data._multi_mnist import multi_mnist
from headwise.data._multi_mnist import MultiMnist
from headwise.data._sample import sample
from headwise.data._split import split
from headwise.data._stream import stream
from headwise.data._yeast import load_yeast
from headwise.data._yeast import Yeast

__all__ = (
    "BrainVolumes",
    "Digits",
    "Epochs",
    "Mni152",
    "MultiMnist",
    "Yeast",
    "brain_grid",
    "brain_patches",
    "brain_tissue",
    "brain_volumes",
    "epochs",
    "load_digits",
    "load_mni152",
    "load_yeast",
    "mix",
    "multi_mnist",
    "read_mnist_idx",
    "sample",
    "split",
    "split_digits",
    "stream",
)
