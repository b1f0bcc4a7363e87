"""Which layer stands on which hardware."""

import json

import pytest

from hwaware.errors import UserError
from hwaware.hardware import Converters, Placement, Rule, load_hardware, placement_from_plain
from hwaware.hardware.devices import device_to_dict

A, B = load_hardware("reram_cmo"), load_hardware("pcm", mapping="offset", kappa=None, clamp="zero", columns=128)
NAMES = ("", "stem", "blocks", "blocks.0", "blocks.0.fc", "blocks.1", "blocks.1.fc", "head")
LAYERS = ("stem", "blocks.0.fc", "blocks.1.fc", "head")


def _assigned(placement):
    found = placement.assign(NAMES)
    return [found[name] for name in LAYERS]


def test_the_default_is_for_all_that_no_rule_names():
    assert _assigned(Placement(A)) == [A, A, A, A]
    assert _assigned(Placement(A, (Rule(("blocks",), B),))) == [A, B, B, A]  # and for all that lies inside
    assert _assigned(Placement(A, (Rule(("blocks.*.fc", "head"), None),))) == [A, None, None, None]
    assert _assigned(Placement(None, (Rule(("blocks.1",), B),))) == [None, None, B, None]


def test_every_hardware_once_the_default_first():
    rules = (Rule(("stem",), B), Rule(("head",), None), Rule(("blocks",), A))
    assert Placement(A, rules).every == (A, B) and Placement(None, rules).every == (B, A)
    with pytest.raises(UserError, match=r"no layer is analog: all of hardware.layers are digital"):
        Placement(None, (Rule(("head",), None),))


def test_a_pattern_that_matches_nothing_names_the_nearest():
    with pytest.raises(UserError, match=r"hardware.layers: 'blocs' matches no layer. Did you mean 'blocks'\?"):
        Placement(A, (Rule(("stem", "blocs"), B),)).assign(NAMES)


def test_a_name_is_itself_whatever_is_in_it():
    found = Placement(A, (Rule(("a[0]",), B),), digital=("b[1]",)).assign(["a[0]", "a0", "a[0].fc", "b[1]", "b1"])
    assert list(found.values()) == [B, A, B, None, A]


@pytest.mark.parametrize("second", ["blocks.1.*", "blocks"])
def test_two_rules_for_one_layer_must_agree(second):
    assert _assigned(Placement(A, (Rule(("blocks",), B), Rule((second,), B)))) == [A, B, B, A]
    clash = Placement(A, (Rule(("blocks",), B), Rule((second,), A)))
    layer = "blocks.1.fc" if second == "blocks.1.*" else "blocks"
    with pytest.raises(UserError, match=f"layer '{layer}' is matched by 'blocks' and by '{second}', .*narrow one"):
        clash.assign(NAMES)


def test_what_is_digital_whatever_rules_say():
    """So that what is put aside by its sensitivity may lie in what a rule names."""
    assert _assigned(Placement(A, (Rule(("blocks",), B),), digital=("*.1",))) == [A, B, None, A]
    with pytest.raises(UserError, match=r"'blocks\.1' is matched by 'blocks' and by '\*\.1', which set different"):
        _assigned(Placement(A, (Rule(("blocks",), B), Rule(("*.1",), None))))
    with pytest.raises(UserError, match=r"hardware.keep_digital: 'bloks' matches no layer. Did you mean 'blocks'"):
        _assigned(Placement(A, digital=("bloks",)))


def test_plain_types_and_back():
    converting = load_hardware("reram_cmo", kappa=None, levels=15, converters=Converters(adc_bits=8, samples=64))
    for placement in (
        Placement(A, (Rule(("stem", "head"), None), Rule(("blocks",), B)), digital=("blocks.1",)),
        Placement(None, (Rule(("*",), converting),)),
        Placement(load_hardware("diware2023")),
    ):
        assert placement_from_plain(json.loads(json.dumps(placement.plain()))) == placement


def _legacy(**more):
    """What older files have: one flat device, patterns in two lists, converters beside."""
    device = {**device_to_dict(A.device), "mapping": "offset", "scale": "channel", "kappa": 1.0, "range_fraction": 0.5}
    return {"device": device, "include": ["*"], "exclude": [], "corrected": True, **more}


def test_files_of_versions_that_had_one_device():
    held = load_hardware("reram_cmo", mapping="offset", scale="channel", kappa=1.0, range_fraction=0.5)
    assert placement_from_plain(_legacy()) == Placement(held)
    assert placement_from_plain(_legacy(exclude=["head", "stem"])) == Placement(held, (Rule(("head", "stem"), None),))
    both = placement_from_plain(_legacy(include=["blocks"], exclude=["*.1"]))
    assert _assigned(both) == [None, held, None, None]
    settings = {"dac_bits": 6, "adc_bits": 8, "percentile": 99.9, "samples": 64}
    (found,) = placement_from_plain(_legacy(converters=settings)).every
    assert found.crossbar.converters == Converters(**settings) and found.encoding == held.encoding


def test_formats_of_versions_that_had_one_device():
    levels, codes = _legacy(), _legacy()
    levels["device"] |= {"levels": 15, "range_fraction": 1.0}
    codes["device"] |= {"mapping": "bit_sliced", "kappa": None, "range_fraction": 1.0, "scale": "fixed"}
    codes["device"] |= {"bits": 8, "slice_bits": 2, "fraction_bits": 6}
    words = {"kappa": None, "mapping": "bit_sliced", "scale": "fixed", "fraction_bits": 6}
    expected = load_hardware("reram_cmo", mapping="offset", scale="channel", kappa=1.0, levels=15)
    assert placement_from_plain(levels).default == expected
    assert placement_from_plain(codes).default == load_hardware("reram_cmo", **words)
