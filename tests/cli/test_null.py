"""``null`` in a list of tables: jsonargparse hands it on as Python prints it."""

from __future__ import annotations

import pytest

from hwaware.cli.parser import parse
from hwaware.commands import load
from tests.command_line import FINETUNE


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("[{match: a, encoding: null, digital: true}]", [("a", True, None)]),
        ('[{match: "it\'s", device: null}]', [("it's", False, None)]),
    ],
)
def test_null_is_nothing(given, found):
    _, config = parse("fit", load("fit"), ["--config", FINETUNE, "--model.hardware.layers", given])
    layers = config.model.init_args.hardware.layers
    assert found == ([(one.match, one.digital, one.encoding) for one in layers])
