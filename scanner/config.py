"""ScanConfig: every choice of a scan, under the names of the command line's options; the paper's variants by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

from backscan.scanner.choices import (
    IMAGES,
    OUTPUT,
    RUNNING,
    SEARCH,
    STATISTICS,
    Option,
    Table,
    check_value,
    known,
    option,
    options_of,
)
from backscan.scanner.errors import OptionError

DETECTORS = Table("backscan.scanner.detectors", "DETECTORS")
"""Detectors of class pairs."""
COMMONALITY = "commonality"
"""The statistic that needs the individual sizes."""
MARGIN_CONTRAST = "margin-contrast"
"""The statistic that needs the clean margins."""
TARGET_STATISTICS = ("target-wise", "target-contrast", MARGIN_CONTRAST)
"""Statistics that have one value a target."""
RATE_DETECTORS = Table("backscan.scanner.detectors", "RATE_DETECTORS")
"""Detectors of target classes that decide."""


MANY_CLASSES = ("pairwise", "features", "window", "large-window", "mask")
"""Detectors that search where none is named."""
FEW_CLASSES = ("transferability",)
"""The same of models with so few classes that there are no other pairs to compare with."""
MOST_FEW_CLASSES = 4
"""Most classes of those."""
SMALL_MASKS = "mask"
"""The detector of small masks."""
PAIRS_IN_SPACES = "pairwise"
"""The detector that searches in the chosen space."""
OF_FOUND_PATTERNS = "umd"
"""The detector that works with the patterns of that one."""
SO_MANY_CLASSES = ("reach",)
"""The same of models with so many classes, and images so large, that even looks at all pairs take too long."""
MOST_PAIRS = 5000
"""Class pairs, of 71 classes, up to which every one is searched."""
# Class pairs times values of an image up to which they are looked at one by one: half an hour on two cores.
_MOST_VALUES = 50_000_000
# Options that say how pairs are compared with each other, or where else they are searched: who sets one wants that.
_OF_MANY_CLASSES = ("statistics", "combination", "inference", "order", "null", "cut", "space")


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Options of one scan. `None` means: decided by the scan, as the option's help says.

    A field is the only place where an option is written: the command line, the configuration file, the guide and
    `check` are made from it.
    """

    images_per_class: int = option(
        100,
        "Images per class for the search, after a fifth is held out; {default} by default.",
        IMAGES,
        low=5,
        high=1_000_000,
        decides_pair=True,
        from_found_file=True,
    )
    preprocess: str = option(
        "auto",
        "{names}; none is x/255.",
        IMAGES,
        choices=("auto", Table("backscan.scanner.images.candidates", "CANDIDATES")),
        shown=True,
        decides_pair=True,
        from_found_file=True,
    )
    mean: tuple[float, ...] | None = option(
        None,
        "Mean of the normalisation, one or one per channel in the order in which the model takes them: 0.5,0.5,0.5",
        IMAGES,
        decides_pair=True,
        from_found_file=True,
    )
    std: tuple[float, ...] | None = option(
        None,
        "Standard deviation, one or one per channel, in the order of --mean.",
        IMAGES,
        decides_pair=True,
        from_found_file=True,
    )
    range: tuple[float, float] | None = option(
        None, "Values of black and white before mean and std: 0 255", IMAGES, decides_pair=True, from_found_file=True
    )
    channel_order: str | None = option(
        None, "{names}.", IMAGES, choices=("rgb", "bgr"), decides_pair=True, from_found_file=True
    )
    image_size: tuple[int, int] | None = option(
        None, "Height and width, for models that leave them free.", IMAGES, decides_pair=True, from_found_file=True
    )
    min_accuracy: float | None = option(
        None, "Least clean accuracy; by default half the way between chance and 1.", IMAGES, low=0.0, high=1.0
    )
    output_name: str | None = option(
        None,
        "Model output to scan; all gives a report for each that holds scores of classes, NAME[3] is column 3 of an "
        "output of labels that hold by themselves.",
        SEARCH,
        decides_pair=True,
    )
    targets: tuple[int, ...] | None = option(None, "Only these target classes: 3,5", SEARCH)
    pairs: tuple[tuple[int, int], ...] | None = option(None, "Only these pairs source:target: 1:9,2:7", SEARCH)
    screen: str = option(
        "auto",
        "on: search only the pairs that a first estimate shows as smallest, and some at random; off: all; "
        "auto: on with more than 5000 pairs (72 classes).",
        SEARCH,
        choices=("auto", "on", "off"),
    )
    detectors: tuple[str, ...] = option(
        (),
        "{names}; repeatable. By default pairwise, features, window, large-window and mask, with at most 4 classes "
        "transferability, with many and large images reach, which naming any replaces; without images head and margin.",
        SEARCH,
        flag="--detector",
        choices=(DETECTORS, Table("backscan.scanner.detectors", "TARGET_DETECTORS"), RATE_DETECTORS),
    )
    cut: str | None = option(
        None,
        "Tensor that --detector features adds patterns to, from `scanner inspect --tensors`; by default what the "
        "first convolution gives.",
        SEARCH,
        decides_pair=True,
    )
    space: str = option(
        "additive",
        "What a common pattern does to images: {names}; only one is searched, by detector pairwise. All but additive "
        "leave the other detectors out.",
        SEARCH,
        choices=(Table("backscan.scanner.search.spaces", "SPACES"),),
        decides_pair=True,
    )
    objective: str | None = option(
        None,
        "Surrogate that is descended: {names}; by default ce on images and J on features.",
        SEARCH,
        choices=(Table("backscan.scanner.search.objectives", "OBJECTIVES"),),
        decides_pair=True,
    )
    norm: str = option(
        "l2",
        "Size of a pattern: {names}.",
        SEARCH,
        choices=(Table("backscan.scanner.search.norms", "NORMS"),),
        decides_pair=True,
    )
    box: bool = option(
        False,
        "Keep images in range by a box constraint, or by clipping.",
        SEARCH,
        flag="--box/--clip",
        decides_pair=True,
    )
    step_rule: str = option(
        "unit",
        "{names}; plain is that of the paper.",
        SEARCH,
        choices=(Table("backscan.scanner.search.steps", "STEP_RULES"),),
        decides_pair=True,
    )
    precision: str = option(
        "auto",
        "What steps compute in: auto is bfloat16 where the processor multiplies it; elsewhere bfloat16 rounds to it "
        "after every layer, to find what such a processor finds.",
        SEARCH,
        choices=("auto", "float32", "bfloat16"),
        decides_pair=True,
    )
    mask_weight: float = option(
        1.5,
        "Factor by which mask, Neural Cleanse and TABOR adapt the weight of the mask; 1 keeps it.",
        SEARCH,
        low=1.0,
        high=100.0,
    )
    goal_rate: float = option(
        0.8,
        "Share of source images to send to the target (pi); {default} by default.",
        SEARCH,
        low=0.05,
        high=1.0,
        decides_pair=True,
    )
    max_size: float | None = option(
        None,
        "Largest size tried; by default half of black-to-white, or of features two standard deviations.",
        SEARCH,
        low=1e-9,
        high=1e9,
        decides_pair=True,
    )
    max_steps: int = option(
        300, "Largest number of steps per pair.", SEARCH, low=1, high=1_000_000, shown=True, decides_pair=True
    )
    statistics: tuple[str, ...] = option(
        ("source-adjusted", MARGIN_CONTRAST),
        "What is compared: {names}; repeatable. By default {default}.",
        STATISTICS,
        flag="--statistic",
        choices=(Table("backscan.scanner.inference.statistics", "STATISTICS"),),
    )
    combination: str = option(
        "together",
        "together: what agrees on a target is evidence together; each: every p-value by itself, times their number.",
        STATISTICS,
        choices=("together", "each"),
    )
    inference: str = option(
        "distinct", "{names}.", STATISTICS, choices=(Table("backscan.scanner.inference.variants", "INFERENCES"),)
    )
    order: int = option(3, "Order of the confusion polynomial (M); {default} by default.", STATISTICS, low=1, high=8)
    null: str = option(
        "inverse-gaussian", "{names}.", STATISTICS, choices=(Table("backscan.kernels.nulls", "NULL_FAMILIES"),)
    )
    significance: float = option(
        0.05, "Threshold on the deciding p-value (theta); {default} by default.", STATISTICS, low=1e-6, high=0.5
    )
    published_p: bool = option(
        False, "Which p-value decides; the calibrated one by default.", STATISTICS, flag="--published-p/--calibrated-p"
    )
    bootstrap_draws: int = option(
        999, "Draws of the calibration; {default} by default.", STATISTICS, low=0, high=1_000_000
    )
    anomaly_threshold: float = option(
        2.0,
        "Anomaly index above which a target of Neural Cleanse or TABOR is named; {default:g} by default.",
        STATISTICS,
        low=0.0,
        high=1e6,
    )
    seed: int = option(0, "Seed of every random choice.", RUNNING, low=0, high=2**63 - 1, shown=True, decides_pair=True)
    repeats: int = option(
        1,
        "Scans of as many draws of the images, each with a seed of its own; where verdict or target differ, the result "
        "is inconclusive.",
        RUNNING,
        low=1,
        high=100,
    )
    device: str = option(
        "auto",
        "{names}.",
        RUNNING,
        choices=("auto", "cpu", "cuda"),
        shown=True,
        decides_pair=True,
        from_found_file=True,
    )
    threads: int | None = option(
        None, "Processor threads; all by default.", RUNNING, low=1, high=4096, from_found_file=True
    )
    time_limit: float | None = option(
        None,
        "Seconds that the scan of a model may take in all, from the start of the command; kept within a tenth.",
        RUNNING,
        low=1.0,
        high=1e9,
    )
    sandbox: bool = option(True, "Open the model in this process; for debugging only.", RUNNING, flag="--no-sandbox")
    images_in_report: bool = option(
        True, "Keep example images out of reports.", OUTPUT, flag="--no-images", from_found_file=True
    )

    def __post_init__(self) -> None:
        """Refuse values out of range and names that no table has, when they are set.

        Raises:
            OptionError: the option, what was expected and what was found.
        """
        for name, rules in OPTIONS.items():
            value = getattr(self, name)
            if value is not None:
                check_value(rules, value)
        if self.image_size is not None and min(self.image_size) < 1:
            raise OptionError("expected --image-size of at least 1 1, found {} {}".format(*self.image_size))

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            OptionError: the option, what was expected and what was found.
        """
        if self.cut is not None and self.detectors and "features" not in self.detectors:
            raise OptionError(f"expected --detector features with --cut, found {', '.join(self.detectors)}: add it")
        if OF_FOUND_PATTERNS in self.detectors and PAIRS_IN_SPACES not in self.detectors:
            raise OptionError(
                f"expected --detector {PAIRS_IN_SPACES} with --detector {OF_FOUND_PATTERNS}, which works with its "
                f"patterns, found {', '.join(self.detectors)}: add it"
            )
        self._check_space()
        self._check_draws()

    def _check_space(self) -> None:
        # Other detectors have a space of their own, and a box is one around what is added.
        others = [name for name in self.detectors if name != PAIRS_IN_SPACES]
        excluded = {f"--detector {', '.join(others)}": bool(others), "--cut": self.cut is not None, "--box": self.box}
        found = [spelled for spelled, given in excluded.items() if given]
        if self.searches_elsewhere and found:
            raise OptionError(
                f"expected --detector {PAIRS_IN_SPACES} alone with --space {self.space}, found {' and '.join(found)}: "
                "leave it out"
            )

    @property
    def searches_elsewhere(self) -> bool:
        """Whether patterns are not added to images but change them in another way."""
        return bool(self.space != OPTIONS["space"].default)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The detectors, of many classes where none is named."""
        return self.detectors or ((PAIRS_IN_SPACES,) if self.searches_elsewhere else MANY_CLASSES)

    def _check_draws(self) -> None:
        # With fewer draws even the least p-value, corrected for the number of tests, is above the threshold.
        fewest = math.ceil(self.num_tests / self.significance - 1 - 1e-9)
        if not self.published_p and self.bootstrap_draws < fewest:
            raise OptionError(
                f"expected at least {fewest} bootstrap draws for --significance {self.significance:g}, found "
                f"{self.bootstrap_draws}: raise --bootstrap-draws or use --published-p"
            )

    @property
    def num_tests(self) -> int:
        """Conclusions about pairs that share one threshold, among those that decide or are part of one that does."""
        return self.num_tests_of(self.statistics)

    def num_tests_of(self, statistics: tuple[str, ...]) -> int:
        """The same where detectors of class pairs are judged by some statistics alone."""
        pairwise, of_rates = known(DETECTORS), known(RATE_DETECTORS)
        chosen = self.chosen
        num_few = sum(name in FEW_CLASSES for name in chosen)
        num_searches = sum(name in pairwise for name in chosen) - num_few
        num_transfers = 2 * num_few  # each says two things
        num_rates = sum(name in of_rates for name in chosen)
        by_commonality = int(COMMONALITY in statistics and num_searches > 0)  # of one search, by pairs and by targets
        if self.combination == "each" or self.published_p:
            of_sizes = num_searches * (len(statistics) - by_commonality)
            return max(1, of_sizes + 2 * by_commonality + num_rates + num_transfers)
        num_sizes = sum(name not in (*TARGET_STATISTICS, COMMONALITY) for name in statistics)
        of_pairs = (num_searches * num_sizes or by_commonality) + num_transfers
        of_targets = num_searches * sum(name in TARGET_STATISTICS for name in statistics) + by_commonality + num_rates
        return max(1, of_pairs) * (2 if of_pairs and of_targets else 1)

    def for_classes(self, num_classes: int, num_values: int = 0) -> ScanConfig:
        """This configuration with the detectors that a scan of so many classes chooses where none is named.

        Options that only mean something to the detectors of many classes choose those.

        Args:
            num_classes: Classes of the model.
            num_values: Values of an image: channels times pixels.
        """
        if self.detectors:
            return self
        wants_many = any(getattr(self, name) != OPTIONS[name].default for name in _OF_MANY_CLASSES)
        few = num_classes <= MOST_FEW_CLASSES and not wants_many
        num_pairs = num_classes * (num_classes - 1)
        wants_pairs = wants_many or self.screen != "auto" or self.targets is not None or self.pairs is not None
        if num_pairs > MOST_PAIRS and num_pairs * num_values > _MOST_VALUES and not wants_pairs:
            return replace(self, detectors=SO_MANY_CLASSES)
        return replace(self, detectors=FEW_CLASSES if few else self.chosen)

    @property
    def measures_individuals(self) -> bool:
        """Whether a search also finds what single images need: a statistic compares common patterns with that."""
        return COMMONALITY in self.statistics

    def measures_individuals_of(self, detector: str) -> bool:
        """Whether that search is the one of a detector: of those that search class pairs the first of the chosen."""
        searching = (name for name in self.chosen if name in known(DETECTORS))
        first = next((name for name in searching if name not in FEW_CLASSES), None)
        return self.measures_individuals and detector == first

    def to_dict(self) -> dict[str, Any]:
        """Options by name, for reports."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> ScanConfig:
        """The configuration that `to_dict` wrote.

        Raises:
            OptionError: an unknown name, or a value of another type.
        """
        from pydantic import TypeAdapter, ValidationError

        unknown = sorted(set(options) - OPTIONS.keys())
        if unknown:
            raise OptionError(
                f"expected the options of this version, found {', '.join(unknown)}: make the report again"
            )
        try:
            return TypeAdapter(cls).validate_python(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            raise OptionError(
                f"expected {OPTIONS[str(first['loc'][0])].spelled} as this version writes it, found "
                f"{first['input']!r}: make the report again"
            ) from error

    @property
    def pair_options(self) -> dict[str, Any]:
        """The options that decide a pair's result: they enter the key of journals."""
        options = self.to_dict()
        return {name: value for name, value in options.items() if OPTIONS[name].decides_pair}

    def with_preset(self, name: str) -> ScanConfig:
        """This configuration with the choices of a variant of the paper.

        Raises:
            OptionError: no preset of that name.
        """
        if name not in PRESETS:
            raise OptionError(f"expected --preset to be one of {', '.join(PRESETS)}, found {name!r}")
        return replace(self, **PRESETS[name])

    def with_budget(self, name: str) -> ScanConfig:
        """This configuration with what a named budget spends.

        Raises:
            OptionError: no budget of that name.
        """
        if name not in BUDGETS:
            raise OptionError(f"expected --budget to be one of {', '.join(BUDGETS)}, found {name!r}")
        return replace(self, **BUDGETS[name])


