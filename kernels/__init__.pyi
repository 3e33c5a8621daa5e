"""The public names and where each is defined; `lazy_loader` and type checkers read them here."""

from .agreement import agreement_scores, largest_sums, normal_scores, null_of_agreement
from .bootstrap import (
    ExtremeTests,
    LeftOut,
    bootstrap_log_p_values,
    calibrated_p_value,
    count_excluded,
    judge_extremes,
    judge_targets_apart,
)
from .confusion import size_offset
from .embedding import add
from .nulls import NULL_FAMILIES, FitStatus, NullFamily
from .order import log_order_p_value, order_p_value, quantile_rank, quantile_with_error
from .outliers import MOST_TOGETHER, largest_together, null_of_largest
from .rates import judge_rates
from .transfer import transferability

__all__ = [
    "MOST_TOGETHER",
    "NULL_FAMILIES",
    "ExtremeTests",
    "FitStatus",
    "LeftOut",
    "NullFamily",
    "add",
    "agreement_scores",
    "bootstrap_log_p_values",
    "calibrated_p_value",
    "count_excluded",
    "judge_extremes",
    "judge_rates",
    "judge_targets_apart",
    "largest_sums",
    "largest_together",
    "log_order_p_value",
    "normal_scores",
    "null_of_agreement",
    "null_of_largest",
    "order_p_value",
    "quantile_rank",
    "quantile_with_error",
    "size_offset",
    "transferability",
]
