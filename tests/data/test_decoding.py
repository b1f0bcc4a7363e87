"""Images that are not 8-bit RGB, as microscopes, scanners and telephones write them."""

import io

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from hwaware.data.decoding import to_rgb
from hwaware.data.sources import open_source
from hwaware.errors import UserError

RAMP = np.linspace(0, 1, 12).reshape(3, 4)  # black … white


def stored(image, kind="png", **options):
    """As it comes back from a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def sixteen(share=RAMP, most=65535):
    return Image.fromarray(np.round(most * share).astype(np.uint16))


def grey(image):
    """The decoded image, whose channels must be alike."""
    pixels = np.asarray(to_rgb(image))
    assert pixels.dtype == np.uint8 and pixels.shape == (*RAMP.shape, 3)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def pgm(most):
    values = np.round(most * RAMP).astype(">u2" if most > 255 else np.uint8)
    return Image.open(io.BytesIO(b"P5 4 3 %d\n" % most + values.tobytes()))


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(lambda: stored(sixteen()), id="16-bit grey PNG"),
        pytest.param(lambda: stored(sixteen(), "tiff"), id="16-bit grey TIFF"),
        pytest.param(lambda: stored(sixteen(1 - RAMP), "tiff", tiffinfo={262: 0}), id="16-bit TIFF, white is zero"),
        pytest.param(lambda: pgm(65535), id="16-bit PGM"),
        pytest.param(lambda: pgm(4095), id="12-bit PGM"),
        pytest.param(lambda: pgm(255), id="8-bit PGM"),
        pytest.param(lambda: stored(Image.fromarray(RAMP.astype(np.float32)), "tiff"), id="float TIFF"),
        pytest.param(sixteen, id="an array of 16 bits"),
        pytest.param(lambda: stored(Image.fromarray(np.round(255 * RAMP).astype(np.uint8))), id="8-bit grey PNG"),
    ],
)
def test_grey_is_scaled_by_what_its_type_can_hold(image):
    assert np.abs(grey(image()).astype(float) - 255 * RAMP).max() <= 0.51


def test_a_tiff_file_of_twelve_bits_is_scaled_by_them():
    values = np.round(4095 * RAMP).astype(int).ravel()
    packed = bytearray()  # two values in three bytes
    for first, second in zip(values[::2], values[1::2], strict=True):
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    tags = {256: 4, 257: 3, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: 3, 279: len(packed)}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(
        number.to_bytes(2, "little") + b"\x04\x00" + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for number, value in tags.items()
    )
    head = b"II*\x00" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little") + entries + b"\0\0\0\0"
    image = Image.open(io.BytesIO(head + bytes(packed)))
    assert image.mode == "I;16"
    assert np.abs(grey(image).astype(float) - 255 * RAMP).max() <= 0.51


def test_colours_are_kept_in_palettes_with_alpha_and_in_cmyk():
    rng = np.random.RandomState(0)
    rgb = Image.fromarray(rng.randint(0, 256, (3, 4, 3)).astype(np.uint8))
    palette = stored(rgb.quantize(12))
    assert palette.mode == "P"
    assert np.abs(np.asarray(to_rgb(palette)).astype(int) - np.asarray(rgb)).max() <= 8
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(rng.randint(0, 256, (3, 4)).astype(np.uint8)))
    assert (np.asarray(to_rgb(stored(alpha))) == np.asarray(rgb)).all()  # transparency is left out
    with_alpha = stored(Image.merge("LA", [rgb.convert("L"), Image.new("L", (4, 3), 7)]))
    assert with_alpha.mode == "LA" and (grey(with_alpha) == np.asarray(rgb.convert("L"))).all()
    printed = stored(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "jpeg", quality=95)
    assert printed.mode == "CMYK"
    assert np.abs(np.asarray(to_rgb(printed)).astype(int) - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_a_photograph_is_turned_upright_once(kind):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:, :16] = 255  # left half white
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its side: turn by 90° clockwise
    photograph = stored(Image.fromarray(np.rot90(upright).copy()), kind, exif=exif)
    assert np.abs(np.asarray(to_rgb(photograph)).astype(int) - upright).max() <= 8


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0, 300.0]], dtype=np.float32), r"'F' has values from 0 to 300; floats must lie in \[0, 1\]"),
        (np.array([[0, np.nan]], dtype=np.float32), r"'F' has values from nan"),
        (np.array([[0, 4000]], dtype=np.int32), "signed numbers"),
    ],
)
def test_what_does_not_say_what_is_white_is_refused(tmp_path, values, reason):
    for name in ("ant", "bee"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "test" / name / "one.tif")
    images = open_source(None, str(tmp_path)).splits["test"]()
    with pytest.raises(UserError, match=f"ant/one.tif: .*{reason}"):
        images.rgb(0)
    with pytest.raises(ValueError, match="mode 'I' does not say which value is white"):
        to_rgb(Image.fromarray(np.array([[0, 4000]], dtype=np.int32)))


@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_folders_and_parquet_files_alike(tmp_path, kind):
    file = io.BytesIO()
    sixteen().save(file, "png")
    if kind == "folder":
        for name in ("ant", "bee"):
            (tmp_path / "test" / name).mkdir(parents=True)
            (tmp_path / "test" / name / "0.png").write_bytes(file.getvalue())
    else:
        images = [{"bytes": file.getvalue(), "path": None}] * 2
        Dataset.from_dict({"image": images, "label": [0, 1]}).to_parquet(tmp_path / "test.parquet")
    decoded = np.asarray(open_source(kind, str(tmp_path)).splits["test"]().rgb(1))
    assert np.abs(decoded[..., 0] - 255 * RAMP).max() <= 0.51
