from tests.results.conftest import make_cost, make_row, make_rows, rows

__all__ = ["make_cost", "make_row", "make_rows", "rows"]