OPTIONS: Mapping[str, Option] = MappingProxyType(options_of(ScanConfig))
"""The options of a scan, by the name of their field."""


def _preset(objective: str, inference: str, norm: str) -> Mapping[str, Any]:
    """One variant of XMK section 5.2.2: plain statistic, Gamma null, published p and plain steps."""
    return MappingProxyType(
        {
            "detectors": ("pairwise",),
            "objective": objective,
            "inference": inference,
            "norm": norm,
            "statistics": ("plain",),
            "null": "gamma",
            "published_p": True,
            "combination": "each",
            "step_rule": "plain",
        }
    )


def _neural_cleanse(norm: str, *, mask_weight: float, goal_rate: float = 0.8) -> Mapping[str, Any]:
    """One variant of Neural Cleanse as XMK section 5.2.2 names them: norm, lambda and goal rate."""
    return MappingProxyType(
        {"detectors": ("neural-cleanse",), "norm": norm, "mask_weight": mask_weight, "goal_rate": goal_rate}
    )


BUDGETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "quick": MappingProxyType({"images_per_class": 50}),
        "standard": MappingProxyType({}),
        "thorough": MappingProxyType({"images_per_class": 250, "screen": "off", "bootstrap_draws": 3999}),
    }
)
"""Named settings of images, screens and draws; `standard` are the defaults."""

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "AD-J-P": _preset("J", "principal", "l2"),
        "AD-Jp-P": _preset("Jp", "principal", "l2"),
        "AD-Jc-P": _preset("Jc", "principal", "l2"),
        "AD-J-C": _preset("J", "corrected", "l2"),
        "AD-J-P-L1": _preset("J", "principal", "l1"),
        "sizes": MappingProxyType(
            {
                "detectors": ("pairwise", "features"),
                "statistics": ("source-adjusted", "target-contrast"),
                "inference": "principal",
                "combination": "each",
            }
        ),
        "NC-L1-1.5": _neural_cleanse("l1", mask_weight=1.5),
        "NC-L2-1.5": _neural_cleanse("l2", mask_weight=1.5),
        "NC-L1-1.0": _neural_cleanse("l1", mask_weight=1.0),
        "NC-L1-1.5-0.5": _neural_cleanse("l1", mask_weight=1.5, goal_rate=0.5),
    }
)
