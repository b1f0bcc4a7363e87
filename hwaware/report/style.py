"""How all figures look: the style sheet ``paper.mplstyle``, the colours and the width.

The sheet has the sizes of letters and lines. Colours are here, since each is for something.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

#: Okabe and Ito's colours, which the colour-blind can tell apart. A network keeps its colour from figure to figure.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

#: Of text and lines, of what is beside the point, and of the paper.
INK, GREY, PAPER = "#000000", "#555555", "#ffffff"

MARKERS = "os^Dv"
DASHES = ("-", "--", ":", "-.")

#: Width (inches) of all figures: they stand beside one another on a page, and fill a column of a paper.
WIDTH_IN = 4.8

_SHEET = "hwaware.report.paper"

_Arguments = ParamSpec("_Arguments")
_Drawn = TypeVar("_Drawn")


def styled(draw: Callable[_Arguments, _Drawn]) -> Callable[_Arguments, _Drawn]:
    """A function that draws, in the style sheet and nothing else, whatever a ``matplotlibrc`` says."""

    @wraps(draw)
    def in_style(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Drawn:
        from matplotlib import style  # lazily: results are read without figures

        with style.context(_SHEET, after_reset=True):
            return draw(*args, **kwargs)

    return in_style
