# SPDX-License-Identifier: Apache-2.0
"""Which files are images by their names, and what to say of the others."""

import os
import re
from collections import Counter

from core.plurals import counted

IMAGE_SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jif", ".jpe", ".jpeg", ".jpg"),
    *(".png", ".tif", ".tiff", ".webp"),
)

MADE_BY_SYSTEMS = ("desktop.ini", "ehthumbs.db", "thumbs.db")  # beside photos, without anybody's doing
# What a file that is no image most often is, by its suffix, and what to do with it.
LEFT_OUT_ADVICE = {
    **dict.fromkeys(
        (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"),
        "camera raw: export as JPEG",
    ),
    **dict.fromkeys((".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm", ".wmv"), "video"),
    **dict.fromkeys((".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"), "archive: unpack it"),
    **dict.fromkeys((".crdownload", ".download", ".part", ".partial"), "unfinished download: get it again"),
    **dict.fromkeys(
        (
            *(".ai", ".dcm", ".eps", ".exr", ".hdr", ".ico", ".j2k", ".jp2", ".jxl", ".pbm", ".pcx", ".pdf"),
            *(".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".xcf"),
        ),
        "not read here: save as PNG or JPEG",
    ),
    "": "images need one, such as .jpg",
}
LEFT_OUT_KINDS = 6  # that a line names


def is_left_out(name: str) -> bool:
    """Whether a file is passed over although somebody may take it for an image: visible, and without their suffix."""
    lower = name.lower()
    return not lower.endswith(IMAGE_SUFFIXES) and not name.startswith(".") and lower not in MADE_BY_SYSTEMS


def kind_of_name(name: str) -> str:
    """What a file that is left out is counted as: its suffix in small letters, with that of an image before it."""
    stem, suffix = os.path.splitext(name.lower())
    before = os.path.splitext(stem)[1]
    suffix = before + suffix if before in IMAGE_SUFFIXES else suffix
    return suffix if re.fullmatch(r"[.\w~-]{2,20}", suffix) else ""  # a sentence with a dot in it has none


def describe_left_out(left_out: Counter[str]) -> str:
    """How many files were left out, by suffix, with what to do: "8 .cr2 (camera raw: export as JPEG), 2 .txt".

    left_out: counts by kind_of_name(), or by words for what is no suffix.
    """
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    parts = []
    for kind, count in kinds[:LEFT_OUT_KINDS]:
        advice = LEFT_OUT_ADVICE.get(kind and "." + kind.rpartition(".")[2])
        parts.append(f"{count:,} {kind or 'without a suffix'}" + (f" ({advice})" if advice else ""))
    if len(kinds) > LEFT_OUT_KINDS:
        rest = sum(count for _, count in kinds[LEFT_OUT_KINDS:])
        parts.append(f"{rest:,} of {counted(len(kinds) - LEFT_OUT_KINDS, 'other kind')}")
    return ", ".join(parts)
