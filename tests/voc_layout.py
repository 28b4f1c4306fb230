# SPDX-License-Identifier: Apache-2.0
"""Small folders in the layout of Pascal VOC, written by hand."""

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
from PIL import Image

PALETTE = np.random.default_rng(0).integers(0, 256, 768).tolist()  # all 256: with fewer, Pillow stores fewer bits
Thing = tuple[str, Sequence[object]]  # class; xmin, ymin, xmax, ymax as VOC counts them


def object_xml(name: str, corners: Sequence[object], more: str = "<difficult>0</difficult>") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{escape(name)}</name>{more}<bndbox>{box}</bndbox></object>"


def annotation_xml(objects: Sequence[str], size: tuple[int, int] = (30, 40)) -> str:
    """Of an image of `size` (height, width); the names of folder and file lie, as those of many tools do."""
    height, width = size
    return (
        f"<annotation><folder>C:\\photos</folder><filename>../../etc/passwd</filename><path>/etc/passwd</path>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>{''.join(objects)}</annotation>"
    )


def random_image(seed: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """RGB, by the suffix of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))


def write_mask(path: Path, indices: np.ndarray) -> None:
    """A PNG with a palette, as those of Pascal VOC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(indices)
    picture.putpalette(PALETTE)
    picture.save(path)


def write_list(root: Path, names: Sequence[str], split: str = "train", kind: str = "Main") -> None:
    path = root / f"ImageSets/{kind}/{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def write_boxes(root: Path, images: dict[str, str], split: str = "train") -> Path:
    """Images with these annotations, which are XML; the images are PNG of 40 x 30 random pixels."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for seed, (name, xml) in enumerate(images.items()):
        write_image(root / f"JPEGImages/{name}.png", random_image(seed))
        (root / f"Annotations/{name}.xml").write_text(xml)
    write_list(root, list(images), split)
    return root


def write_masks(root: Path, masks: dict[str, np.ndarray], split: str = "train") -> Path:
    """Images with these masks."""
    for seed, (name, mask) in enumerate(masks.items()):
        write_image(root / f"JPEGImages/{name}.png", random_image(seed, mask.shape))
        write_mask(root / f"SegmentationClass/{name}.png", mask)
    write_list(root, list(masks), split, "Segmentation")
    return root
