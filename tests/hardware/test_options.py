"""Hardware as recipes spell it out."""

from pathlib import Path

import pytest

from hwaware.errors import UserError
from hwaware.hardware import (
    Codes,
    Continuous,
    Converters,
    CrossbarOptions,
    Encoding,
    EncodingOptions,
    HardwareOptions,
    KeepDigital,
    LayerOptions,
    Levels,
    Placement,
    Rule,
    load_hardware,
)

CMO = {"name": "reram_cmo"}
HOT = {"temperature_c": 85, "activation_energy_ev": 0.6}


def _default(device=CMO, **encoding):
    return HardwareOptions(device, EncodingOptions(**encoding)).placement.default


def test_what_is_not_said_is_the_device_files():
    assert HardwareOptions(CMO).placement == Placement(load_hardware("reram_cmo"))
    held = _default({"name": "diware2023"}).encoding
    assert held == Encoding(mapping="bit_sliced", scale="fixed", kappa=None, format=Codes(8, 2, fraction_bits=6))
    assert _default({"name": "charan2020"}, range_fraction=3 / 7).encoding.format == Levels(15)


def test_constants_of_the_device():
    assert _default({**CMO, **HOT, "clamp": "zero"}) == load_hardware("reram_cmo", clamp="zero", **HOT)
    assert _default({**CMO, "temperature_c": "85", "activation_energy_ev": 0.6}).device.temperature_c == 85.0
    with pytest.raises(UserError, match=r"device 'reram_cmo' has no parameter 'temprature_c'. Did you mean 'temperatu"):
        _default({**CMO, "temprature_c": 85})
    with pytest.raises(UserError, match=r"hardware.device has no name: give one, such as device.name reram_cmo"):
        HardwareOptions({"temperature_c": 85})
    with pytest.raises(UserError, match=r"device 'reram_cm' is unknown. Did you mean 'reram_cmo'"):
        HardwareOptions({"name": "reram_cm"})


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ("mapping", "encoding.mapping"),
        ("kappa", "encoding.kappa"),
        ("levels", "encoding.format.levels"),
        ("slice_bits", "encoding.format.slice_bits"),
        ("converters", "crossbar.converters"),
    ],
)
def test_words_that_are_no_longer_the_devices_are_told_their_place(word, place):
    with pytest.raises(UserError, match=f"'{word}' is not a constant of a device: give it as {place}."):
        HardwareOptions({**CMO, word: 1})
    with pytest.raises(UserError, match=place):
        HardwareOptions(CMO, layers=[LayerOptions("a", device={word: 1})])


def test_words_of_the_encoding_are_over_the_device_files():
    words = {"mapping": "offset", "scale": "channel", "kappa": 1.0, "range_fraction": 0.5}
    assert _default(**words) == load_hardware("reram_cmo", **words)
    assert _default(kappa="linear").encoding.kappa is None and _default().encoding.kappa == 2.0
    assert _default({"name": "charan2020"}, kappa=1.5).encoding.kappa == 1.5  # whose file has none
    with pytest.raises(UserError, match="Did you mean 'differential'"):
        _default(mapping="diferential")


def test_number_formats():
    assert _default(format={"levels": 15}).encoding.format == Levels(15)
    codes = _default(mapping="bit_sliced", kappa="linear", format={"bits": 6, "slice_bits": 3})
    assert codes.encoding.format == Codes(6, 3)
    assert _default({"name": "charan2020"}, format={"levels": 7}).encoding.format == Levels(7)
    assert _default({"name": "charan2020"}, format="continuous").encoding.format == Continuous()
    assert _default({"name": "diware2023"}, format={"bits": 4}).encoding.format == Codes(4, 2, fraction_bits=6)
    assert load_hardware("diware2023", bits=4) == _default({"name": "diware2023"}, format={"bits": 4})
    plain = _default({"name": "diware2023"}, mapping="offset", scale="tensor", format="continuous")
    assert plain.encoding == Encoding(mapping="offset", kappa=None)
    for form, reason in (
        ({"levls": 15}, "encoding.format has no 'levls'. Did you mean 'levels'"),
        ({"levels": 15, "bits": 8}, "levels and bits exclude each other"),
        ({"bits": 8}, "is for the mapping 'bit_sliced', not 'differential': give levels, or the format continuous"),
        (15, r"encoding.format 15 is not a table of keys and values: give \{levels: 15\}"),
    ):
        with pytest.raises(UserError, match=reason):
            _default(format=form)


def test_an_error_says_which_layers_it_is_of():
    wrong = LayerOptions(match=["conv1", "conv2"], device={"name": "pcmm"})
    with pytest.raises(UserError, match=r"hardware.layers, match conv1, conv2: device 'pcmm' is unknown"):
        HardwareOptions(CMO, layers=[wrong])


