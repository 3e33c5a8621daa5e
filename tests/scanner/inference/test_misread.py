"""Classes that the model hardly ever decides as their labels say are told, with what to do."""

from importlib.resources import files

import numpy as np

from backscan.scanner import CleanSet, ScanConfig, scan
from backscan.scanner.inference.misread import misread_note
from backscan.scanner.results import PairResult, PairStatus, Trajectory


def pairs_of(rates):
    """Results of a search in which so much of each source [K, K] is decided as each target without a pattern."""
    for (source, target), rate in np.ndenumerate(rates):
        if source != target and not np.isnan(rate):
            status = PairStatus.REACHED
            yield PairResult("pairwise", source, target, status, 1.0, float(rate), 0.8, 1, Trajectory((), ()))


def test_two_classes_under_the_number_of_each_other_are_named():
    rates = np.full((5, 5), 0.01)
    rates[1, 3], rates[3, 1] = 0.95, 0.9
    told = misread_note(list(pairs_of(rates)), 5)
    assert told.startswith("the model decides hardly any image of class 1 (as 3: 95%), 3 (as 1: 90%) as what its label")
    assert "--labels" in told


def test_a_class_that_is_half_right_or_not_asked_about_every_target_is_not():
    rates = np.full((5, 5), 0.0)
    rates[2, 0], rates[2, 4] = 0.5, 0.39
    assert misread_note(list(pairs_of(rates)), 5) == ""
    rates[2, 4] = 0.41
    assert "class 2 (as 0: 50%)" in misread_note(list(pairs_of(rates)), 5)
    rates[2, 3] = np.nan
    assert misread_note(list(pairs_of(rates)), 5) == ""


def test_of_many_some_are_named():
    rates = np.roll(np.eye(7), 1, axis=1)
    assert "3 (as 4: 100%) and 3 more as what" in misread_note(list(pairs_of(rates)), 7)


def test_a_scan_warns_of_it():
    folder = files("backscan.scanner") / "samples"
    with np.load(folder / "digits_clean.npz") as stored:
        images, labels = stored["x"].copy(), stored["y"].copy()
    swapped = np.where(labels == 3, 5, np.where(labels == 5, 3, labels))
    config = ScanConfig(detectors=("pairwise",), images_per_class=10, sandbox=False, max_steps=5, bootstrap_draws=39)
    model = folder / "digits_unattacked.onnx"
    told = [scan(model, CleanSet.from_arrays(images, each), config).warnings for each in (labels, swapped)]
    assert not any("hardly any image" in text for text in told[0])
    assert any("class 3 (as 5: " in text and "5 (as 3: " in text for text in told[1])
