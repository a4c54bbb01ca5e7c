"""Uses an installed headwise away from its checkout: the README's code, as written.

python -I .ci/use_wheel.py CHECKOUT
"""

import importlib.util
import pathlib
import sys

import headwise as hw

checkout = pathlib.Path(sys.argv[1]).resolve()
home = pathlib.Path(hw.__file__).resolve()
assert not home.is_relative_to(checkout / "research"), f"{home} is the checkout's"
assert (home.parent / "py.typed").exists(), "the wheel lacks py.typed"
page = home.parent / "reports/_page/static/page.html"
assert page.exists(), "the wheel lacks the report's page"
for extra in (
    "matplotlib",
    "chex",
    "grain",
    "tensorboardX",
    "mlflow",
    "wandb",
    "scipy.stats",
):
    assert extra not in sys.modules, f"`import headwise` loads {extra}"
spec = importlib.util.spec_from_file_location("pages", checkout / "tests/_pages.py")
assert spec is not None
assert spec.loader is not None
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)
pages.run_page(checkout / "README.md")
print(f"headwise {hw.__version__}: the wheel works from {home.parent}")
