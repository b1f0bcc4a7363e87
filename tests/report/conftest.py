import pytest

from tests.results.conftest import make_cost, make_row, make_rows, rows

__all__ = ["make_cost", "make_row", "make_rows", "rows"]


@pytest.fixture(autouse=True)
def _figures_are_composed_but_not_rendered():
    """They are rendered here."""
