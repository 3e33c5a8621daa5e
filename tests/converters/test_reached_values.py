"""A shape says what the image shows only behind an operator that counts, or whose size the image gives."""

from __future__ import annotations

import onnx
import pytest

from backscan.converters.graph import reached_values

HEAD = "g (float[N, 4] image, int64[1] one, int64[2] two, bool go) => (float[N, 4] scores)"

BY_IMAGE = {
    "NonZero": "sized = NonZero(image)",
    "Compress": "sign = Greater(image, image) sized = Compress <axis = 1> (image, sign)",
    "Unique": "sized = Unique(image)",
    "Range": "whole = Cast <to = 7> (image) sized = Range(one, whole, one)",
    "ConstantOfShape": "whole = Cast <to = 7> (image) sized = ConstantOfShape(whole)",
    "Expand": "whole = Cast <to = 7> (image) sized = Expand(one, whole)",
    "Tile": "whole = Cast <to = 7> (image) sized = Tile(image, whole)",
    "Pad": "whole = Cast <to = 7> (image) sized = Pad(image, whole)",
    "Slice": "whole = Cast <to = 7> (image) sized = Slice(image, one, whole)",
    "Resize": "sized = Resize(image, , , image)",
    "Reshape": "whole = Cast <to = 7> (image) sized = Reshape(image, whole)",
    "Split": "whole = Cast <to = 7> (image) other, sized = Split(image, whole)",
    "TopK": "whole = Cast <to = 7> (image) sized, other = TopK(image, whole)",
    "OneHot": "whole = Cast <to = 7> (image) sized = OneHot(one, whole, two)",
    "behind others": "found = NonZero(image) turned = Transpose(found) sized = Relu(turned)",
    "ReduceSum": "whole = Cast <to = 7> (image) sized = ReduceSum(image, whole)",
}
BY_SHAPE = {
    "itself": "sized = Relu(image)",
    "Expand": "sizes = Shape(image) sized = Expand(image, sizes)",
    "Range": "sizes = Shape(image) sized = Range(one, sizes, one)",
    "ConstantOfShape": (
        "sizes = Shape(image) ones = ConstantOfShape(sizes) found = NonZero(ones) sized = Add(found, image)"
    ),
    "Slice": "sizes = Shape(image) sized = Slice(image, one, sizes)",
    "Concat": "sized = Concat <axis = 0> (image, image)",
}


def reached(body: str) -> set[str]:
    return reached_values(onnx.parser.parse_graph(f"{HEAD} {{ {body} n = Shape(sized) m = Size(sized) }}"), ["image"])


@pytest.mark.parametrize("name", BY_IMAGE)
def test_shapes_that_the_image_decides_are_reached(name: str) -> None:
    assert {"n", "m"} <= reached(BY_IMAGE[name])


@pytest.mark.parametrize("name", BY_SHAPE)
def test_shapes_that_follow_from_the_shape_of_the_image_are_not(name: str) -> None:
    assert not {"n", "m"} & reached(BY_SHAPE[name])


def loop(goes_on: str) -> str:
    return (
        "sized, rows = Loop(one, go, one, image) <body = b (int64 i, bool before, int64 k, float[N, 4] x) => "
        f"(bool goes, int64 k2, float[N, 4] x2, float[N, 4] row) {{ k2 = Add(k, k) x2 = Relu(x) {goes_on} "
        "row = Relu(x2) }>"
    )


@pytest.mark.parametrize(
    ("goes_on", "expected"), [("goes = Less(k2, i)", False), ("s = ReduceMax(x2) goes = Less(s, s)", True)]
)
def test_loop_that_the_image_ends_gives_shapes_that_it_decides(goes_on: str, *, expected: bool) -> None:
    body = loop(goes_on).replace("sized, rows = Loop", "k3, x3, sized = Loop")
    assert ("n" in reached(body)) == expected
