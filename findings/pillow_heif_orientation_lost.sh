#!/usr/bin/env bash
# pillow-heif loses the camera orientation, or turns the picture upside down, depending on how it is handed over.
#
# Expected: a HEIC of a picture with EXIF orientation 6 shows what the JPEG of it shows, however it was written.
# Seen with pillow-heif 1.8.1 and Pillow 13.0.0:
# - image.save(file, "HEIF", exif=BYTES) is right: the file turns the picture;
# - image.save(file, "HEIF", exif=an Image.Exif) writes a picture on its side, of which nothing in the file tells;
# - pillow_heif.from_pillow(jpeg).save(file) turns it by 180 degrees where 6 and 8 ask for 90, and drops 2 to 5 and 7.
# Read back, the tag is 1 in all cases, so nobody can tell which pictures are wrong.
# Why it matters: a folder of phone photos converted this way trains on pictures that lie on their side.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    pillow-heif==1.8.1 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import io

import numpy as np
import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
COLOURS = {"red": (250, 20, 20), "green": (20, 250, 20), "blue": (20, 20, 250), "yellow": (240, 240, 20)}
pixels = np.zeros((64, 96, 3), np.uint8)
for place, colour in enumerate(COLOURS.values()):
    pixels[place // 2 * 32 :, place % 2 * 48 :][:32, :48] = colour
picture = Image.fromarray(pixels)


def corners(image: Image.Image) -> list[str]:
    """The colours of the four quarters, as they are shown."""
    shown = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    height, width = shown.shape[:2]
    places = [(y, x) for y in (8, height - 8) for x in (8, width - 8)]
    return [min(COLOURS, key=lambda name: abs(shown[place] - COLOURS[name]).sum()) for place in places]


def shown_by(write, orientation: int) -> list[str]:
    file = io.BytesIO()
    write(file, orientation)
    return corners(Image.open(file))


def tag(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def jpeg(file: io.BytesIO, orientation: int) -> None:
    picture.save(file, "JPEG", exif=tag(orientation), quality=95)


def heif_by_bytes(file: io.BytesIO, orientation: int) -> None:
    picture.save(file, "HEIF", exif=tag(orientation).tobytes())


def heif_by_object(file: io.BytesIO, orientation: int) -> None:
    picture.save(file, "HEIF", exif=tag(orientation))


def heif_from_pillow(file: io.BytesIO, orientation: int) -> None:
    source = io.BytesIO()
    jpeg(source, orientation)
    pillow_heif.from_pillow(Image.open(source)).save(file)


right = {orientation: shown_by(jpeg, orientation) for orientation in range(1, 9)}
wrong = {
    write.__name__: [o for o in range(1, 9) if shown_by(write, o) != right[o]]
    for write in (heif_by_bytes, heif_by_object, heif_from_pillow)
}
print(f"pillow-heif {pillow_heif.__version__}, orientations that are shown wrong: {wrong}")
print(f"from_pillow(), orientation 6: {shown_by(heif_from_pillow, 6)}, as JPEG {right[6]}, as stored {right[1]}")
lost = list(range(2, 9))
assert wrong == {"heif_by_bytes": [], "heif_by_object": lost, "heif_from_pillow": lost}, "the behaviour has changed"
assert shown_by(heif_from_pillow, 6) == right[3], "the behaviour has changed"  # 3: turned by 180 degrees
PYTHON
