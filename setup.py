"""What setup.cfg cannot say: README.md as PyPI shows it, where links must be whole."""

import configparser
import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent


def readme() -> str:
    """README.md with its links to files made links to the repository."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    source = dict(
        line.split(" = ")
        for line in config["metadata"]["project_urls"].strip().splitlines()
    )["Source"]

    def whole(match: re.Match) -> str:
        picture, text, target = match.groups()
        if "://" in target or target.startswith("#"):
            return match[0]
        view = "raw" if picture else "blob"
        return f"{picture}[{text}]({source}/{view}/main/{target})"

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)]+)\)", whole, text)


setuptools.setup(long_description=readme())
