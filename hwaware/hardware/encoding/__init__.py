"""How cells hold weights: mapping, scale, number format, I-V curve."""

from hwaware.hardware.encoding.encoding import Encoding
from hwaware.hardware.encoding.formats import Codes, Continuous, Levels, NumberFormat, number_format
from hwaware.hardware.encoding.mapping import MAPPING_NAMES, MAPPINGS, Mapping, import_mapping

__all__ = [
    "MAPPINGS",
    "MAPPING_NAMES",
    "Codes",
    "Continuous",
    "Encoding",
    "Levels",
    "Mapping",
    "NumberFormat",
    "import_mapping",
    "number_format",
]
