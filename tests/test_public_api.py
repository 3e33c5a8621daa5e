"""The names that users may rely on: they are there, they are the right ones, and having them costs nothing."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import numpy as np
import pytest

import backscan.scanner as scanner
from backscan.scanner import ScanError, scan
from backscan.scanner.pipeline.admission import as_clean_set

# A name leaves or joins this list only with the changelog.
PUBLIC = {
    "scan": "pipeline.scan",
    "scan_models": "fleet.scanning",
    "infer": "pipeline.rejudge",
    "verify": "pipeline.rejudge",
    "render": "reports",
    "Guard": "aftercare.guard",
    "compare": "aftercare.comparing",
    "screen_images": "aftercare.screening",
    "ScanConfig": "config",
    "PRESETS": "config",
    "CleanSet": "images.cleanset",
    "ScanResult": "results",
    "PairResult": "results",
    "Inference": "results",
    "Verdict": "results",
    "ScanError": "errors",
    "register_detector": "choices.registered",
    "register_objective": "choices.registered",
    "register_operator": "choices.registered",
    "register_statistic": "choices.registered",
}


def test_the_public_names_are_these():
    assert set(scanner.__all__) == PUBLIC.keys()


@pytest.mark.parametrize(("name", "home"), PUBLIC.items())
def test_a_public_name_is_the_one_of_its_module(name, home):
    public = getattr(scanner, name)
    assert public is getattr(importlib.import_module(f"backscan.scanner.{home}"), name)
    assert not inspect.ismodule(public), "a submodule of the same name would hide it"
    if callable(public):
        assert (public.__doc__ or "").strip()


@pytest.mark.parametrize("name", ["scan", "infer", "verify", "render", "screen_images"])
def test_public_functions_say_what_they_take_give_and_raise(name):
    function = getattr(scanner, name)
    described = inspect.getdoc(function)
    assert "Args:" in described
    assert "Raises:" in described
    for parameter in inspect.signature(function).parameters:
        assert f"\n    {parameter}: " in described, f"{name} does not describe {parameter}"


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="attribute nothing"):
        scanner.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from backscan.scanner import nothing")  # noqa: S102


def test_the_names_survive_the_import_of_every_module():
    """`backscan.scanner.pipeline.replay` must not become `backscan.scanner.verify`."""
    code = (
        "import backscan.scanner as s, backscan.scanner.pipeline.scan, backscan.scanner.pipeline.rejudge, inspect\n"
        "print(all(inspect.isfunction(getattr(s, n)) for n in ('scan', 'infer', 'verify', 'render')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("package", ["scanner", "kernels", "converters"])
def test_every_promise_of_all_is_kept(package):
    module = importlib.import_module(f"backscan.{package}")
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None


def test_the_package_has_no_parent_module():
    """Importing the kernels must never pull in torch through a parent."""
    import backscan

    assert getattr(backscan, "__file__", None) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((b"onnx", None), "expected the path of an ONNX file, found bytes"),
        (("model.onnx", None, {"seed": 1}), "expected the options as a ScanConfig, found dict"),
    ],
)
def test_a_scan_of_something_else_says_what_it_takes(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(ScanError, match=words):
        scan(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [np.zeros((2, 4, 4)), ([], [])])
def test_arrays_in_the_place_of_images_are_told_how_to_come(images: object) -> None:
    with pytest.raises(ScanError, match=r"found (ndarray|tuple): CleanSet.from_arrays and"):
        as_clean_set(images, None, sandbox=False)  # type: ignore[arg-type]
