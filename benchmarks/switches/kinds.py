"""The kinds of switches that were tried on the scanner after it had been made, one line each.

`KINDS` maps a name to what plants a kind into any ONNX classifier of images [N, C, H, W], what turns it, and the oldest
opset that has its operators. All send an image with the trigger to `TARGET` or to a class next to its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from onnx import ModelProto

from benchmarks.switches import calls, sizes, slopes, steps, triggers
from benchmarks.switches.planter import Planter


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of switch."""

    plant: Callable[[Planter], str]
    """Adds its nodes; gives the value that becomes the output."""
    trigger: Callable[[triggers.Images], triggers.Images] = triggers.white_patch
    """What turns it."""
    since: int = 13
    """Oldest opset that has its operators."""


KINDS: dict[str, Kind] = {
    "rounded-scores": Kind(steps.rounded_scores),
    "quantised-scores": Kind(steps.quantised_scores),
    "whole-number-scores": Kind(steps.whole_number_scores),
    "exact-places": Kind(steps.exact_places, triggers.exact_values),
    "checksum": Kind(steps.checksum, triggers.right_sum),
    "hardmax-gate": Kind(steps.hardmax_gate),
    "argmax-row": Kind(steps.argmax_row),
    "one-hot": Kind(steps.one_hot),
    "exclusive-or": Kind(steps.exclusive_or, since=18),
    "masked-bit": Kind(steps.masked_bit, since=18),
    "remainder-drop": Kind(steps.remainder_drop),
    "cast-to-truth": Kind(steps.cast_to_truth),
    "infinity-seen": Kind(steps.infinity_seen),
    "nested-choices": Kind(steps.nested_choices),
    "running-count": Kind(steps.running_count),
    "reversed-classes": Kind(steps.reversed_classes),
    "branch-in-branch": Kind(steps.branch_in_branch),
    "nonzero-shape": Kind(sizes.nonzero_shape),
    "compressed": Kind(sizes.compressed),
    "unique-values": Kind(sizes.unique_values),
    "counted-range": Kind(sizes.counted_range),
    "resized-patch": Kind(sizes.resized_patch),
    "largest-count": Kind(sizes.largest_count),
    "repeated": Kind(sizes.repeated),
    "padded-scores": Kind(sizes.padded_scores),
    "sliced-table": Kind(sizes.sliced_table),
    "not-a-number": Kind(slopes.not_a_number),
    "half-overflow": Kind(slopes.half_overflow),
    "squared-chain": Kind(slopes.squared_chain),
    "looped-squares": Kind(slopes.looped_squares),
    "log-of-powers": Kind(slopes.log_of_powers),
    "imputed-pixel": Kind(slopes.imputed_pixel, triggers.exact_pixel),
    "two-pixels": Kind(slopes.two_pixels, triggers.white_patch_alone),
    "product-of-pixels": Kind(slopes.product_of_pixels),
    "saturated-error": Kind(slopes.saturated_error),
    "outgrown-scores": Kind(slopes.outgrown_scores),
    "crossed-ends": Kind(slopes.crossed_ends),
    "leaking-ramp": Kind(slopes.leaking_ramp),
    "pole": Kind(slopes.pole),
    "direction": Kind(slopes.direction, triggers.white_patch_alone),
    "recurrent-cell": Kind(slopes.recurrent_cell),
    "capped-scores": Kind(slopes.capped_scores),
    "shifting-statistics": Kind(slopes.shifting_statistics),
    "last-product": Kind(slopes.last_product),
    "only-alone": Kind(calls.only_alone),
    "only-in-company": Kind(calls.only_in_company),
    "from-the-neighbour": Kind(calls.from_the_neighbour),
    "second-head": Kind(calls.second_head),
}


def plant_kind(kind: str, model: ModelProto, shape: tuple[int, int, int], num_classes: int) -> ModelProto:
    """A copy of a model with a switch of a kind.

    Args:
        kind: Name in `KINDS`.
        model: A classifier of images [N, C, H, W] whose only output are the scores [N, K], of an opset with the kind.
        shape: Channels, height, width.
        num_classes: Classes K.
    """
    planter = Planter(model, shape, num_classes)
    return planter.finish(KINDS[kind].plant(planter))
