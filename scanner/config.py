"""ScanConfig: every choice of a scan, under the names of the command line's options; the paper's variants by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any

from backscan.scanner.errors import OptionError

# What decides a pair's result. Threshold, null and inference are not here: they may change on resume.
_PAIR_FIELDS = (
    "images_per_class",
    "preprocess",
    "mean",
    "std",
    "range",
    "channel_order",
    "image_size",
    "output_name",
    "cut",
    "objective",
    "norm",
    "box",
    "step_rule",
    "goal_rate",
    "max_size",
    "max_steps",
    "seed",
    "device",
)


@dataclass(frozen=True, slots=True)
class ScanConfig:
    """Options of one scan. `None` means: decided by the scan, as the option's help says."""

    images_per_class: int = 100
    """Images a class for the search, after a fifth was set aside for verification."""
    targets: tuple[int, ...] | None = None
    """Target classes to test; None is all."""
    pairs: tuple[tuple[int, int], ...] | None = None
    """Pairs (source, target) to test; None is all."""
    preprocess: str = "auto"
    """Name of a preprocessing candidate, or `auto`."""
    mean: tuple[float, ...] | None = None
    """Mean of the normalisation, one or one a channel; overrides `preprocess`."""
    std: tuple[float, ...] | None = None
    """Standard deviation of the normalisation; overrides `preprocess`."""
    range: tuple[float, float] | None = None
    """Values that black and white pixels take before mean and std; overrides `preprocess`."""
    channel_order: str | None = None
    """`rgb` or `bgr`; overrides `preprocess`."""
    image_size: tuple[int, int] | None = None
    """Height and width for models that leave them free."""
    min_accuracy: float | None = None
    """Least clean accuracy; None is half the way between chance and 1."""
    output_name: str | None = None
    """Model output to scan; None is found."""
    screen: str = "auto"
    """`on` searches some pairs after a short look at all, `off` all, `auto` some where there are more than 5000."""
    detectors: tuple[str, ...] = ("pairwise", "features")
    """Names in the table of detectors."""
    cut: str | None = None
    """Tensor that detectors of features add patterns to; None is the output of the first convolution, if it can be."""
    objective: str | None = None
    """Name in the table of objectives; None is each detector's own."""
    norm: str = "l2"
    """Name in the table of norms."""
    mask_weight: float = 1.5
    """Factor by which Neural Cleanse and TABOR adapt the weight of the mask; 1 keeps it (lambda of XMK 5.2.2)."""
    anomaly_threshold: float = 2.0
    """Anomaly index above which a target of Neural Cleanse or TABOR is named (theta_MAD)."""
    box: bool = False
    """Box constraint on the perturbed image instead of clipping it."""
    step_rule: str = "unit"
    """Name in the table of step rules."""
    goal_rate: float = 0.8
    """Share of source images to be sent to the target (pi)."""
    max_size: float | None = None
    """Largest norm tried, in the units of the detector's space; None is a fixed share of what is large there."""
    max_steps: int = 300
    """Largest number of gradient steps a pair."""
    statistics: tuple[str, ...] = ("source-adjusted", "target-contrast")
    """Names in the table of statistics; each gives a p-value of its own."""
    inference: str = "principal"
    """Name in the table of inferences."""
    order: int = 3
    """Order of the confusion polynomial (M)."""
    null: str = "inverse-gaussian"
    """Name in the table of null families."""
    significance: float = 0.05
    """Threshold on the deciding p-value (theta)."""
    published_p: bool = False
    """Let the published p-value decide instead of the calibrated one."""
    bootstrap_draws: int = 999
    """Draws of the calibration."""
    seed: int = 0
    """Seed of every random choice."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    time_limit: float | None = None
    """Seconds the search may take; None is no limit."""
    threads: int | None = None
    """Processor threads; None is all."""
    images_in_report: bool = True
    """Whether example images enter reports (`--no-images`)."""
    sandbox: bool = True
    """Whether the model is opened in a limited child process."""

    def check(self) -> None:
        """Refuse values out of range and names that no table has.

        Raises:
            OptionError: the option, what was expected and what was found.
        """
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OptionError(f"expected {_flag(name)} between {low:g} and {high:g}, found {value:g}")
        for name, choices in _choices().items():
            given = getattr(self, name)
            for value in given if isinstance(given, tuple) else (given,):
                if value is not None and value not in choices:
                    raise OptionError(f"expected {_flag(name)} to be one of {', '.join(choices)}, found {value!r}")
        for name in ("detectors", "statistics"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise OptionError(
                    f"expected at least one {_flag(name)}, each of them once, found {', '.join(given) or 'none'}"
                )
        for name in ("mean", "std", "range"):
            if not all(math.isfinite(value) for value in getattr(self, name) or ()):
                raise OptionError(f"expected {_flag(name)} of finite numbers, found {getattr(self, name)}")
        if self.cut is not None and "features" not in self.detectors:
            raise OptionError(f"expected --detector features with --cut, found {', '.join(self.detectors)}: add it")
        if self.image_size is not None and min(self.image_size) < 1:
            raise OptionError("expected --image-size of at least 1 1, found {} {}".format(*self.image_size))
        self._check_draws()

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
        """Statistics of all chosen detectors of class pairs: they share one threshold."""
        from backscan.scanner.detectors import DETECTORS

        return max(1, sum(name in DETECTORS for name in self.detectors) * len(self.statistics))

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

        unknown = sorted(set(options) - {entry.name for entry in fields(cls)})
        if unknown:
            raise OptionError(
                f"expected the options of this version, found {', '.join(unknown)}: make the report again"
            )
        try:
            return TypeAdapter(cls).validate_python(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            name = _flag(str(first["loc"][0]))
            raise OptionError(
                f"expected {name} as this version writes it, found {first['input']!r}: make the report again"
            ) from error

    @property
    def pair_options(self) -> dict[str, Any]:
        """The options that decide a pair's result: they enter the key of journals."""
        options = self.to_dict()
        return {name: options[name] for name in _PAIR_FIELDS}

    def with_preset(self, name: str) -> ScanConfig:
        """This configuration with the choices of a variant of the paper.

        Raises:
            OptionError: no preset of that name.
        """
        if name not in PRESETS:
            raise OptionError(f"expected --preset to be one of {', '.join(PRESETS)}, found {name!r}")
        return replace(self, **PRESETS[name])


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("images_per_class", 5, 1_000_000),
    ("goal_rate", 0.05, 1.0),
    ("significance", 1e-6, 0.5),
    ("bootstrap_draws", 0, 1_000_000),
    ("order", 1, 8),
    ("max_size", 1e-9, 1e9),
    ("mask_weight", 1.0, 100.0),
    ("anomaly_threshold", 0.0, 1e6),
    ("max_steps", 1, 1_000_000),
    ("min_accuracy", 0.0, 1.0),
    ("time_limit", 1.0, 1e9),
    ("threads", 1, 4096),
    ("seed", 0, 2**63 - 1),
)


