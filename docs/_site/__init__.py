"""How the site is made of README.md, docs/ and the docstrings: `make docs`."""
