"""The folder of an experiment, and the version of Headwise that it was made with."""

import pytest

import headwise as hw
from experiments.harness import request as requests


def test_a_patch_is_told_and_a_minor_version_is_another_run(
    tmp_path, monkeypatch, caplog
):
    request = requests.read(["main", "--experiment=seed_network", "--smoke"])

    def claim(version):
        monkeypatch.setattr(hw, "__version__", version)
        config, told = request.config(), request.told()
        return hw.training.claim_workdir(tmp_path / "run", config, told=told)

    claim("0.2.0")
    assert caplog.messages == []
    path = claim("0.2.3")
    assert caplog.messages == [f"{path}: headwise has changed since it was made"]
    with pytest.raises(hw.training.WorkdirError, match=r"version was 0\.2\.0, is 0\.3"):
        claim("0.3.1")
