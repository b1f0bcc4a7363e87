"""Arrays of cells, their wires and their converters."""

from hwaware.hardware.crossbar.converters import Converters, Ranges
from hwaware.hardware.crossbar.crossbar import Crossbar
from hwaware.hardware.crossbar.tiling import RowPart, Tiling
from hwaware.hardware.crossbar.wires import Wires

__all__ = ["Converters", "Crossbar", "Ranges", "RowPart", "Tiling", "Wires"]
