"""The files of the journeys: models, images in every layout, and files that are no ONNX models. All are made here."""

from __future__ import annotations

import csv
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from benchmarks.journeys import models
from benchmarks.journeys.models import Spots

SPOTS = Spots()
FEW, MANY = Spots(2), Spots(200)
NAMES = ("ahorn", "birke", "Café au lait", "dill", "erle")
EACH = 20
_PICTURES = 12


def prepare(folder: Path) -> None:
    """Write all of them into a folder that is empty."""
    for make in (_models, _archives, _folders, _of_extras, _tables, _foreign, _configurations, _hostile):
        make(folder)


def _models(folder: Path) -> None:
    _write(folder, "attacked.onnx", SPOTS.model((1, 3)))
    _write(folder, "ordinary.onnx", SPOTS.model())
    _write(folder, "retrained.onnx", SPOTS.model(seed=1))
    _write(folder, "two.onnx", FEW.model())
    _write(folder, "three.onnx", Spots(3).model())
    _write(folder, "many.onnx", MANY.model())
    _write(folder, "labels.onnx", SPOTS.model(head="Sigmoid"))
    _write(folder, "beside/model.onnx", SPOTS.model())
    _write(folder, "vendor/a/attacked.onnx", SPOTS.model((1, 3)))
    _write(folder, "vendor/ordinary.onnx", SPOTS.model())
    _write(folder, "my models/the model.onnx", SPOTS.model())
    _write(folder, "texts.onnx", models.of_texts())
    _write(folder, "sound.onnx", models.of_sound())
    _write(folder, "maps.onnx", models.of_maps())
    _write(folder, "embeddings.onnx", models.of_embeddings())
    _write(folder, "boxes.onnx", models.of_boxes())
    _write(folder, "numbers.onnx", models.of_labels_alone(SPOTS))
    _write(folder, "own.onnx", models.of_own_operator())
    (folder / "empty").mkdir()


def _archives(folder: Path) -> None:
    x, y = SPOTS.images(EACH)
    arrays: dict[str, dict[str, object]] = {
        "images": {"x": x, "y": y},
        "beside/model": {"x": x, "y": y},
        "fractions": {"x": (x / 255).astype(np.float32), "y": y},
        "unlabelled": {"x": x},
        "wrong": {"x": x, "y": (y + 1) % SPOTS.num_classes},
        "one_each": {"x": x[::EACH], "y": y[::EACH]},
        "without_class": {"x": x[y != 2], "y": y[y != 2]},
        "out_of_range": {"x": x, "y": y + 7},
        "too_bright": {"x": x.astype(np.float32), "y": y},
        "other_size": {"x": x[:, :5, :5], "y": y},
        "no_x": {"pictures": x},
        "fewer_labels": {"x": x, "y": y[:-3]},
        "colours": {"x": np.repeat(x[..., None], 3, axis=3), "y": y},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)  # type: ignore[arg-type]
    for task, name in ((FEW, "two"), (Spots(3), "three")):
        few, labels = task.images(60)
        np.savez(folder / f"{name}.npz", x=few, y=labels)
    few, labels = MANY.images(8)
    np.savez(folder / "many.npz", x=few, y=labels)
    several = x.copy()
    several.reshape(len(x), -1)[:, 10:20] = several.reshape(len(x), -1)[:, :10]
    np.savez(folder / "several.npz", x=np.maximum(several, x), y=y)
    many, labels = SPOTS.images(60)
    np.savez(folder / "one_label.npz", x=many, y=(labels == 0).astype(np.int64))
    _write(folder, "cut.npz", (folder / "images.npz").read_bytes()[:-300])
    _write(folder, "text.npz", b"no archive")
    (folder / "pickle.npz").write_bytes(pickle.dumps([1, 2]))


def _folders(folder: Path) -> None:
    numbers = tuple(map(str, range(SPOTS.num_classes)))
    _pictures(folder / "by_number", numbers)
    _pictures(folder / "by_name", NAMES)
    _pictures(folder / "webp", numbers, ".webp")
    _pictures(folder / "tiff", numbers, ".tiff")
    for part in ("train", "val"):
        _pictures(folder / "parts" / part, numbers)
    _pictures(folder / "mixed", numbers)
    ending = ".dng" if find_spec("pillow_heif") else ".heic"
    for number in range(40):
        _write(folder, f"mixed/0/{number}{ending}", b"no picture that is read here")
        _write(folder, f"mixed/1/notes{number}.txt", b"text")
    _write(folder, "mixed/2/.hidden.png", b"not looked at")
    _pictures(folder / "cut_picture", numbers)
    picture = folder / "cut_picture" / "0" / "0.png"
    picture.write_bytes(picture.read_bytes()[:40])
    _pictures(folder / "synsets", tuple(f"n0144{number}764" for number in range(5)))
    index = {str(number): [f"n0144{number}764", NAMES[number]] for number in range(5)}
    _write(folder, "synsets/imagenet_class_index.json", json.dumps(index).encode())
    _write(folder, "names.txt", "\n".join(["Ahorn", "BIRKE", "cafe_au_lait", "dill", "erle"]).encode())
    _write(folder, "numbers.json", json.dumps({name: place for place, name in enumerate(NAMES)}).encode())
    _write(folder, "too_few.json", json.dumps({"ahorn": 0}).encode())
    _write(folder, "only_text/readme.txt", b"no pictures here")


