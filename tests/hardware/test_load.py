"""What files keep of hardware, and device files that say how their source holds weights."""

import json

import pytest
import torch

from hwaware.errors import UserError
from hwaware.hardware import (
    Converters,
    Encoding,
    Hardware,
    Levels,
    device_names,
    hardware_from_plain,
    import_mapping,
    load_device,
    load_hardware,
    placement_from_plain,
)

OWN_MAPPING = """
from hwaware.hardware import Mapping

def encode(v, low, high):
    return ((v + 1) * (high - low) / 2 + low,)

def decode(cells, low, high):
    (g,) = cells
    return (g - low) * (2 / (high - low)) - 1

UPWARDS = Mapping("upwards", 1, encode, decode, (2,))
"""


@pytest.mark.parametrize("name", device_names())
def test_presets_to_plain_types_and_back(name):
    hardware = load_hardware(name)
    assert hardware_from_plain(json.loads(json.dumps(hardware.plain()))) == hardware
    assert hardware.device == load_device(name)


def test_everything_that_can_be_set_comes_back():
    converters = Converters(dac_bits=6, output_noise=0.01, input_kappa=1.0, input_range=0.5)
    settings = {"mapping": "offset", "scale": "channel", "kappa": None, "levels": 15, "range_fraction": 3 / 7}
    hardware = load_hardware("reram_cmo", **settings, rows=64, columns=32, converters=converters, stuck_on=0.1)
    assert hardware_from_plain(json.loads(json.dumps(hardware.plain()))) == hardware
    assert hardware.params() == {**load_device("reram_cmo", stuck_on=0.1).params()} | {
        **{key: value for key, value in settings.items() if key != "mapping"},
        "rows": 64,
        "columns": 32,
        "converters": converters.settings(),
    }


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"encoding": {"kapa": 1.0}}, "the encoding has no 'kapa'. Did you mean 'kappa'"),
        ({"encoding": {"kappa": "wide"}}, "kappa of the encoding: 'wide' is not a number"),
        ({"encoding": {"mapping": 3}}, "mapping of the encoding: 3 is not text"),
        ({"crossbar": {"row": 8}}, "the crossbar has no 'row'. Did you mean 'rows'"),
        ({"crossbar": {"converters": {"adc": 8}}}, "the table converters has no 'adc'. Did you mean 'adc_bits'"),
        ({"crossbar": {"converters": {"adc_bits": "wide"}}}, "adc_bits of the table converters: 'wide' is not a num"),
        ({"wires": {}}, "hardware has no 'wires'. Choose one of: crossbar, device, encoding"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(changed, reason):
    plain = load_hardware("reram_cmo").plain()
    with pytest.raises(UserError, match=reason):
        hardware_from_plain(plain | changed)
    for key in plain:
        with pytest.raises(UserError, match=f"hardware has no '{key}'"):
            hardware_from_plain({name: value for name, value in plain.items() if name != key})


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({}, "a placement has no 'default'"),
        ({"default": None, "digital": [], "layers": [{"match": ["*"]}]}, "a rule of a placement has no 'hardware'"),
    ],
)
def test_a_damaged_placement_is_refused_with_the_reason(plain, reason):
    with pytest.raises(UserError, match=reason):
        placement_from_plain(plain)


def _device_file(folder, encoding):
    path = folder / "mine.yaml"
    path.write_text(f"law: relative\ng_min_us: 2\ng_max_us: 50\nrelative_drift: 0.2\nencoding: {encoding}\n")
    return str(path)


def test_a_device_file_says_how_its_source_holds_weights(tmp_path):
    file = _device_file(tmp_path, "{mapping: offset, kappa: 5e-1, range_fraction: 1, format: {levels: 15}}")
    encoding = Encoding(mapping="offset", kappa=0.5, format=Levels(15))  # YAML reads '5e-1' as text
    assert load_hardware(file) == Hardware(device=load_device(file), encoding=encoding)
    assert json.dumps(load_hardware(file).params()["range_fraction"]) == "1.0"
    assert load_hardware(file, kappa=None, levels=7).encoding == Encoding(
        mapping="offset", kappa=None, format=Levels(7)
    )


def test_the_words_of_recipes_are_those_of_files_and_python(tmp_path):
    linear, plain = load_hardware("reram_cmo", kappa=None), load_hardware("charan2020", levels=None)
    assert load_hardware("reram_cmo", kappa="linear") == linear
    assert load_hardware("charan2020", format="continuous") == plain != load_hardware("charan2020")
    file = _device_file(tmp_path, "{kappa: linear, format: continuous}")
    assert load_hardware(file).encoding == linear.encoding
    assert load_hardware(file, levels=15).encoding.format == Levels(15)


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        ("{kapa: 1}", "the encoding has no 'kapa'. Did you mean 'kappa'"),
        ("{kappa: wide}", "kappa of the encoding: 'wide' is not a number"),
        ("{format: wide}", "encoding.format 'wide' is not a table of keys and values"),
        ("{mapping: nowhere.MINE}", "mapping 'nowhere.MINE' can't be imported: No module named 'nowhere'"),
        ("[1]", "encoding is not a table of keys and values"),
    ],
)
def test_a_device_file_with_a_wrong_encoding(tmp_path, encoding, reason):
    with pytest.raises(UserError, match=reason):
        load_hardware(_device_file(tmp_path, encoding))


def test_a_mapping_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_mappings.py").write_text(OWN_MAPPING)
    monkeypatch.syspath_prepend(tmp_path)
    hardware = load_hardware("reram_cmo", mapping="my_mappings.UPWARDS")
    v = torch.linspace(-1, 1, 5)
    (g,) = hardware.encode(v)
    assert (g[0].item(), g[-1].item()) == pytest.approx((9.0, 88.2)) and hardware.n_cells((3, 4), 1) == 12
    torch.testing.assert_close(hardware.decode((g,)), v)
    assert hardware.encoding.mapping == "my_mappings.UPWARDS" and hardware_from_plain(hardware.plain()) == hardware
    with pytest.raises(UserError, match=r"module 'my_mappings' has no such mapping. Did you mean 'UPWARDS'"):
        import_mapping("my_mappings.UPWARD")


def test_a_file_never_imports_a_mapping(tmp_path, monkeypatch):
    (tmp_path / "unasked.py").write_text("raise RuntimeError('ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    plain = load_hardware("reram_cmo").plain()
    plain["encoding"]["mapping"] = "unasked.MINE"
    with pytest.raises(UserError, match=r"mapping 'unasked.MINE' is unknown. Import it first"):
        hardware_from_plain(plain)


@pytest.mark.parametrize("path", ["offset", ".MINE", "..MINE", "os.path", "json.dumps"])
def test_what_is_no_mapping(path):
    with pytest.raises(UserError, match=f"mapping '{path}'"):
        import_mapping(path)
