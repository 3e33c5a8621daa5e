"""Data as people have it: parts above the classes, tables of labels, class files, endings, parquet."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backscan.converters.sandbox.runner import InProcess
from backscan.scanner.errors import CleanSetError
from backscan.scanner.images import passed_over
from backscan.scanner.images.class_tables import folded, read_tables
from backscan.scanner.images.cleanset import CleanSet

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode without a child: `test_decoding` has that."""
    monkeypatch.setattr("backscan.converters.sandbox.sandbox.Sandbox", InProcess)


def picture(path: Path, grey: int, **options: Any) -> Path:
    """A picture of one grey, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(path, **options)
    return path


def classes(root: Path, names: tuple[str, ...] = CLASSES, each: int = 2, first: int = 0) -> Path:
    for number, name in enumerate(names):
        for index in range(each):
            picture(root / name / f"{index}.png", first + 10 * number + index)
    return root


def greys(clean: CleanSet) -> list[int]:
    return np.round(clean.images[:, 0, 0, 0] * 255).astype(int).tolist()


def labels(clean: CleanSet) -> list[int]:
    assert clean.labels is not None
    return clean.labels.tolist()


@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        (("train", "val"), "val"),
        (("train", "test"), "test"),
        (("Train", "Validation", "Test"), "Validation"),
        (("train",), "train"),
        (("training_set", "test_set"), "test_set"),
        (("train2017", "val2017"), "val2017"),
        (("Train Images", "ValImages"), "ValImages"),
        (("trainset", "testset"), "testset"),
    ],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, parts: tuple[str, ...], taken: str) -> None:
    for number, part in enumerate(parts):
        classes(tmp_path / part, first=100 * number)
    clean = CleanSet.load(tmp_path)
    first = 100 * parts.index(taken)
    assert labels(clean) == [0, 0, 1, 1]
    assert greys(clean) == [first, first + 1, first + 10, first + 11]
    assert dict(clean.class_names) == {0: "cat", 1: "dog"}
    if len(parts) > 1:
        assert f"the images of {taken}/ were taken, and {4 * (len(parts) - 1)} files of" in clean.warnings[0]
    else:
        assert not any("taken" in text for text in clean.warnings)


def test_a_part_without_classes_is_not_taken_where_another_has_them(tmp_path: Path) -> None:
    classes(tmp_path / "train")
    picture(tmp_path / "test" / "a.png", 200)
    clean = CleanSet.load(tmp_path)
    assert labels(clean) == [0, 0, 1, 1]
    assert "the images of train/ were taken, and 1 file of test/ passed over" in clean.warnings[0]


@pytest.mark.parametrize("names", [("test", "train"), ("train", "bus"), ("dev", "val")])
def test_classes_may_be_called_like_parts(tmp_path: Path, names: tuple[str, ...]) -> None:
    clean = CleanSet.load(classes(tmp_path, names))
    assert labels(clean) == [0, 0, 1, 1]
    assert set(clean.class_names.values()) == set(names)


@pytest.mark.parametrize("above", ["data", "dogs_and_cats"])
def test_a_folder_above_the_parts_is_no_class(tmp_path: Path, above: str) -> None:
    classes(tmp_path / above / "train", first=100)
    classes(tmp_path / above / "test")
    (tmp_path / above / "annotations" / "old").mkdir(parents=True)
    clean = CleanSet.load(tmp_path)
    assert greys(clean) == [0, 1, 10, 11]
    assert labels(clean) == [0, 0, 1, 1]


def test_a_folder_of_images_above_the_classes_is_no_class_and_a_class_in_two_parts_is_one(tmp_path: Path) -> None:
    assert labels(CleanSet.load(classes(tmp_path / "a" / "images").parent)) == [0, 0, 1, 1]
    assert labels(CleanSet.load(classes(tmp_path / "b" / "cat", ("first", "second")).parent)) == [0, 0, 0, 0]


TABLES = {
    "labels.csv": "file_name,label\na.png,1\nsub/b.png,0\nc.png,1\n",
    "labels.tsv": "image\tclass_id\na.png\t1\nsub/b.png\t0\nc.png\t1\n",
    "metadata.csv": "x,file,target\n9,a.png,1.0\n9,./sub/b.png,0.0\n9,c.png,1.0\n",
    "annotations.csv": "id;category\na;1\nb;0\nc;1\n",
    "given_elsewhere.csv": "path,label\n/home/me/a.png,1\n/home/me/b.png,0\nother/c.png,1\n",
    "labels.jsonl": "".join(
        json.dumps({"file_name": f, "label": n}) + "\n" for f, n in (("a.png", 1), ("b.png", 0), ("c.png", 1))
    ),
    "given.csv": "a.png,1\nsub\\b.png,0\nc.png,1\n",
}


def flat(root: Path) -> Path:
    for name, grey in (("a.png", 1), ("sub/b.png", 2), ("c.png", 3)):
        picture(root / name, grey)
    return root


@pytest.mark.parametrize("name", TABLES)
def test_a_table_gives_each_picture_its_label(tmp_path: Path, name: str) -> None:
    root = flat(tmp_path / "data")
    found = not name.startswith("given")
    table = (root if found else tmp_path) / name
    table.write_text(TABLES[name], encoding="utf-8-sig")
    clean = CleanSet.load(root, labels=None if found else table)
    assert (labels(clean), greys(clean)) == ([0, 1, 1], [2, 1, 3])
    assert clean.warnings == ((f"labels from {name}",) if found else ())


def test_names_in_a_table_are_numbered_as_folders_are(tmp_path: Path) -> None:
    root = flat(tmp_path / "data")
    table = tmp_path / "t.csv"
    table.write_text("file,label\na.png,Dog\nb.png,cat\nc.png,Dog\n")
    clean = CleanSet.load(root, labels=table)
    assert labels(clean) == [0, 0, 1]
    assert dict(clean.class_names) == {0: "Dog", 1: "cat"}
    assert "class numbers follow the sorted labels of t.csv (Dog = 0, cat = 1)" in clean.warnings[0]
    assert labels(CleanSet.load(root, labels=table, class_names=["bird", "cat", "dog"])) == [1, 2, 2]


def test_what_a_table_lacks_and_what_the_folder_lacks_is_counted(tmp_path: Path) -> None:
    root = flat(tmp_path / "data")
    (root / "labels.csv").write_text("file,label\na.png,0\nc.png,1\nd.png,1\ne.png,0\n")
    warnings = CleanSet.load(root).warnings
    assert "1 images without a label in labels.csv were passed over" in warnings
    assert "2 files that labels.csv names were not found" in warnings


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "file,label\nx.png,0\n", "found none of them in t.csv"),
        ("t.csv", "file,label\na.png,0\na.png,1\n", "found '0' and '1' for a.png"),
        ("t.csv", "file,label\na.png\n", "a short row 2"),
        ("t.jsonl", "{", "expected JSON in line 1"),
        ("t.jsonl", "3", "expected an object"),
        ("t.jsonl", '{"file": "a.png"}', "expected a file .* in line 1"),
        (
            "t.csv",
            "one,two,three\n1,2,3\n",
            "expected class folders in data for --labels, found none, and no files and labels in t.csv: ",
        ),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    root = flat(tmp_path / "data")
    Path(root / "sub" / "b.png").rename(root / "b.png")
    (root / "sub").rmdir()
    (tmp_path / name).write_text(content)
    with pytest.raises(CleanSetError, match=words):
        CleanSet.load(root, labels=tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.jsonl", '{"file_name": "cat/0.png", "text": "a cat"}\n'),
        ("labels.csv", "id,label\n0,5\n1,6\n"),
        ("metadata.csv", "file,label\nelsewhere.png,1\n"),
        ("annotations.csv", "file,label\ncat/0.png,1\ncat/0.png,2\n"),
    ],
)
def test_a_table_of_something_else_does_not_label_class_folders(tmp_path: Path, name: str, content: str) -> None:
    root = classes(tmp_path)
    (root / name).write_text(content)
    clean = CleanSet.load(root)
    assert labels(clean) == [0, 0, 1, 1]
    assert clean.warnings[-1] == f"1 {Path(name).suffix} file passed over"


def test_a_name_of_several_files_labels_none_of_them(tmp_path: Path) -> None:
    root = classes(tmp_path / "data")
    (tmp_path / "t.csv").write_text("file,label\n0.png,4\ncat/1.png,2\n")
    clean = CleanSet.load(root, labels=tmp_path / "t.csv")
    assert labels(clean) == [2]
    assert "3 images without a label in t.csv were passed over" in clean.warnings


SYNSETS = ("n01440764", "n02102040")
INDEX = {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], "2": ["n02102040", "springer"]}
CLASS_FILES = {
    "imagenet_class_index.json": json.dumps(INDEX),
    "synset_words.txt": "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn02102040 English springer\n",
    "LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn02102040 springer\n",
    "classes.json": json.dumps(["n01440764", "n01443537", "n02102040"]),
    "class_to_idx.json": json.dumps({"n01440764": 0, "n01443537": 1, "n02102040": 2}),
    "classes.txt": "n01440764,0\nn01443537,1\nn02102040,2\n",
    "labels.txt": "0 n01440764\n1 n01443537\n2 n02102040\n",
}


@pytest.mark.parametrize("name", CLASS_FILES)
def test_class_files_number_synset_folders(tmp_path: Path, name: str) -> None:
    root = classes(tmp_path / "data", SYNSETS)
    (tmp_path / name).write_text(CLASS_FILES[name])
    given = CleanSet.load(root, labels=tmp_path / name)
    assert labels(given) == [0, 0, 2, 2]
    assert given.warnings == ()
    (root / name).write_text(CLASS_FILES[name])
    found = CleanSet.load(root)
    assert labels(found) == [0, 0, 2, 2]
    assert found.warnings == (f"class numbers from {name}",)


def test_a_class_file_above_the_parts_is_found_and_another_text_is_not_taken_for_one(tmp_path: Path) -> None:
    classes(tmp_path / "val", SYNSETS)
    (tmp_path / "imagenet_class_index.json").write_text(CLASS_FILES["imagenet_class_index.json"])
    assert labels(CleanSet.load(tmp_path)) == [0, 0, 2, 2]
    other = classes(tmp_path / "other")
    (other / "labels.txt").write_text("these pictures were taken in spring\n")
    warnings = CleanSet.load(other).warnings
    assert "class numbers follow the sorted folder names" in warnings[0]
    assert warnings[1] == "1 .txt file passed over"


def test_class_names_number_folders_by_name_case_and_accents(tmp_path: Path) -> None:
    root = classes(tmp_path / "data", ("sage_blatt", "Zebra"))
    clean = CleanSet.load(root, class_names=["ZEBRA", "Ameise", "Sägeblatt", "Säge Blatt"])
    assert labels(clean) == [0, 0, 3, 3]
    assert clean.warnings == ()
    [warning] = CleanSet.load(root, class_names=["zebra", "horse"]).warnings
    assert "as --class-names has no 'sage_blatt'" in warning


def test_names_that_fold_to_one_are_matched_only_as_they_are_written(tmp_path: Path) -> None:
    clean = CleanSet.load(classes(tmp_path, ("Cat", "dog")), class_names=["cat", "Cat", "dog"])
    assert labels(clean) == [1, 1, 2, 2]
    [warning] = CleanSet.load(classes(tmp_path / "b", ("CAT", "dog")), class_names=["cat", "Cat", "dog"]).warnings
    assert "has no 'CAT'" in warning


@pytest.mark.parametrize(("one", "other"), [("É té", "e-te"), ("STRASSE", "straße"), ("a__b", "A B")])
def test_folded_names(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_names_of_nothing_but_signs_stay_what_they_are() -> None:
    assert folded("+") != folded("-")


def test_configurations_of_transformers_number_classes(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}}))
    assert read_tables(path) == [{"cat": 0, "dog": 1}]


def test_every_ending_that_is_passed_over_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed_over, "reads_heif", lambda: False)
    root = classes(tmp_path)
    for index in range(3):
        (root / "cat" / f"{index}.HEIC").write_bytes(b"x")
    (root / "dog" / "notes.txt").write_text("x")
    (root / "dog" / "README").write_text("x")
    *_, warning = CleanSet.load(root).warnings
    assert warning == (
        "3 .heic files, 1 .txt file, 1 unnamed file passed over; .heic: `pip install pillow-heif` lets them be read"
    )


def test_a_folder_of_nothing_that_can_be_read_says_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passed_over, "reads_heif", lambda: False)
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(CleanSetError, match=r"found none \(1 .heic file passed over; .heic: `pip install pillow-heif`"):
        CleanSet.load(tmp_path)


@pytest.mark.parametrize("suffix", [".webp", ".tiff", ".avif", ".heic"])
def test_other_kinds_of_pictures_are_read(tmp_path: Path, suffix: str) -> None:
    if suffix == ".avif" and not passed_over.reads_avif():
        pytest.skip("this pillow has no AVIF")
    if suffix == ".heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options = {".webp": {"lossless": True}, ".heic": {"quality": 100}, ".avif": {"quality": 100}}.get(suffix, {})
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.full((32, 32, 3), 120, np.uint8)).save(path, **options)
    clean = CleanSet.load(tmp_path)
    assert clean.images.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(clean.images, 120 / 255, atol=2 / 255)


FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}


def parquet(path: Path, rows: list[tuple[int, int]], *, features: Any = FEATURES, **columns: Any) -> Path:
    """A file as `datasets` writes it: pictures as bytes, names of the classes beside the schema."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    contents = []
    for grey, _ in rows:
        picture(path.parent / "scratch.png", grey)
        contents.append({"bytes": (path.parent / "scratch.png").read_bytes(), "path": None})
        (path.parent / "scratch.png").unlink()
    table = arrow.table({"image": contents, "label": [label for _, label in rows]} | columns)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_table(table, path)
    return path


