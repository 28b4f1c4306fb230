#!/usr/bin/env bash
# torchcodec darkens the transparent parts of an AVIF when it reads it as RGB, down to black; those of PNG and WebP not.
#
# Expected: mode="RGB", the default, leaves transparency out and keeps the colours, as for PNG and WebP, as in Pillow.
# Seen with torchcodec 0.17.0 on files by Pillow 13.0.0: decode_image() and decode_avif() multiply the colours of an
# AVIF by its opacity, as if it lay on black: (200, 100, 50) with an opacity of 128 of 255 comes out as (100, 50, 25).
# GRAY does so too, while GRAY_ALPHA and RGB_ALPHA give the colours as they are, so that two modes do not agree about
# the same grey. For PNG and WebP all modes keep the colours.
# Why it matters: cut-out objects that were converted from PNG or WebP to AVIF get darker edges, and black where there
# were colours; a network that was trained on the ones sees others in use, and no error tells.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    torchcodec==0.17.0 torch==2.15.0 pillow==13.0.0 numpy==2.4.6
PYTHONPATH="$folder" python3 - <<'PYTHON'
import importlib.metadata
import io

import numpy as np
from PIL import Image
from torchcodec.decoders import decode_avif, decode_image

OPACITY, COLOUR = [255, 128, 64, 0], [200, 100, 50]
KINDS = {
    "PNG": ("PNG", {}),
    "WebP": ("WEBP", {"lossless": True, "exact": True}),
    "AVIF": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
}
MODES = ("RGB", "RGB_ALPHA", "GRAY", "GRAY_ALPHA")

picture = np.zeros((16, 64, 4), np.uint8)  # one colour in four stripes of 16 columns
picture[..., :3], picture[..., 3] = COLOUR, np.repeat(OPACITY, 16)


def middles(pixels: np.ndarray) -> list[list[int]]:
    """The pixel in the middle of each stripe."""
    return pixels[8, 8::16].tolist()


versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torchcodec", "torch", "pillow")]
print(f"{', '.join(versions)}; {COLOUR} with opacities of {OPACITY}")
multiplied = [[round(level * opacity / 255) for level in COLOUR] for opacity in OPACITY]
grey = round(float(np.dot(COLOUR, [0.299, 0.587, 0.114])))
expected = {
    "RGB": [COLOUR] * 4,
    "RGB_ALPHA": [[*COLOUR, opacity] for opacity in OPACITY],
    "GRAY": [[grey]] * 4,
    "GRAY_ALPHA": [[grey, opacity] for opacity in OPACITY],
}
darkened = {**expected, "RGB": multiplied, "GRAY": [[round(grey * opacity / 255)] for opacity in OPACITY]}
for name, (kind, settings) in KINDS.items():
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, **settings)
    pillow = middles(np.asarray(Image.open(file).convert("RGB")))
    seen = {mode: middles(decode_image(file.getvalue(), mode=mode).permute(1, 2, 0).numpy()) for mode in MODES}
    print(f"{name}, Pillow's RGB: {pillow}")
    for mode, pixels in seen.items():
        print(f"  {mode}: {pixels}")
        right = (darkened if name == "AVIF" else expected)[mode]
        assert np.abs(np.subtract(pixels, right)).max() <= 1, "the behaviour has changed"
    assert pillow == expected["RGB"], "the behaviour has changed"
    default = middles(decode_image(file.getvalue()).permute(1, 2, 0).numpy())
    assert default == seen["RGB"], "the behaviour has changed"
    if name == "AVIF":
        direct = middles(decode_avif(file.getvalue()).permute(1, 2, 0).numpy())
        assert direct == seen["RGB"], "the behaviour has changed"
PYTHON
