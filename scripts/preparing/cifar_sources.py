# SPDX-License-Identifier: Apache-2.0
"""The readers for CIFAR-10 and CIFAR-100."""

import hashlib
import pickle
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from preparing.archives import Parts, read_whole
from preparing.sources import SPLITS, Sample, Source, encode_png, is_image, note_left_out, visible_files

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class CifarForm(NamedTuple):
    """What differs between CIFAR-10 and CIFAR-100."""

    name: str  # of torchvision's class, which knows the names and MD5 of the batches
    folder: str
    labels_key: str
    classes: Parts  # of a source that holds <any one folder>/train/<class>/<image> and .../valid/... instead

    def published(self) -> Any:
        """torchvision's class. Importing it takes seconds, which class folders need not wait for."""
        from torchvision import datasets

        return getattr(datasets, self.name)


def read_cifar10(source: Source) -> Iterator[Sample]:
    """Yield CIFAR-10 from its Python batches, or from class folders as they are. Raises: as read_cifar."""
    return read_cifar(source, CifarForm("CIFAR10", "cifar-10-batches-py", "labels", CIFAR10_CLASSES))


def read_cifar100(source: Source) -> Iterator[Sample]:
    """Yield CIFAR-100 with its 100 fine classes from its Python batches. Raises: as read_cifar."""
    return read_cifar(source, CifarForm("CIFAR100", "cifar-100-python", "fine_labels", ()))


def read_cifar(source: Source, form: CifarForm) -> Iterator[Sample]:
    """Yield 32 x 32 PNG files named after their place in the batches, counted from 0 in each split, or class folders.

    Raises: ValueError if the source holds neither or both, a batch that is not the published file, another class.
    """
    choice = f"of {form.folder}/{' and train/<class>/, valid/<class>/' if form.classes else ''}; name one with just one"
    batches: dict[str, bytes] = {}
    tops, left_out = set[str](), 0
    for parts, file in visible_files(source):
        is_batch = parts[-2:-1] == (form.folder,) and parts[-1] in batch_sums(form)
        is_in_class = bool(form.classes) and len(parts) >= 3 and parts[-3] in SPLITS and is_image(parts[-1])
        if (is_batch and tops) or (is_in_class and batches):
            raise ValueError(f"{source.path}: holds both {choice}")
        if is_batch:
            batches[parts[-1]] = read_whole(source.path, parts, file)
            check_batch(source, form, parts[-1], batches[parts[-1]])
        elif is_in_class:
            check_class_folder(source, parts, form.classes)
            tops.add("/".join(parts[:-3]))
            if len(tops) > 1:
                raise ValueError(
                    f"{source.path}: holds two datasets, {' and '.join(map(repr, sorted(tops)))}; name one"
                )
            split, class_name, name = parts[-3:]
            yield Sample(split, class_name, name, read_whole(source.path, parts, file))
        else:
            left_out += is_image(parts[-1])
    if not batches and not tops:
        raise ValueError(f"{source.path}: holds nothing {choice}")
    note_left_out(source, left_out, "outside train/<class>/ and valid/<class>/")
    if batches:
        for name in batch_sums(form):
            check_batch(source, form, name, batches.get(name, b""))
        yield from read_batches(batches, form)


def batch_sums(form: CifarForm) -> dict[str, str]:
    """The name and the published MD5 of each batch."""
    published = form.published()
    return dict([*published.train_list, *published.test_list, (published.meta["filename"], published.meta["md5"])])


def check_class_folder(source: Source, parts: Parts, classes: Parts) -> None:
    """Raise ValueError if the image <split>/<class>/<image> belongs to another dataset, before much is copied."""
    if parts[-2] not in classes:
        raise ValueError(
            f"{source.path}: {'/'.join(parts)!r}: no class of this dataset; those are {', '.join(classes)}"
        )


def check_batch(source: Source, form: CifarForm, name: str, data: bytes) -> None:
    """Raise ValueError if a batch is not the published file: it is a pickle, which can run code when it is read."""
    md5 = batch_sums(form)[name]
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(
            f"{source.path}: {form.folder}/{name} is missing or not the published file (MD5 {md5}); "
            f"get {form.published().url} again"
        )


def read_batches(batches: dict[str, bytes], form: CifarForm) -> Iterator[Sample]:
    """Yield the images of batches whose checksums were compared."""
    published = form.published()
    classes = pickle.loads(batches[published.meta["filename"]], encoding="latin1")[published.meta["key"]]
    for split, names in zip(SPLITS, (published.train_list, published.test_list), strict=True):
        place = 0
        for name, _ in names:
            batch = pickle.loads(batches[name], encoding="latin1")
            pixels = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # stored red, green, blue
            for image, label in zip(pixels, batch[form.labels_key], strict=True):
                yield Sample(split, classes[label], f"{place:05d}.png", encode_png(np.ascontiguousarray(image)))
                place += 1
