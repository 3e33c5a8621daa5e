"""A pattern as a small picture made of characters."""

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.style import Style
from rich.text import Text

_SHADES = " ░▒▓█"


def block_picture(pattern: NDArray[np.float32], *, columns: int = 32, colour: bool = False) -> Text:
    """The pattern, two pixel rows a line; red adds to a pixel, blue takes away, shades without colour.

    Args:
        pattern: Signed change of each pixel, [C, H, W]; other shapes are not drawn.
        columns: Largest width in characters.
        colour: Whether colours may be used.

    Returns:
        Lines of equal width, scaled so that the largest change is full; empty if there is nothing to draw.
    """
    if pattern.ndim != 3 or pattern.size == 0 or not np.isfinite(pattern).all():
        return Text("")
    values = _shrink(_signed_peak(pattern, axis=0), columns)
    peak = float(np.abs(values).max()) or 1.0
    rows = np.concatenate([values, np.zeros((len(values) % 2, values.shape[1]))]) / peak
    lines = [_line(upper, lower, colour=colour) for upper, lower in zip(rows[::2], rows[1::2], strict=True)]
    return Text("\n").join(lines)


def _signed_peak(values: NDArray[np.float32], axis: int) -> NDArray[np.float64]:
    """The entry of largest magnitude along `axis`: a mean would hide patterns of a single pixel."""
    index = np.expand_dims(np.abs(values).argmax(axis=axis), axis)
    return np.take_along_axis(values, index, axis=axis).squeeze(axis).astype(np.float64)


def _shrink(image: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    """Peaks of square tiles, so that the width fits."""
    step = -(-max(image.shape) // columns)
    height, width = (-(-length // step) * step for length in image.shape)
    padded = np.zeros((height, width))
    padded[: image.shape[0], : image.shape[1]] = image
    tiles = padded.reshape(height // step, step, width // step, step).swapaxes(1, 2)
    return _signed_peak(tiles.reshape(height // step, width // step, step * step), axis=2)


def _line(upper: NDArray[np.float64], lower: NDArray[np.float64], *, colour: bool) -> Text:
    if not colour:
        strengths = np.maximum(np.abs(upper), np.abs(lower))
        levels = np.ceil(strengths * (len(_SHADES) - 1)).astype(int)
        return Text("".join(_SHADES[level] for level in levels))
    return Text.assemble(*(("▀", Style(color=_shade(a), bgcolor=_shade(b))) for a, b in zip(upper, lower, strict=True)))


def _shade(value: float) -> Color:
    """White at 0, towards red for added and blue for removed light."""
    fade = round(245 * (1 - min(abs(float(value)), 1.0)))
    return Color.from_rgb(245, fade, fade) if value > 0 else Color.from_rgb(fade, fade, 245)