def _choices() -> dict[str, tuple[str, ...]]:
    """Allowed values of the options that name a table entry; read late so that `--help` loads no numba."""
    from backscan.kernels.nulls import NULL_FAMILIES
    from backscan.scanner.detectors import DETECTORS, TARGET_DETECTORS
    from backscan.scanner.images.preprocessing import CANDIDATES
    from backscan.scanner.inference.statistics import STATISTICS
    from backscan.scanner.inference.variants import INFERENCES
    from backscan.scanner.search.norms import NORMS
    from backscan.scanner.search.objectives import OBJECTIVES
    from backscan.scanner.search.steps import STEP_RULES

    return {
        "detectors": (*DETECTORS, *TARGET_DETECTORS),
        "objective": tuple(OBJECTIVES),
        "norm": tuple(NORMS),
        "step_rule": tuple(STEP_RULES),
        "statistics": tuple(STATISTICS),
        "inference": tuple(INFERENCES),
        "null": tuple(NULL_FAMILIES),
        "preprocess": ("auto", *CANDIDATES),
        "channel_order": ("rgb", "bgr"),
        "device": ("auto", "cpu", "cuda"),
        "screen": ("auto", "on", "off"),
    }


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
            "step_rule": "plain",
        }
    )


def _neural_cleanse(norm: str, *, mask_weight: float, goal_rate: float = 0.8) -> Mapping[str, Any]:
    """One variant of Neural Cleanse as XMK section 5.2.2 names them: norm, lambda and goal rate."""
    return MappingProxyType(
        {
            "detectors": ("neural-cleanse",),
            "norm": norm,
            "mask_weight": mask_weight,
            "goal_rate": goal_rate,
        }
    )


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "AD-J-P": _preset("J", "principal", "l2"),
        "AD-Jp-P": _preset("Jp", "principal", "l2"),
        "AD-Jc-P": _preset("Jc", "principal", "l2"),
        "AD-J-C": _preset("J", "corrected", "l2"),
        "AD-J-P-L1": _preset("J", "principal", "l1"),
        "NC-L1-1.5": _neural_cleanse("l1", mask_weight=1.5),
        "NC-L2-1.5": _neural_cleanse("l2", mask_weight=1.5),
        "NC-L1-1.0": _neural_cleanse("l1", mask_weight=1.0),
        "NC-L1-1.5-0.5": _neural_cleanse("l1", mask_weight=1.5, goal_rate=0.5),
    }
)


def _flag(name: str) -> str:
    """The command line's spelling of a field."""
    return "--" + {"detectors": "detector", "statistics": "statistic"}.get(name, name).replace("_", "-")