def test_crossbars():
    converters = Converters(adc_bits=8)
    options = HardwareOptions(CMO, crossbar=CrossbarOptions(columns=128, converters=converters))
    (found,) = options.placement.every
    assert found == load_hardware("reram_cmo", columns=128, converters=converters) and found.crossbar.rows == 512
    exact = LayerOptions(match="head", crossbar=CrossbarOptions(converters="exact"))
    rules = HardwareOptions(CMO, crossbar=CrossbarOptions(converters=converters), layers=[exact]).placement.rules
    assert rules[0].hardware == load_hardware("reram_cmo")
    with pytest.raises(UserError, match=r"input_kappa=2.0 is the cell's I-V curve, .* set encoding.kappa linear"):
        HardwareOptions(CMO, crossbar=CrossbarOptions(converters=Converters(adc_bits=8, input_kappa=2.0)))


def test_layers_differ_from_what_is_said_of_all():
    options = HardwareOptions(
        {**CMO, **HOT},
        EncodingOptions(kappa="linear", scale="channel"),
        CrossbarOptions(columns=128),
        layers=[
            LayerOptions("stem", device={"temperature_c": 25}, encoding=EncodingOptions(mapping="offset")),
            LayerOptions(["head", "fc"], device={"name": "pcm"}, crossbar=CrossbarOptions(rows=256)),
            LayerOptions("norm", digital=True),
        ],
    )
    common = {"kappa": None, "scale": "channel", "columns": 128}
    stem = load_hardware("reram_cmo", **{**HOT, "temperature_c": 25}, mapping="offset", **common)
    assert options.placement == Placement(
        load_hardware("reram_cmo", **HOT, **common),
        (
            Rule(("stem",), stem),
            Rule(("head", "fc"), load_hardware("pcm", **common, rows=256)),  # another device, none of whose constants
            Rule(("norm",), None),
        ),
    )


def test_others_may_stay_digital():
    only = HardwareOptions(CMO, layers=[LayerOptions("blocks.*")], others_digital=True)
    assert only.placement == Placement(None, (Rule(("blocks.*",), load_hardware("reram_cmo")),))
    with pytest.raises(UserError, match="no layer is analog"):
        HardwareOptions(CMO, others_digital=True)


def test_what_is_digital_stands_on_nothing_and_what_matches_nothing_is_refused():
    with pytest.raises(UserError, match=r"hardware.layers: head is digital, so it has no encoding: leave one out"):
        LayerOptions("head", digital=True, encoding=EncodingOptions(kappa=1.0))
    for match in ("", [], ["head", ""]):
        with pytest.raises(UserError, match=r"hardware.layers: match is empty; give a pattern .*'blocks.\*'"):
            LayerOptions(match)


@pytest.fixture
def ranking(tmp_path):
    file = tmp_path / "sensitivity.csv"
    file.write_text("rank,layer\n2,b\n1,a\n3,c\n")
    return KeepDigital(str(file), 2)


def test_the_most_sensitive_layers_stay_digital(ranking):
    other = LayerOptions("*", encoding=EncodingOptions(mapping="offset"))
    placement = HardwareOptions(CMO, layers=[other], keep_digital=ranking).placement
    offset = load_hardware("reram_cmo", mapping="offset")
    assert placement.assign(["a", "b", "c"]) == {"a": None, "b": None, "c": offset}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"rank,layer\n1,a\n\nfirst,b\n", "line 4: rank 'first' is not a whole number"),
        (b"layer,rank\na,1\nb\n", "line 3: rank '' is not a whole number"),
        (b"rank,layer\n1,a\n2\n", "line 3: the layer is empty"),
        ("rank,layer\n1,é".encode() + b"\xff\n", "line 2, column 4: byte 0xff is not UTF-8"),
    ],
)
def test_a_damaged_ranking_is_refused_with_the_place(ranking, text, reason):
    Path(ranking.ranking).write_bytes(text)
    with pytest.raises(UserError, match=rf"keep_digital.ranking: '{ranking.ranking}' {reason}"):
        ranking.names()


def test_beside_a_task_what_is_not_said_of_layers_and_crossbar_is_the_tasks(ranking):
    layers = [LayerOptions("head", digital=True)]
    converters = Converters(dac_bits=8)
    task = HardwareOptions(CMO, EncodingOptions(kappa="linear"), CrossbarOptions(64, 32, converters), layers)
    pcm = HardwareOptions({"name": "pcm"}, EncodingOptions(mapping="offset"), CrossbarOptions(columns=16))
    kept = (Rule(("head",), None),)
    # The encoding is its own: here with the usual curve.
    expected = load_hardware("pcm", mapping="offset", rows=64, columns=16, converters=converters)
    assert pcm.beside(task) == Placement(expected, kept)
    assert pcm.beside(None) == pcm.placement == Placement(load_hardware("pcm", mapping="offset", columns=16))
    told = HardwareOptions({"name": "pcm"}, layers=[])  # said: nothing differs
    assert told.beside(task).rules == ()
    assert HardwareOptions({"name": "pcm"}, keep_digital=ranking).beside(task).digital == ("a", "b")
    only = HardwareOptions(CMO, layers=[LayerOptions("fc")], others_digital=True)
    assert pcm.beside(only).default is None
