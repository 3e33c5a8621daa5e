"""What the tables of the HTML page hold, as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from backscan.scanner.reports.summary import detector_name
from backscan.scanner.reports.words import calibrated_text, class_name, number, p_text, pair_name, percent
from backscan.scanner.results import TARGET_MASK, TARGET_REACH, Inference, ScanResult, TargetResult, Verdict

_MOST_TARGETS = 25
_VALUE_NAMES = {
    "margin": "Largest margin",
    "weights-and-noise": "Mean weight in the last layer",
    TARGET_REACH: "By windows",
    "mutual-transfer": "",
}
"""What statistics of targets compare, in words; of all others those of rates compare the rates, and the rest masks."""


def collateral(result: ScanResult) -> list[dict[str, Any]]:
    """What a detected pattern does to images of the other classes; of an ordinary one that says nothing."""
    replay = result.verification if result.verdict is Verdict.BACKDOOR_DETECTED else None
    return [
        {
            "name": class_name(result.model, each.source),
            "width": f"{100 * each.rate:.1f}",
            "rate": percent(each.rate),
            "initial_rate": percent(each.initial_rate),
            "num_images": each.num_images,
        }
        for each in (replay.collateral if replay else ())
    ]


def detectors(result: ScanResult) -> list[dict[str, Any]]:
    """What each detector and statistic concluded."""
    return [
        {
            "name": detector_name(each),
            "inference": each.inference,
            "num_pairs": each.num_pairs,
            "pair": pair_name(result.model, each.source, each.target) if each.target is not None else "none",
            "published": p_text(each.p_value).removeprefix("= "),
            "calibrated": calibrated_text(each).removeprefix("= "),
            "index": number(each.anomaly_index) if each.anomaly_index is not None else "",
            "part": _part(each),
            "remarks": each.remarks,
        }
        for each in result.detectors
    ]


def _part(inference: Inference) -> str:
    """What a conclusion does for the verdict, as a cell."""
    if inference.part_of:
        return f"part of {inference.part_of.replace('-', ' ')}"
    return ("decides, detected" if inference.detected else "decides") if inference.decides else "informs"


def targets(result: ScanResult) -> list[dict[str, Any]]:
    """For every detector that searched target classes, what it found for each, or for those that stand out most."""
    tables = {}
    for inference in result.detectors:
        entries = [entry for entry in result.targets if entry.detector == inference.detector]
        if entries and inference.detector not in tables:
            shown = _standing_out(inference, entries)
            tables[inference.detector] = {
                "detector": inference.detector,
                **_target_table(result, inference, shown),
                "others": len(entries) - len(shown),
            }
    return list(tables.values())


def _standing_out(inference: Inference, entries: Sequence[TargetResult]) -> Sequence[TargetResult]:
    """All of them in their order, of very many those that stand out most, the first one first."""
    if len(entries) <= _MOST_TARGETS:
        return entries
    sign = 1.0 if _compares_masks(inference) else -1.0  # masks are small

    def place(entry: TargetResult) -> tuple[bool, float]:
        known = [sign * each for each in (entry.value, entry.nearness) if each is not None]
        return entry.target != inference.target, min(known, default=math.inf if entry.rate is None else -entry.rate)

    return sorted(entries, key=place)[:_MOST_TARGETS]


def _compares_masks(inference: Inference) -> bool:
    return inference.statistic == TARGET_MASK or not (inference.is_of_rates or inference.statistic in _VALUE_NAMES)


def _value_name(inference: Inference) -> str:
    """What is compared beside the rate; nothing where that is the rate itself."""
    if _compares_masks(inference):
        return f"Size of the mask ({inference.norm.upper()})"
    return _VALUE_NAMES.get(inference.statistic, "")


def _target_table(result: ScanResult, inference: Inference, entries: Sequence[TargetResult]) -> dict[str, Any]:
    """Columns and rows; a column of which nothing is known is left out."""
    columns = {
        "Target": [f"{_name(result, each)}{' (most extreme)' * (each.target == inference.target)}" for each in entries],
        _value_name(inference): [number(each.value) if each.value is not None else "" for each in entries],
        "In the last layer": [number(each.nearness) if each.nearness is not None else "" for each in entries],
        "Index": _indices(inference, entries),
        "Images that go there": [percent(each.rate) if each.rate is not None else "" for each in entries],
        "Search": [each.status.value.replace("_", " ") for each in entries],
    }
    told = {name: cells for name, cells in columns.items() if name and any(cells)}
    rows = zip(*told.values(), strict=True)
    chosen = [each.target == inference.target for each in entries]
    return {
        "columns": list(told),
        "rows": [{"chosen": is_chosen, "cells": cells} for is_chosen, cells in zip(chosen, rows, strict=True)],
    }


def _name(result: ScanResult, entry: TargetResult) -> str:
    return class_name(result.model, entry.target)


def _indices(inference: Inference, entries: Sequence[TargetResult]) -> list[str]:
    """How far each mask stands out, of detectors with an index; empty cells of others."""
    indexed = inference.anomaly_index is not None and inference.null is None and inference.values
    values = inference.values[0] if indexed else ()
    return [number(values[each.target]) if each.target < len(values) else "" for each in entries]


def candidates(result: ScanResult) -> list[dict[str, Any]]:
    """The ways of preprocessing that were tried."""
    record = result.preprocessing
    return [
        {
            "name": each.name,
            "accuracy": percent(each.accuracy),
            "num_images": each.num_images,
            "p": p_text(each.p_value).removeprefix("= "),
            "tied": each.tied,
            "chosen": record is not None and each.name == record.name,
        }
        for each in (record.candidates if record else ())
    ]


def facts(result: ScanResult) -> list[dict[str, Any]]:
    """Name and value of everything needed to repeat the scan, in tables."""
    provenance = result.provenance
    run = {
        "version": provenance.version,
        "ended": result.finished or "not recorded",
        "python": provenance.python,
        "platform": provenance.platform,
        "device": provenance.device,
        **({"precision": provenance.precision} if provenance.precision else {}),
        "seed": provenance.seed,
        "protections": provenance.protections,
        **provenance.libraries,
    }
    timings = {name: f"{seconds:.2f} s" for name, seconds in result.timings.items()}
    tables = {
        "Model and data": _file_facts(result),
        "Options": result.config,
        "Software and machine": run,
        "Seconds of wall time": timings,
    }
    return [
        {"title": title, "rows": [(key, _cell_text(value)) for key, value in rows.items()]}
        for title, rows in tables.items()
        if rows
    ]


def _file_facts(result: ScanResult) -> dict[str, object]:
    model = result.model
    told: dict[str, object] = {"file": model.name, "sha256": model.sha256, "bytes": f"{model.num_bytes:,}"}
    told["classes"] = model.num_classes
    if model.signature is not None:
        names = ("input_name", "input_shape", "layout", "dtype", "output_name", "output_kind", "opset", "producer")
        told |= {name.replace("_", " "): getattr(model.signature, name) for name in names}
    if result.data is not None:
        told |= {"data": result.data.name, "data digest": result.data.digest}
    return told


def _cell_text(value: object) -> str:
    if value is None:
        return "default"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