def test_a_parquet_folder_of_a_data_set_is_read(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "test-00000-of-00002.parquet", [(1, 1), (2, 0)])
    parquet(tmp_path / "data" / "test-00001-of-00002.parquet", [(3, 1)])
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [(9, 0)])
    clean = CleanSet.load(tmp_path)
    assert (labels(clean), greys(clean)) == ([1, 0, 1], [1, 2, 3])
    assert dict(clean.class_names) == {0: "cat", 1: "dog"}
    assert clean.warnings == ("the images of the part test were taken, and 1 file of train passed over",)
    only = CleanSet.load(tmp_path / "data" / "train-00000-of-00001.parquet")
    assert (labels(only), greys(only)) == ([0], [9])


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([(1, -1)], {}, "class numbers from 0 in .*, found -1 in row 0: take a part with labels"),
        ([(1, 0)], {"image": [None]}, "a column `image`|the bytes of a picture in row 0"),
        ([(1, 0)], {"image": [b"no picture"]}, "an image in row 0 of a.parquet, found a damaged or other file"),
    ],
)
def test_parquet_files_that_are_refused(tmp_path: Path, rows: Any, columns: Any, words: str) -> None:
    path = parquet(tmp_path / "a.parquet", rows, **columns)
    with pytest.raises(CleanSetError, match=words):
        CleanSet.load(path)


def test_damaged_parquet_and_labels_beside_it_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [(1, 0)])
    (tmp_path / "l.txt").write_text("cat 0")
    with pytest.raises(CleanSetError, match="leave --labels out"):
        CleanSet.load(tmp_path, labels=tmp_path / "l.txt")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CleanSetError, match=r"expected a parquet file in a\.parquet, found a damaged"):
        CleanSet.load(tmp_path)


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CleanSetError, match="pip install pyarrow"):
        CleanSet.load(tmp_path)