def _of_extras(folder: Path) -> None:
    """Pictures that pillow or the extra `images` reads, where they are installed."""
    numbers = tuple(map(str, range(SPOTS.num_classes)))
    if features.check("avif"):
        _pictures(folder / "avif", numbers, ".avif")
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
        _pictures(folder / "heic", numbers, ".heic")
    if find_spec("pyarrow"):
        _parquet(folder / "parquet" / "data")


def _parquet(folder: Path) -> None:
    """The two parts of a data set as Hugging Face stores them."""
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    images, labels = SPOTS.images(EACH)
    told = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}}}
    for part in ("train", "test"):
        pictures = [{"bytes": _png(image), "path": f"{number}.png"} for number, image in enumerate(images)]
        table = pyarrow.table({"image": pictures, "label": [int(label) for label in labels]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
        parquet.write_table(table, folder / f"{part}-00000-of-00001.parquet")


def _png(image: NDArray[np.uint8]) -> bytes:
    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG")
    return written.getvalue()


def _tables(folder: Path) -> None:
    images, labels = SPOTS.images(_PICTURES)
    for place in ("flat", "flat_with_table"):
        (folder / place).mkdir()
        for number, image in enumerate(images):
            Image.fromarray(image).save(folder / place / f"p{number}.png")
    rows = [(f"p{number}.png", int(label)) for number, label in enumerate(labels)]
    _write(folder, "labels.csv", _csv([("file", "label"), *rows]))
    _write(folder, "flat_with_table/labels.csv", _csv([("file", "label"), *rows]))
    _write(folder, "bare.csv", _csv(rows))
    _write(folder, "half.csv", _csv([("file", "label"), *rows[::2], ("gone.png", 0)]))
    lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
    _write(folder, "labels.jsonl", "\n".join(lines).encode())
    _write(folder, "strange.csv", b"a,b,c\n1,2,3\n")


def _foreign(folder: Path) -> None:
    _write(folder, "weights.pth", _zip({"archive/data.pkl": pickle.dumps({}), "archive/data/0": b"1"}))
    _write(folder, "script.pt", _zip({"net/code/net.py": b"pass", "net/data.pkl": pickle.dumps({})}))
    _write(folder, "model.keras", _zip({"config.json": b"{}", "model.weights.h5": b"1"}))
    _write(folder, "model.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))
    _write(folder, "model.tflite", b"\x1c\0\0\0TFL3" + bytes(100))
    _write(folder, "model.safetensors", struct.pack("<Q", 2) + b"{}")
    _write(folder, "saved/saved_model.pb", b"\x08\x01\x12\x02\x0a\x00")
    _write(folder, "model.mlmodel", b"\x08\x04\x12\x07\x0a\x05image\x9a\x19\x06layers")
    _write(folder, "net.mlpackage/Data/com.apple.CoreML/model.mlmodel", b"\x08\x04")
    _write(folder, "net.mlpackage/Manifest.json", b"{}")
    _write(folder, "model.gguf", b"GGUF" + bytes(100))
    _write(folder, "openvino.xml", b'<?xml version="1.0"?><net name="m" version="11"></net>')
    _write(folder, "package.zip", _zip({"inside/model.onnx": SPOTS.model()}))
    _write(folder, "page.onnx", b"<!DOCTYPE html><html><body>Sign in</body></html>")
    _write(
        folder, "pointer.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    )
    _write(folder, "forest.pkl", pickle.dumps({"a": 1}))
    _write(folder, "nothing.onnx", b"")
    _write(folder, "cut.onnx", SPOTS.model()[:-500])
    _write(folder, "notes.onnx", b"the model is on the other disk\n")


def _configurations(folder: Path) -> None:
    for name, text in {
        "configured": 'data = "../images.npz"\npreprocess = "none"\n',
        "careless": "significance = 0.5\n",
        "misspelled": 'dta = "../images.npz"\n',
        "broken": "data = [\n",
    }.items():
        _write(folder, f"{name}/backscan.toml", text.encode())
    _write(folder, "own.toml", b'data = "images.npz"\npreprocess = "none"\nsignificance = 0.01\n')


def _hostile(folder: Path) -> None:
    _write(folder, "elsewhere.onnx", _with_external("../secret"))
    _write(folder, "missing.onnx", _with_external("weights.bin"))
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as x:
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (8000000, 8, 8, 3), }"
        x.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n")
        x.write(bytes(1 << 24))
    _write(folder, "forged.json", b'{"schema_version": "1.0", "verdict": "not_detected"}')


def _with_external(location: str) -> bytes:
    import onnx

    model = onnx.load_from_string(SPOTS.model())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return bytes(model.SerializeToString())


def _pictures(folder: Path, names: Sequence[str], ending: str = ".png") -> None:
    images, labels = SPOTS.images(_PICTURES)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / names[label] / f"{number}{ending}", lossless=True)


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _zip(members: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return written.getvalue()


def _write(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
