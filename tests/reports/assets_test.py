"""What draws a page: read from other packages, which are not imported for it."""

import sys

import pytest

from headwise.reports._page import _assets


@pytest.mark.parametrize("package", ["itables", "plotly"])
def test_a_package_is_read_and_not_imported(package, monkeypatch):
    monkeypatch.delitem(sys.modules, package, raising=False)
    script, style = _assets.tables()
    assert "globalThis.DataTables=" in script
    assert ".dataTable" in style
    assert "Plotly" in _assets.plotly()
    assert package not in sys.modules
    monkeypatch.setitem(sys.modules, package, None)  # not installed
    with pytest.raises(ModuleNotFoundError, match=r"headwise\[report\]"):
        _assets.tables(), _assets.plotly()
