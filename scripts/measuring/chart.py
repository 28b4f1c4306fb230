# SPDX-License-Identifier: Apache-2.0
"""The table of docs/speed.md and the picture of README.md, both from the measurements in docs/speed.json.

    python3 scripts/measuring/chart.py

prints the table and draws figure/speed.png. To bring new measurements in, edit docs/speed.json, run this, and put the
table into docs/speed.md; a test compares all three.
"""

import hashlib
import json
import re
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

REPOSITORY = Path(__file__).resolve().parents[2]
MEASUREMENTS = REPOSITORY / "docs/speed.json"
PICTURE = REPOSITORY / "figure/speed.png"
TITLE = "How many times as fast as torchvision (the black line), on two CPU cores"
# In pixels; shown at half of that, so that it is sharp on every screen.
WIDTH, MARGIN, GROUP_HEIGHT, BAR_HEIGHT, TEXT_SIZE = 1600, 40, 60, 40, 28
BARS_LEFT, PER_TIMES = 380, 60
PAPER, INK, RANGE, BAR = "#ffffff", "#1f2328", "#57606a", "#e8833a"


def main() -> None:
    rows = read_measurements()
    print(speed_table(rows))
    recorded = PngInfo()
    recorded.add_text("measurements", fingerprint())
    draw_chart(rows).quantize(32).save(PICTURE, pnginfo=recorded, optimize=True)


def read_measurements() -> list[dict[str, str]]:
    """The rows of the table in order; those with a group and a bar are in the picture too."""
    return json.loads(MEASUREMENTS.read_text())


def fingerprint() -> str:
    """Of the measurements: the picture holds that of those it shows."""
    return hashlib.sha256(MEASUREMENTS.read_bytes()).hexdigest()


def speed_table(rows: list[dict[str, str]]) -> str:
    """All rows in Markdown."""
    lines = ["| what, on the CPU | baseline | here | ratio |", "|---|---:|---:|---|"]
    for row in rows:
        lines.append("|" + "|".join(f" {row[key]} ".replace("  ", " ") for key in WRITTEN) + "|")
    return "\n".join(lines)


WRITTEN = ("what", "baseline", "here", "ratio")


def draw_chart(rows: list[dict[str, str]]) -> Image.Image:
    """One bar a row that has one, under the title of its group; a thin line from the lowest to the highest ratio."""
    shown = [row for row in rows if "bar" in row]
    groups = [(name, list(members)) for name, members in groupby(shown, key=lambda row: row["group"])]
    top = 2 * MARGIN + TEXT_SIZE
    height = top + GROUP_HEIGHT * len(groups) + BAR_HEIGHT * len(shown) + MARGIN
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    canvas = ImageDraw.Draw(picture)
    canvas.text((MARGIN, MARGIN), TITLE, INK, ImageFont.load_default(TEXT_SIZE + 8))
    for name, members in groups:
        canvas.text((MARGIN, top + GROUP_HEIGHT - 14), name, INK, ImageFont.load_default(TEXT_SIZE), anchor="ls")
        top += GROUP_HEIGHT
        for row in members:
            draw_bar(canvas, top, row)
            top += BAR_HEIGHT
    return picture


def draw_bar(canvas: ImageDraw.ImageDraw, top: int, row: dict[str, str]) -> None:
    figures = re.findall(r"[\d.]+", row["ratio"])
    ratio, lowest, highest = map(float, figures)
    middle, font = top + BAR_HEIGHT // 2, ImageFont.load_default(TEXT_SIZE - 2)
    canvas.text((BARS_LEFT - 16, middle), row["bar"], INK, font, anchor="rm")
    canvas.rectangle((BARS_LEFT, top + 6, BARS_LEFT + ratio * PER_TIMES, top + BAR_HEIGHT - 6), BAR)
    canvas.rectangle((BARS_LEFT + PER_TIMES - 1, top, BARS_LEFT + PER_TIMES + 1, top + BAR_HEIGHT), INK)  # torchvision
    canvas.line((BARS_LEFT + lowest * PER_TIMES, middle, BARS_LEFT + highest * PER_TIMES, middle), RANGE, 3)
    canvas.text((BARS_LEFT + max(ratio, highest) * PER_TIMES + 12, middle), figures[0], INK, font, anchor="lm")


if __name__ == "__main__":
    main()
