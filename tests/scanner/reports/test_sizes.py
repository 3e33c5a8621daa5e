"""Size, power and limit in one unit."""

from dataclasses import replace

from backscan.scanner.reports.sizes import largest_size, pattern_in_words, size_in_words
from backscan.scanner.reports.summary import summarise
from tests.scanner.reports.examples import detected, not_detected


def test_a_size_on_the_image_is_the_mean_change_of_a_pixel() -> None:
    inference = detected().detectors[0]
    # 3 x 32 x 32 values, all changed by 3 of 255: L2 is the root of their number times 3 / 255
    assert size_in_words(detected(), inference, 3 / 255 * 3072**0.5) == "0.652 (L2), on average 3 of 255 a pixel"
    absolute = replace(inference, norm="l1")
    assert size_in_words(detected(), absolute, 3 / 255 * 3072) == "36.1 (L1), on average 3 of 255 a pixel"


def test_a_size_inside_the_model_is_a_share_of_the_median_pair() -> None:
    inside = replace(detected().detectors[0], space="conv1")
    assert size_in_words(detected(), inside, 0.9).endswith("% of the median pair's")
    assert "of 255" not in size_in_words(detected(), inside, 0.9)


def test_a_pattern_says_how_much_it_changes_at_most() -> None:
    found = detected().patterns[0]
    assert found.largest_change < 14 / 255
    assert pattern_in_words(detected(), found).startswith("changes a pixel by at most 14 of 255, on average by 1.2 (L2")


def test_power_and_limit_are_told_in_the_same_unit() -> None:
    result = not_detected()
    assert "of 255 a pixel, four in five would have been found" in summarise(result).power
    assert largest_size(result, result.detectors[0]) == "half of black-to-white, 128 of 255 a pixel"
    limited = replace(result, config={**result.config, "max_size": 2.0})
    assert largest_size(limited, result.detectors[0]) == "2 (L2), on average 9.2 of 255 a pixel"
