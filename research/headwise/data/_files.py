"""Finds data files inside installed packages without importing the packages."""

import importlib.util
import pathlib


def locate(package: str, *parts: str) -> pathlib.Path:
    """Returns the path of a file inside an installed package.

    The package is looked up and not imported: importing nilearn or river costs seconds
    and pulls in pandas, while only one file of it is needed.
    """
    wanted = "/".join((package, *parts))
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the package {package!r} is not installed; looked for its file {wanted}. "
            'Install the data sets with: pip install "headwise[data]"',
            name=package,
        )
    for folder in spec.submodule_search_locations:
        path = pathlib.Path(folder, *parts)
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"the installed package {package!r} has no file {wanted}; other releases of it "
        'may. Install a release that is known to work: pip install "headwise[data]"'
    )
