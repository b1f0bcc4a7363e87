import pytest
import torch

from hwaware.errors import UserError
from hwaware.hardware import load_hardware
from hwaware.hardware.encoding import MAPPINGS

LOW, HIGH = 9.0, 88.2


@pytest.mark.parametrize("name", MAPPINGS)
def test_decode_inverts_encode_and_fills_the_window(name):
    mapping = MAPPINGS[name]
    v = torch.linspace(-1, 1, 101, dtype=torch.float64)
    cells = mapping.encode(v, LOW, HIGH)
    assert len(cells) == mapping.cells_per_weight
    torch.testing.assert_close(mapping.decode(cells, LOW, HIGH), v)
    for g in cells:
        assert g.min() == pytest.approx(LOW) and g.max() == pytest.approx(HIGH)


def test_known_conductances():
    v = torch.tensor([-1.0, 0.0, 0.5])
    (g,) = MAPPINGS["offset"].encode(v, 10.0, 50.0)
    torch.testing.assert_close(g, torch.tensor([10.0, 30.0, 40.0]))
    positive, negative = MAPPINGS["differential"].encode(v, 10.0, 50.0)
    torch.testing.assert_close(positive, torch.tensor([10.0, 10.0, 30.0]))
    torch.testing.assert_close(negative, torch.tensor([50.0, 10.0, 10.0]))
    positive, negative = MAPPINGS["differential_symmetric"].encode(v, 10.0, 50.0)
    torch.testing.assert_close(positive, torch.tensor([10.0, 30.0, 40.0]))
    torch.testing.assert_close(positive + negative, torch.full((3,), 60.0))


def test_never_rescaled_to_the_values_that_occur():
    (small,) = MAPPINGS["offset"].encode(torch.tensor([0.1, 0.2]), 0.0, 100.0)
    torch.testing.assert_close(small, torch.tensor([55.0, 60.0]))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mapping": "diferential"}, "Did you mean 'differential'"),
        ({"scale": "chanel"}, "Did you mean 'channel'"),
        ({"clamp": "windw"}, "Did you mean 'window'"),
        ({"g_min_us": 90.0}, "g_min_us=90.0 must be at least 0 and below g_max_us=88.199997"),
        ({"kappa": 0.0}, "kappa=0.0 must be above 0"),
        ({"range_fraction": 0.0}, r"range_fraction=0.0 must lie in \(0, 1\]"),
        ({"range_fraction": 1.5}, r"range_fraction=1.5 must lie in \(0, 1\]"),
        ({"drift_std_slope_us": -1.0}, "drift_std_slope_us=-1.0"),
        ({"stuck_on": 0.7, "stuck_off": 0.7}, "sum to at most 1"),
        ({"drift_mean_slop_us": 1.0}, "Did you mean 'drift_mean_slope_us'"),
        ({"g_max_us": "wide"}, "reram_cmo"),
    ],
)
def test_bad_parameters_are_refused_with_the_reason(overrides, message):
    with pytest.raises(UserError, match=message):
        load_hardware("reram_cmo", **overrides)


def test_unknown_device_names_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'reram_cmo'"):
        load_hardware("reram_cmos")
    with pytest.raises(UserError, match="no device file"):
        load_hardware("nowhere/mine.yaml")


def test_a_device_is_one_yaml_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("law: relative\ng_min_us: 2\ng_max_us: 5e1\nrelative_drift: 0.2\n")
    hardware = load_hardware(str(path), mapping="offset")
    device = hardware.device
    assert (device.name, device.g_max_us, device.relative_drift) == ("mine", 50.0, 0.2)
    assert hardware.encoding.mapping == "offset"
    path.write_text("law: relativ\n")
    with pytest.raises(UserError, match="Did you mean 'relative'"):
        load_hardware(str(path))
    path.write_text("law: relative\ng_min_us: 2\n")
    with pytest.raises(UserError, match="lacks the parameter 'g_max_us'"):
        load_hardware(str(path))
