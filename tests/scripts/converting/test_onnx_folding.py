# SPDX-License-Identifier: Apache-2.0
"""What the nodes of ONNX files make of constants and of the sizes of maps, beside what onnx itself computes."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from graph_running import kinds_of, only
from onnx_models import check_results, error_of, graph_of, model_of, numbers

PADS = {  # of maps of 9 x 8 pixels: the version of the operations, nodes that work out `pads`, and those
    "of a list of rows from its end": (
        17,
        "s = ConstantOfShape <value = int64[1] {0}> (four) j = Concat <axis=0> (i, s) r = Reshape(j, pairs)"
        " v = Slice(r, last, before, zero, last) t = Transpose <perm=[1,0]> (v) pads = Reshape(t, last)",
        (3, 4, 1, 2),  # of i = [1, 2, 3, 4]: left, right, top, bottom
    ),
    "the remainder of the height": (
        17,
        "s = Shape(x) h = Gather(s, two) r = Mod(h, two) u = Unsqueeze(r, zero)"
        " z = Constant <value_ints=[0,0,0]> () pads = Concat <axis=0> (z, u, z, u)",
        (0, 0, 1, 1),
    ),
    "of a part of the shape": (
        17,
        "s = Shape(x) h = Slice(s, two1, three1) z = ConstantOfShape <value = int64[1] {0}> (two1)"
        " n = Constant <value_ints=[-7]> () e = Add(h, n) o = Constant <value_ints=[0]> ()"
        " pads = Concat <axis=-1> (z, e, o, z, o, e)",
        (2, 0, 0, 2),
    ),
    "rounded up and down, as timm does": (
        13,
        "s = Shape(x) h = Gather(s, two) f = Cast <to=1> (h) g = Cast <to=1> (two) q = Div(f, g) c = Ceil(q)"
        " d = Floor(q) e = Sub(c, d) l = Clip(e, e) m = Mul(l, g) n = Cast <to=7> (m) u = Unsqueeze(n, zero)"
        " z = Constant <value_ints=[0,0]> () v = Constant <value_ints=[0,0,0,0,0]> ()"
        " pads = Concat <axis=0> (z, u, v)",
        (2, 0, 0, 0),
    ),
    "division of integers, toward 0": (
        17,
        "n = Constant <value_int=-3> () o = Div(n, two) k = Sub(two, o) u = Unsqueeze(k, zero)"
        " z = Constant <value_ints=[0,0]> () v = Constant <value_ints=[0,0,0,0,0]> () pads = Concat <axis=0> (z, u, v)",
        (3, 0, 0, 0),
    ),
}


@pytest.mark.parametrize(("opset", "body", "padding"), PADS.values(), ids=PADS.keys())
def test_a_padding_is_worked_out_as_onnx_says(
    opset: int, body: str, padding: tuple[int, int, int, int], tmp_path: Path
) -> None:
    constants = {"i": np.array([1, 2, 3, 4]), "four": np.array([4]), "pairs": np.array([-1, 2]), "two": np.int64(2)}
    constants |= {"last": np.array([-1]), "before": np.array([-(2**63) + 1]), "zero": np.array([0])}
    constants |= {"two1": np.array([2]), "three1": np.array([3])}
    model = model_of(f"{body} y = Pad(x, pads)", constants, "1,3,9,8", opset=opset)
    graph = graph_of(model, tmp_path)
    assert kinds_of(graph) == ["pad"]
    assert only(graph, "pad").settings["padding"] == padding
    check_results(model, graph, numbers(1, 3, 9, 8, seed=2))


def test_places_in_a_list_as_versions_below_10_write_them(tmp_path: Path) -> None:
    body = "m = Slice <starts=[1], ends=[9]> (i) y = Mul(x, m)"
    model = model_of(body, {"i": np.float32([[1, 2], [3, 4]])}, "1,3,9,2", opset=9)
    assert kinds_of(graph_of(model, tmp_path)) == ["other"]  # of columns
    body = "m = Slice <axes=[0], starts=[1], ends=[2]> (i) y = Mul(x, m)"
    model = model_of(body, {"i": np.float32([1, 7, 3])}, opset=9)
    assert only(graph_of(model, tmp_path), "scale").tensors["factor"].tolist() == [7]


def test_a_padding_for_images_of_any_size_is_refused_in_words(tmp_path: Path) -> None:
    body = """
        s = Shape(x) h = Gather(s, two) r = Mod(h, two) u = Unsqueeze(r, zero) z = ConstantOfShape(seven)
        pads = Concat <axis=0> (u, z) y = Pad(x, pads)
    """
    constants = {"two": np.int64(2), "zero": np.array([0]), "seven": np.array([7])}
    line = error_of(model_of(body, constants, "1,3,H,W", opset=17), tmp_path)
    assert line == "its padding is worked out from the size of the image when it runs; export it with a fixed size"


HOSTILE = {
    "long": "c = ConstantOfShape <value = int64[1] {1}> (long)",
    "longer": "c = ConstantOfShape <value = int64[1] {1}> (longer)",
    "beyond all counts": "c = ConstantOfShape(beyond)",
    "below 0": "c = ConstantOfShape(below)",
    "a table of sums": "c = Add(row, column)",
    "a list many times": "c = Concat <axis=0> (" + ", ".join(["row"] * 3000) + ")",
    "a number many times": "c = Gather(row, row)",
    "division by 0": "n = Constant <value_int=0> () c = Div(row, n)",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_worked_out_takes_little_memory(body: str, tmp_path: Path) -> None:
    constants = {"long": np.array([2**27]), "longer": np.array([2**20, 2**18]), "beyond": np.array([2**62] * 2)}
    constants |= {"below": np.array([-4]), "row": np.arange(20_000), "column": np.arange(20_000).reshape(-1, 1)}
    model = model_of(f"{body} y = Clip(x, c)", {name: constants[name] for name in constants if name in body})
    tracemalloc.start()
    try:
        assert set(kinds_of(graph_of(model, tmp_path))) == {"other"}
    except ValueError as error:
        assert str(error).isprintable()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000
