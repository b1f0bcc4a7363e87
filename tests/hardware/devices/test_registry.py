"""Laws of one's own: what a device file keeps of their fields, of whatever type."""

from dataclasses import dataclass
from typing import Literal

import pytest
import yaml

from hwaware.errors import UserError
from hwaware.hardware.devices import LogTimeDrift, device_file, device_from_dict, device_to_dict, load_device
from hwaware.hardware.devices.registry import read_device_file


@dataclass(frozen=True, kw_only=True)
class Typed(LogTimeDrift):
    """A law whose constants are of all kinds."""

    writes: int = 3
    species: str = "oxygen"
    is_cold: bool = False
    shares: tuple[float, ...] = (0.5, 0.25)
    nested: tuple[tuple[float, ...], ...] = ()
    pulses: int | None = None
    words: tuple[str, ...] = ()


LAW = f"{__name__}.Typed"
VALUES = {"writes": 7, "species": "silver", "is_cold": True, "shares": (0.1, 1.0), "pulses": 2}


def _typed(**values):
    return device_from_dict(device_to_dict(load_device("reram_cmo")) | {"law": LAW, **values})


def _same(device, other):
    assert device == other
    for name in Typed.__dataclass_fields__:
        assert type(getattr(device, name)) is type(getattr(other, name)), name


def test_a_device_file_keeps_the_types(tmp_path):
    device = _typed(**VALUES, nested=((1.0, 2.0), (3.0,)))
    assert (device.writes, device.species, device.is_cold, device.shares) == (7, "silver", True, (0.1, 1.0))
    _same(device_from_dict(device_to_dict(device)), device)
    path = tmp_path / "reram_cmo.yaml"
    path.write_text(device_file(device))
    _same(load_device(str(path)), device)
    assert yaml.safe_load(path.read_text())["shares"] == [0.1, 1.0]  # without tags of Python's


def test_what_yaml_makes_of_numbers():
    """1e-6 is text, 7.0 a float, a list no tuple."""
    device = _typed(writes=7.0, shares=["1e-6", 1], g_max_us="1e2", pulses=None)
    assert (device.writes, device.shares, device.g_max_us, device.pulses) == (7, (1e-6, 1.0), 100.0, None)
    assert type(device.writes) is int and type(device.shares[1]) is float


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"writes": 1.5}, "writes=1.5 of device 'reram_cmo' must be a whole number"),
        ({"writes": "few"}, "writes of device 'reram_cmo': 'few' is not a number"),
        ({"writes": [1]}, r"writes of device 'reram_cmo': \[1\] is not a whole number"),
        ({"species": 3}, "species of device 'reram_cmo': 3 is not text"),
        ({"is_cold": "yes"}, "is_cold of device 'reram_cmo': 'yes' is not true or false"),
        ({"is_cold": 1}, "is_cold of device 'reram_cmo': 1 is not true or false"),
        ({"shares": 0.5}, "shares of device 'reram_cmo': 0.5 is not a list of numbers"),
        ({"nested": 0.5}, "nested of device 'reram_cmo': 0.5 is not a list of lists of numbers"),
        ({"words": "a"}, "words of device 'reram_cmo': 'a' is not a list of texts"),
        ({"writs": 1}, "has no parameter 'writs'. Did you mean 'writes'"),
    ],
)
def test_values_of_another_type(values, reason):
    with pytest.raises(UserError, match=reason):
        _typed(**values)


def test_a_device_file_keeps_an_encoding_beside(tmp_path):
    device, words = load_device("charan2020"), {"kappa": None, "format": {"levels": 15}}
    path = tmp_path / "charan2020.yaml"
    path.write_text(device_file(device, words))
    read = read_device_file(str(path))
    assert read.encoding == words and load_device(str(path)) == device and "encoding" not in read.constants
    path.write_text(device_file(device))
    assert read_device_file(str(path)).encoding == {}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            {"exponent_mean": [0, 0, -1, 1]},
            r"exponent_mean=\[0.0, 0.0, -1.0, 1.0\] .*lowest value, must not be below 0",
        ),
        ({"exponent_std": [0, 0, 0, 1]}, r"exponent_std=\[0.0, 0.0, 0.0, 1.0\] of device 'pcm': .*, must be above 0"),
        ({"read_scale": -1}, "read_scale=-1.0 of device 'pcm' must not be below 0"),
        ({"read_max": -0.5}, "read_max=-0.5 of device 'pcm' must not be below 0"),
    ],
)
def test_constants_of_pcm_that_cannot_be(values, reason):
    with pytest.raises(UserError, match=reason):
        load_device("pcm", **values)


def test_a_device_file_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "reram.yaml").write_bytes(b"law: \xff")
    with pytest.raises(UserError, match=r"there is no device file '.*reramm.yaml'. Did you mean '.*reram.yaml'\?"):
        load_device(str(tmp_path / "reramm.yaml"))
    with pytest.raises(UserError, match=r"device file '.*reram.yaml' is not UTF-8 text: invalid start byte at byte 5"):
        load_device(str(tmp_path / "reram.yaml"))


def test_a_law_that_was_not_imported():
    with pytest.raises(UserError, match=r"names the law 'unasked.Law', which is unknown. Import its module first"):
        device_from_dict({"name": "mine", "law": "unasked.Law"})


@dataclass(frozen=True, kw_only=True)
class Chosen(LogTimeDrift):
    """A law with constants that are one of a few words, of either of two types, and of several at once."""

    mode: Literal["fast", "slow"] = "fast"
    limit: float | str = "none"
    pair: tuple[str, float] = ("a", 1.0)


CHOSEN = {"law": f"{__name__}.Chosen"}


def test_words_numbers_and_pairs_of_an_own_law():
    values = device_to_dict(load_device("reram_cmo")) | CHOSEN
    device = device_from_dict(values | {"mode": "slow", "limit": "soft", "pair": ["b", "2"]})
    assert (device.mode, device.limit, device.pair) == ("slow", "soft", ("b", 2.0))
    assert device_from_dict(values | {"limit": 2}).limit == 2.0
    read = device_from_dict(yaml.safe_load(device_file(device)))
    assert read == device and hash(read) == hash(device)
    with pytest.raises(UserError, match=r"^mode of device 'reram_cmo': 'slo' is unknown\. Did you mean 'slow'\?$"):
        device_from_dict(values | {"mode": "slo"})


def test_a_law_with_a_list_is_refused_where_it_is_made():
    values = {key: value for key, value in device_to_dict(load_device("reram_cmo")).items() if key != "law"}
    with pytest.raises(UserError, match=r"^words of device 'reram_cmo' is a list, which is mutable: make it a tuple"):
        Typed(**values | {"words": ["Ta"]})
