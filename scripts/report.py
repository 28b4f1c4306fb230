# SPDX-License-Identifier: Apache-2.0
"""Write what test.py measured as one page to look at: python3 scripts/report.py, after python3 test.py.

Reads results/<exp_name>/predictions.csv and test.json, and samples/logs/<exp_name> if there is one; writes
results/<exp_name>/report.html, a file that needs no other and no network. docs/report.md says what it shows.
"""

from shared.command_line import check_environment

if __name__ == "__main__":
    check_environment()

import argparse
from pathlib import Path
from types import ModuleType

from core.atomic_files import write_atomically
from core.metrics import show_scores
from core.plurals import counted
from core.settings import check_config
from reporting.activation_maps import open_viewer
from reporting.curves import read_curves
from reporting.figures import calibrate, count_classes, top_hits, wilson_interval
from reporting.gallery import Gallery, choose, labels_that_look_wrong, mistakes_and_hits
from reporting.markup import Markup, page, paragraph
from reporting.measurements import Measurement, read_measurement
from reporting.pictures import Album, draw_pictures
from reporting.predictions import Predictions, read_predictions
from reporting.sections import accuracy_per_class, calibration, confusions, heading, training
from shared.command_line import OneLineParser, printable
from utils import setup_runtime, user_errors

SHOWN_LINES = 3  # of images that cannot be read


def main(config: ModuleType) -> None:
    check_config(config)
    setup_runtime(config.seed, "cpu")
    results, logs = Path("results", config.exp_name), Path("samples/logs", config.exp_name)
    predictions = read_predictions(results / "predictions.csv")
    measured = read_measurement(results / "test.json", predictions)
    choice = choose(predictions)
    viewer, no_maps = open_viewer(config, measured)
    album = draw_pictures(predictions, choice.all(), measured, viewer)
    curves = read_curves(logs)
    notes = [line for line in (no_maps, describe_unreadable(album), describe_differing(album, measured)) if line]
    gallery = Gallery(predictions, album, measured.image_size)
    report = page(
        f"Report of {config.exp_name}",
        heading(f"Report of {config.exp_name}", predictions, measured),
        *(paragraph(note, class_="note") for note in notes),
        accuracy_per_class(predictions),
        confusions(predictions),
        mistakes_and_hits(gallery, choice, describe_maps(album, no_maps)),
        calibration(predictions),
        labels_that_look_wrong(gallery, choice),
        training(curves, str(logs)),
    )
    for line in (*notes, *curves.troubles):
        print(printable(line))
    write(results / "report.html", report)
    labels, images = counted(choice.num_labels, "label looks", "labels look"), counted(len(predictions.files), "image")
    print(f" * {summarise(predictions)}, {labels} wrong ({images})")


def describe_unreadable(album: Album) -> str:
    """A line about images that have moved or are damaged; "" if there are none."""
    if not album.unreadable:
        return ""
    first = "; ".join(album.unreadable[:SHOWN_LINES])
    more = ", ..." if len(album.unreadable) > SHOWN_LINES else ""
    images = counted(len(album.pictures), "image")
    return f"{len(album.unreadable)} of the {images} to show cannot be read: {first}{more}"


def describe_differing(album: Album, measured: Measurement) -> str:
    """A line about images that the network answers otherwise than predictions.csv says; "" if there are none."""
    if not album.differing:
        return ""
    reason = "images or config.py have changed since; run `python3 test.py` again"
    if measured.precision != "float32":
        reason = f"test.py computed in {measured.precision}, the maps are computed in float32"
    images = counted(len(album.pictures), "image")
    get = counted(len(album.differing), f"of the {images} to show gets", f"of the {images} to show get")
    return (
        f"{get} another answer now than predictions.csv has, {album.differing[0]} first, and no activation map: "
        f"{reason}."
    )


def describe_maps(album: Album, no_maps: str) -> str:
    """What the second picture of a card is, or why there is none."""
    if no_maps or not album.map_side:
        return no_maps
    if album.map_side == 1:
        return "At this image size the last feature map has a single place, so there are no activation maps."
    return (
        "Beside it is the class activation map of the answer: yellow places speak for it the most, dark blue ones the "
        f"least, or against it. It has {album.map_side} x {album.map_side} places, and its mean is the logit exactly."
    )


def summarise(predictions: Predictions) -> str:
    """The figures in the form of test.py's last line."""
    num_images, hits = len(predictions.files), int(predictions.hits().sum())
    low, high = wilson_interval(hits, num_images)
    values = {"acc1": 100 * hits / num_images, "acc5": 100 * top_hits(predictions) / num_images}
    macro, error = 100 * count_classes(predictions).macro(), 100 * calibrate(predictions).expected_error()
    return (
        f"{show_scores(values, len(predictions.classes), 3)}, 95 % interval {100 * low:.1f} to {100 * high:.1f}, "
        f"macro {macro:.3f}, calibration error {error:.2f}"
    )


def write(path: Path, report: Markup) -> None:
    content = report.encode()
    write_atomically(path, lambda file: file.write(content))
    print(f"{path}: {len(content) / 1e6:.1f} MB; open it in a browser.")


if __name__ == "__main__":
    OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with user_errors("Interrupted; an earlier report stays."):
        import config

        main(config)
