import pytest

from backscan.scanner.reports.text import printable


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\x9b31m", "\\x9b31m"),  # the one-byte form of ESC [
        ("cat\u202egod", "cat\\u202egod"),  # right-to-left override
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028break", "line\\u2028break"),
        ("lone\ud800", "lone\\ud800"),
    ],
)
def test_what_steers_a_terminal_becomes_visible(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    assert printable("naïve 犬 → Ägypten π 🐕") == "naïve 犬 → Ägypten π 🐕"


def test_newlines_stay_on_request() -> None:
    assert printable("a\nb\x07", keep_newlines=True) == "a\nb\\x07"
