# SPDX-License-Identifier: Apache-2.0
"""How many images and bytes each class of a split has."""

import os
from pathlib import Path

from preparing.sources import is_image

SplitInventory = dict[str, tuple[int, int]]  # class -> (images, bytes)
Inventory = dict[str, SplitInventory]  # split -> its classes


def count_images(split_folder: Path) -> SplitInventory:
    """Count the images of each class folder, those of the folders inside it among them; none if it is not there."""
    inventory: SplitInventory = {}
    if not split_folder.is_dir():
        return inventory
    for class_folder in sorted(path for path in split_folder.iterdir() if path.is_dir() and path.name[0] != "."):
        sizes = image_sizes(class_folder)
        inventory[class_folder.name] = len(sizes), sum(sizes)
    return inventory


def image_sizes(top: Path) -> list[int]:
    """The bytes of each image below a folder that is not hidden."""
    sizes = []
    for folder, subfolders, files in os.walk(top, followlinks=True):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        names = [name for name in files if is_image(name) and not name.startswith(".")]
        sizes += [os.stat(os.path.join(folder, name)).st_size for name in names]
    return sizes


def summarize(inventory: SplitInventory) -> dict[str, int]:
    """What the record says of a split."""
    images, size = (sum(column) for column in zip((0, 0), *inventory.values(), strict=True))
    return {"classes": len(inventory), "images": images, "bytes": size}


def print_table(inventory: Inventory) -> None:
    """One line per split; the last two columns name a class and its number of images."""
    print(f"\n{'split':<6}{'classes':>8}{'images':>10}{'bytes':>17}  {'smallest class':<24}largest class")
    for split, classes in inventory.items():
        sums = summarize(classes)
        smallest, largest = (choose(classes, key=lambda name: classes[name][0]) for choose in (min, max))
        ends = [f"{name} ({classes[name][0]:,})" for name in (smallest, largest)]
        print(f"{split:<6}{sums['classes']:>8}{sums['images']:>10,}{sums['bytes']:>17,}  {ends[0]:<24}{ends[1]}")
