"""Known ways to turn pixels into model input, what options say about them, and which ones a model can take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from backscan.scanner.errors import OptionError

if TYPE_CHECKING:
    from backscan.converters import Normalisation
    from backscan.scanner.config import ScanConfig

CANDIDATES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "none": {},
        "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "cifar10": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
        "mnist": {"mean": (0.1307,), "std": (0.3081,)},
        "symmetric": {"low": -1.0},
        "raw": {"high": 255.0},
        "none-bgr": {"channel_order": "bgr"},
        "imagenet-bgr": {"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229), "channel_order": "bgr"},
        "cifar10-bgr": {"mean": (0.4465, 0.4822, 0.4914), "std": (0.2616, 0.2435, 0.2470), "channel_order": "bgr"},
        "mnist-bgr": {"mean": (0.1307,), "std": (0.3081,), "channel_order": "bgr"},
        "symmetric-bgr": {"low": -1.0, "channel_order": "bgr"},
        "raw-bgr": {"high": 255.0, "channel_order": "bgr"},
        # From here on rarer ones. Inception's and [-1, 1] by 127.5 are `symmetric`; torch's EfficientNet is `imagenet`.
        "caffe-bgr": {"high": 255.0, "mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
        "caffe": {"high": 255.0, "mean": (123.68, 116.779, 103.939)},
        "caffe-scaled-bgr": {
            "high": 255.0,
            "mean": (103.94, 116.78, 123.68),
            "std": (58.824,),
            "channel_order": "bgr",
        },
        "caffe-scaled": {"high": 255.0, "mean": (123.68, 116.78, 103.94), "std": (58.824,)},
        "raw-centred": {"low": -127.5, "high": 127.5},
        "raw-centred-bgr": {"low": -127.5, "high": 127.5, "channel_order": "bgr"},
        "clip": {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)},
        "clip-bgr": {
            "mean": (0.40821073, 0.4578275, 0.48145466),
            "std": (0.27577711, 0.26130258, 0.26862954),
            "channel_order": "bgr",
        },
        "cifar10-narrow": {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)},
        "cifar10-narrow-bgr": {
            "mean": (0.4465, 0.4822, 0.4914),
            "std": (0.2010, 0.1994, 0.2023),
            "channel_order": "bgr",
        },
        "cifar100": {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)},
        "cifar100-bgr": {
            "mean": (0.4409, 0.4865, 0.5071),
            "std": (0.2762, 0.2564, 0.2673),
            "channel_order": "bgr",
        },
        "efficientnet-lite": {"high": 255.0, "mean": (127.0,), "std": (128.0,)},
        "efficientnet-lite-bgr": {"high": 255.0, "mean": (127.0,), "std": (128.0,), "channel_order": "bgr"},
        "centred": {"low": -0.5, "high": 0.5},
        "centred-bgr": {"low": -0.5, "high": 0.5, "channel_order": "bgr"},
        "fashion-mnist": {"mean": (0.2860,), "std": (0.3530,)},
        "fashion-mnist-bgr": {"mean": (0.2860,), "std": (0.3530,), "channel_order": "bgr"},
        "standardised": {"standardise": True},
        "standardised-bgr": {"standardise": True, "channel_order": "bgr"},
    }
)
"""Fields of known normalisations in order of plausibility; `none` leaves pixels in [0, 1]. Fields, as `Normalisation`
itself comes with onnx, which who lists the names need not load."""

_FIRST_RARE = "caffe-bgr"
_GREY_ONLY = ("mnist", "fashion-mnist")

# Sizes go with the factor on pixels; ImageNet's and CIFAR-10's differ by up to 1.16, which moves no verdict.
_SCALE_RATIO = 1.5


def candidate(name: str) -> Normalisation:
    """A known normalisation.

    Args:
        name: One of `CANDIDATES`.
    """
    from backscan.converters import Normalisation

    return Normalisation(**CANDIDATES[name])


def _reversed(normalisation: Normalisation) -> Normalisation:
    """The same arithmetic for each colour, for models that take the channels the other way round."""
    order = "rgb" if normalisation.channel_order == "bgr" else "bgr"
    return replace(normalisation, mean=normalisation.mean[::-1], std=normalisation.std[::-1], channel_order=order)


def given_normalisation(config: ScanConfig, channels: int) -> tuple[str, Normalisation] | None:
    """The normalisation that the options state, with its name; None if it is to be found.

    `--mean`, `--std`, `--range` and `--channel-order` override a named candidate, or pixels in [0, 1]. The channel
    order alone leaves the rest to be found.

    Raises:
        OptionError: means or standard deviations that do not fit the channels, or are out of range.
    """
    stated = (config.mean, config.std, config.range)
    if config.preprocess == "auto" and stated == (None, None, None):
        return None
    base = candidate("none" if config.preprocess == "auto" else config.preprocess)
    if config.channel_order not in (None, base.channel_order):
        base = _reversed(base)
    low, high = config.range or (base.low, base.high)
    try:
        normalisation = replace(base, low=low, high=high, mean=config.mean or base.mean, std=config.std or base.std)
        normalisation.affine(channels)
    except ValueError as error:
        raise OptionError(
            f"expected a normalisation for {channels} channel(s): {error}; correct --preprocess, --mean, --std "
            "or --range"
        ) from error
    named = stated == (None, None, None) and config.channel_order is None
    return (config.preprocess if named else "given"), normalisation


def scale_differs(first: Normalisation, second: Normalisation, channels: int) -> bool:
    """Whether sizes of patterns, in pixel units, would differ much between two normalisations.

    Args:
        first: One normalisation.
        second: Another.
        channels: Channels of the model.

    Returns:
        True if the factor on any channel's pixels differs by more than half, or is each image's own in one of them.
    """
    if first.standardise != second.standardise:
        return True
    ratios = np.log(np.divide(first.affine(channels)[0], second.affine(channels)[0]))
    return bool(np.abs(ratios).max() > np.log(_SCALE_RATIO))


def fitting_candidates(
    channels: int, channel_order: str | None, *, rare: bool = False, flat: bool = False
) -> dict[str, Normalisation]:
    """Candidates that mean something for a number of channels: means of that length, an order only of colours.

    Args:
        channels: Channels of the model.
        channel_order: Order that the options state, None if they do not.
        rare: The rarer candidates instead of the common ones.
        flat: Whether the model takes images as rows of numbers, where colours may follow each other in two ways.
    """

    def fits(name: str, normalisation: Normalisation) -> bool:
        if channels != 3:
            return normalisation.channel_order == "rgb" and len(normalisation.mean) == 1
        grey_only = name.startswith(_GREY_ONLY)
        return not grey_only and channel_order in (None, normalisation.channel_order)

    names = list(CANDIDATES)
    border = names.index(_FIRST_RARE)
    known = {name: candidate(name) for name in (names[border:] if rare else names[:border])}
    fitting = {name: normalisation for name, normalisation in known.items() if fits(name, normalisation)}
    return fitting | ({f"{name}-hwc": by_pixels(each) for name, each in fitting.items()} if flat else {})


def by_pixels(normalisation: Normalisation) -> Normalisation:
    """The same for models that take the colours of a row of numbers pixel after pixel."""
    return replace(normalisation, pixel_order="hwc")
