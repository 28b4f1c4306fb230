# SPDX-License-Identifier: Apache-2.0
"""Fetch published ImageNet-1K weights and save them in our format.

    python3 scripts/download_weights.py                   # v1, torchvision's first
    python3 scripts/download_weights.py v2
    python3 scripts/download_weights.py keras 0.35 96     # the paper's authors': width, image size
    python3 scripts/download_weights.py timm 1.4          # width
    python3 scripts/download_weights.py --list

--list shows all of them with their published accuracies. The result is results/pretrained_models/NAME-<hash>.pth.tar;
<hash> are the first 8 digits of the SHA-256 of the published file: the name tells where the weights come from.
torchvision and timm put these digits into the names of their files, and they are compared here. For Keras' files no
hash is published: that of the file that came is shown and recorded, and compared when the file is met again. A file
that was fetched by hand, or that is in the cache of torchvision or Keras, is taken instead of a download.

The stored class names are those of ImageNet's folders, so that test.py refuses any others; the names that torchvision
publishes are beside them as class_labels.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
import contextlib
import signal
import tempfile
from pathlib import Path

from converting.format_files import require_package
from downloading.fetching import fetch, find_on_disk
from downloading.published import Published, published_table, published_weights
from downloading.records import find_written, write_published
from shared.command_line import REPOSITORY, OneLineParser, print_config_lines
from utils import user_errors

FOLDER = REPOSITORY / "results" / "pretrained_models"
CHOICES = "v1, v2, keras 0.35|0.5|0.75|1.0 96|128|160|192|224, keras 1.3|1.4 224, timm 0.5|1.0|1.4"


def main() -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", default=["v1"], help=f"{CHOICES} (default: v1)")
    parser.add_argument("--list", action="store_true", help="show all, fetch none")
    arguments = parser.parse_args()
    if arguments.list:
        print(published_table())
        return
    published = published_weights().get(as_listed(arguments.name))
    if published is None:
        parser.error(f"argument name: invalid choice: {' '.join(arguments.name)!r} (choose from {CHOICES})")
    target = find_written(published, FOLDER)
    if target is not None:
        print(f"{target}: there already, nothing to do.")
    else:
        target = make_target(published)
        print(f"{target}: written.")
    print_use(published, target)


def as_listed(words: list[str]) -> str:
    """A name as the list has it: widths with a point, "keras 1 224" and "keras 0.50 224" too."""
    words = [*words]
    with contextlib.suppress(ValueError, IndexError):
        words[1] = str(float(words[1]))
    return " ".join(words)


def make_target(published: Published) -> Path:
    """Write the published weights in our format. Raises: OSError and ValueError in words for users."""
    if published.file_name.endswith(".h5"):
        require_package(
            "h5py", Path(published.file_name), "HDF5, as Keras writes,"
        )  # before a download that nothing could read
    with tempfile.TemporaryDirectory() as folder:
        source = find_on_disk(published, FOLDER)
        if source is None:
            source = Path(folder, published.file_name)
            fetch(published, source, by_hand=FOLDER / published.file_name)
        return write_published(published, source, FOLDER)


def print_use(published: Published, target: Path) -> None:
    """Print the accuracy that was published, and the lines of config.py."""
    shown = [f"{value:.{published.digits}f} %" for value in (published.acc1, published.acc5)]
    print(f"Published accuracy: top-1 {shown[0]}, top-5 {shown[1]}.")
    if published.measured_with:
        print(f"It was measured with {published.measured_with}: it will find others.")
    if published.measured_again:
        print("Keras measured top-1 {:.3f} % and top-5 {:.3f} % with a centre crop.".format(*published.measured_again))
    path = f"./{target.relative_to(REPOSITORY)}" if target.is_relative_to(REPOSITORY) else str(target)
    scored = {
        "mode": "test",
        "dataset_name": "ImageNet_1K",
        "model_num_classes": 1000,
        "test_image_dir": "./data/ImageNet_1K/ILSVRC2012_img_val",
        "model_weights_path": path,
        "class_label_file": "./data/ImageNet_1K_labels_map.txt",
    }
    print_config_lines("to test or classify", published.use() | scored)
    print_config_lines("to fine-tune", published.use() | {"mode": "train", "pretrained_model_weights_path": path})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill cleans up like Ctrl-C
    with user_errors("download_weights.py: interrupted; nothing was left behind"):
        main()
