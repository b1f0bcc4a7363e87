"""Networks that a module registers in timm, by a dotted name."""

from __future__ import annotations

import re
import sys

import pytest

from hwaware.errors import UserError
from hwaware.models.own import registered
from tests.command_line import ROOT


@pytest.fixture
def here(tmp_path, monkeypatch):
    text = (ROOT / "examples" / "own_network.py").read_text()
    (tmp_path / "lab_network.py").write_text(text.replace("small_digits", "lab_digits"))
    (tmp_path / "needy.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("lab_network", None)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet18.tv_in1k", "resnet18.no_such_tag", "hf-hub:timm/resnet18.a1_in1k", "nonsense"]
)
def test_timms_own_names_stay(name):
    assert registered(name) == name


def test_what_a_module_registers(here):
    assert registered("lab_network.lab_digits") == "lab_digits"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lab_network.lab_digit", "lab_network registers no network 'lab_digit' in timm. Did you mean 'lab_digits'?"),
        ("lab_netwrk.lab_digits", "unknown network 'lab_netwrk.lab_digits': there is no lab_netwrk.py here"),
        (
            "resnt18.tv_in1k",
            "unknown network 'resnt18.tv_in1k': there is no resnt18.py here, and none in timm. Did you",
        ),
        ("needy.net", "network 'needy.net': needy needs the module 'no_such_package', which is not installed."),
    ],
)
def test_mistakes(here, name, reason):
    with pytest.raises(UserError, match=re.escape(reason)):
        registered(name)
