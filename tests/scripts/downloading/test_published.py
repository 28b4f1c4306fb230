# SPDX-License-Identifier: Apache-2.0
"""The table of published weights against what stands at the publishers."""

import math

import timm
from timm.models import efficientnet
from torchvision.models import MobileNet_V2_Weights

from downloading.published import CHECKPOINTS, MEASURED_BY_KERAS, published_table, published_weights

PUBLISHED = published_weights()


def test_authors_table_has_the_rows_of_their_readme() -> None:
    """Its first and last row, and the sums of its columns: MACs, parameters, top-1 and top-5 accuracy."""
    assert CHECKPOINTS[0] == (1.4, 224, 582, 6.06, 75.0, 92.5)
    assert CHECKPOINTS[-1] == (0.35, 96, 11, 1.66, 45.5, 70.4)
    sums = [math.fsum(column) for column in list(zip(*CHECKPOINTS, strict=True))[2:]]
    assert [round(value, 2) for value in sums] == [2929, 59.85, 1382.9, 1857.7]
    sizes = (224, 192, 160, 128, 96)
    wanted = [(1.4, 224), (1.3, 224), *((width, size) for width in (1.0, 0.75, 0.5, 0.35) for size in sizes)]
    assert [row[:2] for row in CHECKPOINTS] == wanted


def test_all_are_named_as_they_are_typed() -> None:
    keras = [f"keras {width} {size}" for width, size, *_ in CHECKPOINTS]
    assert list(PUBLISHED) == ["v1", "v2", *keras, "timm 0.5", "timm 1.0", "timm 1.4"]


def test_addresses_of_keras_are_those_of_its_package() -> None:
    """BASE_WEIGHT_PATH and model_name of keras/src/applications/mobilenet_v2.py, 3.15.1: float(alpha), then rows."""
    folder = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    assert PUBLISHED["keras 0.5 96"].url == f"{folder}{name}_0.5_96.h5"
    assert PUBLISHED["keras 1.0 224"].url == f"{folder}{name}_1.0_224.h5"
    assert PUBLISHED["keras 0.35 160"].file_name == f"{name}_0.35_160.h5"


def test_networks_of_keras_are_used_as_by_tensorflow() -> None:
    """epsilon=1e-3 and padding="same" there; preprocess_input() of mode "tf" maps 0..255 to -1..1."""
    for name, one in PUBLISHED.items():
        if name.startswith("keras"):
            assert (*one.definition, one.hash_start) == ("same", 1e-3, "")
            assert one.mean == one.std == (0.5, 0.5, 0.5)


def test_keras_own_figures_are_the_errors_of_its_readme() -> None:
    """MobileNetV2(alpha=...), top-1 and top-5 error, in the README of keras-team/keras-applications."""
    errors = {
        **{0.35: (39.914, 17.568), 0.5: (34.806, 13.938), 0.75: (30.468, 10.824)},
        **{1.0: (28.664, 9.858), 1.3: (25.320, 7.878), 1.4: (24.770, 7.578)},
    }
    found = {width: tuple(round(100 - acc, 3) for acc in pair) for width, pair in MEASURED_BY_KERAS.items()}
    assert found == errors


def test_registry_of_torchvision() -> None:
    """The names of its files hold their hashes."""
    v1, v2 = MobileNet_V2_Weights.IMAGENET1K_V1, MobileNet_V2_Weights.IMAGENET1K_V2
    assert (PUBLISHED["v1"].url, PUBLISHED["v1"].hash_start) == (v1.url, "b0353104")
    assert (PUBLISHED["v2"].url, PUBLISHED["v2"].hash_start) == (v2.url, "7ebf99e0")
    assert PUBLISHED["v1"].measured_with == ""
    assert "232 pixels, test.py has 256" in PUBLISHED["v2"].measured_with


def test_files_of_timm_are_those_of_its_registry() -> None:
    names = {"timm 0.5": "mobilenetv2_050.lamb_in1k"}
    names |= {"timm 1.0": "mobilenetv2_100.ra_in1k", "timm 1.4": "mobilenetv2_140.ra_in1k"}
    for name, theirs in names.items():
        one, registered = PUBLISHED[name], timm.get_pretrained_cfg(theirs)
        assert (one.url, one.mean, one.std) == (registered.url, registered.mean, registered.std)
        assert (one.image_size, one.width) == (registered.input_size[1], int(theirs[12:15]) / 100)
        assert (registered.crop_pct, registered.interpolation) == (0.875, "bicubic")
        assert one.hash_start == registered.url[-12:-4] and "bicubic" in one.measured_with


def test_timm_has_no_other_of_this_network() -> None:
    """The two that are not offered have more blocks than the paper's 17 in 7 stages."""
    named = {name for name in timm.list_pretrained("mobilenetv2*")}
    offered = {"mobilenetv2_050.lamb_in1k", "mobilenetv2_100.ra_in1k", "mobilenetv2_140.ra_in1k"}
    assert named - offered == {"mobilenetv2_110d.ra_in1k", "mobilenetv2_120d.ra_in1k"}
    for build, blocks in ((efficientnet.mobilenetv2_110d, 22), (efficientnet.mobilenetv2_100, 17)):
        assert sum(map(len, build().blocks)) == blocks


def test_table_shows_the_figures_as_they_are_published() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in published_table().splitlines()]
    assert len(rows) == 2 + 27 and len({len(line) for line in published_table().splitlines()}) == 1
    assert ["keras 0.35 96", "0.35", "96", "45.5", "70.4", "11 M", "1.66 M", "same", "Keras"] in rows
    assert ["timm 1.4", "1.4", "224", "76.520", "92.986", "582 M", "6.06 M", "symmetric", "timm"] in rows
