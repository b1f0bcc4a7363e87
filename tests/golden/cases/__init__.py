"""The cases by name, in the order of ``rows.csv``. Each makes its lines in a workplace, in a folder of its name."""

from collections.abc import Callable

from tests.golden.cases import chips, devices, reader, repairs, sensitivity, training
from tests.golden.lines import Lines
from tests.golden.workplace import Workplace

_MODULES = (chips, training, repairs, sensitivity, reader, devices)
CASES: dict[str, Callable[[Workplace, str], Lines]] = {
    name: make for module in _MODULES for name, make in module.CASES.items()
}
