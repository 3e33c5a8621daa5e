"""One self-contained page: readable offline, on paper, in the dark, on a phone, and without a mouse."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from backscan.scanner.reports import plots
from backscan.scanner.reports.basis import deciding
from backscan.scanner.reports.display import Display
from backscan.scanner.reports.extent import route
from backscan.scanner.reports.matrix import LEGEND, Matrix, size_matrix
from backscan.scanner.reports.summary import detector_name, summarise
from backscan.scanner.reports.text import printable
from backscan.scanner.reports.words import (
    IMAGE,
    calibrated_text,
    class_name,
    counted,
    number,
    overall_text,
    p_text,
    pair_name,
    percent,
    shorten,
)
from backscan.scanner.results import FoundPattern, Inference, ScanResult, Verdict, find_pair

_TEMPLATES = Path(__file__).parent / "templates"


def render(results: Sequence[ScanResult], display: Display) -> str:
    """The page of one scan or of several; nothing in it needs the network and no name can become markup."""
    del display  # a file
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scans = [_view(result, index, of=len(results)) for index, result in enumerate(results)]
    page: str = (
        _environment()
        .get_template("page.html")
        .render(
            title=_title(results),
            version=results[0].provenance.version if results else "",
            script=Markup(script),  # noqa: S704 - ours, from the package
            script_digest=f"sha256-{digest}",
            scans=scans,
            legend=LEGEND,
            counted=counted,
        )
    )
    return page


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _visible(value: object) -> object:
    """Names from the file without characters that reorder or hide text; markup is ours and stays."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else printable(value)


def _title(results: Sequence[ScanResult]) -> str:
    if len(results) == 1:
        return f"{summarise(results[0]).label}: {shorten(results[0].model.name)}"
    return f"backscan: {counted(len(results), 'model')}"


def _view(result: ScanResult, index: int, *, of: int) -> dict[str, Any]:
    """What the template shows of one scan."""
    summary = summarise(result)
    name = f"m{index}-"  # begins every id of this scan
    return {
        "id": name.rstrip("-"),
        "label": f"Model {index + 1}: " if of > 1 else "",
        "result": result,
        "model": result.model,
        "verdict": result.verdict.value,
        "summary": summary,
        "pair": route(result),
        "p": overall_text(result).removeprefix("= ") if result.calibrated_p_value is not None else "",
        "patterns": [_pattern(result, each, f"{name}p{index}-") for index, each in enumerate(result.patterns)],
        "examples": _examples(result),
        "matrices": _matrices(result, name),
        "figures": _figures(result, name),
        "collateral": _collateral(result),
        "detectors": [_detector(result, each) for each in result.detectors],
        "targets": _targets(result),
        "candidates": _candidates(result),
        "tables": _tables(result),
    }


def _pattern(result: ScanResult, found: FoundPattern, prefix: str) -> dict[str, Any]:
    pair = pair_name(result.model, found.source, found.target)
    norms = f"L2 {number(found.size_l2)}, L1 {number(found.size_l1)}"
    largest = number(found.largest_change)
    if found.space == IMAGE:
        description = f"Recovered pattern for {pair}, red adds light, blue takes it away"
        caption = (
            f"Signed change of each pixel, amplified. True size: {norms}; largest change of a pixel {largest} of the "
            "range from black to white."
        )
    else:
        description = f"Recovered pattern for {pair} on {found.space}, mean and strongest channels"
        caption = (
            f"What is added to {found.space} inside the model: the mean of its channels and the strongest of them, "
            f"amplified. True size in units of the features: {norms}; largest change {largest}."
        )
    return {
        "pair": pair,
        "title": "Recovered pattern" if result.verdict is Verdict.BACKDOOR_DETECTED else "Pattern of the extreme pair",
        "space": found.space,
        "picture": Markup(plots.pattern_picture(found, prefix=prefix)),  # noqa: S704 - drawn here
        "description": description,
        "caption": caption,
        "norms": norms,
    }


def _examples(result: ScanResult) -> list[dict[str, str]]:
    return [
        {
            "label": class_name(result.model, each.label),
            "decision_before": class_name(result.model, each.decision_before),
            "decision_after": class_name(result.model, each.decision_after),
            "before": each.before_png,
            "after": each.after_png,
        }
        for each in result.examples
    ]


def _by_detector(result: ScanResult) -> dict[str, Inference]:
    """The first inference of every detector that searched pairs, the deciding one first."""
    first = deciding(result)
    ordered = ([first] if first else []) + list(result.detectors)
    searched = {pair.detector for pair in result.pairs}
    return {each.detector: each for each in reversed(ordered) if each.detector in searched}


def _matrices(result: ScanResult, name: str) -> list[Matrix]:
    return [
        size_matrix(
            result,
            inference,
            [pair for pair in result.pairs if pair.detector == detector],
            name=f"{name}d{index}-",
        )
        for index, (detector, inference) in enumerate(_by_detector(result).items())
    ]


def _figures(result: ScanResult, name: str) -> list[dict[str, Any]]:
    figures = []
    for index, inference in enumerate(result.detectors):
        label = shorten(pair_name(result.model, inference.source, inference.target))
        svg = plots.histogram(inference, prefix=f"{name}h{index}-")
        null = f"with the fitted {inference.null.family} null" if inference.null else "(no null was fitted)"
        caption = (
            f"Histogram of the statistics of {detector_name(inference)} {null}. Most extreme: {label}; "
            f"published p {p_text(inference.p_value)}, calibrated p {calibrated_text(inference)}."
        )
        figures.append((svg, f"Histogram of the statistics of {detector_name(inference)}", caption))
    for index, (detector, inference) in enumerate(_by_detector(result).items()):
        figures.append(_curves(result, detector, inference, prefix=f"{name}d{index}-curves-"))
    return [
        {"svg": Markup(svg), "description": description, "caption": caption}  # noqa: S704 - drawn here
        for svg, description, caption in figures
        if svg
    ]


def _curves(result: ScanResult, detector: str, inference: Inference, *, prefix: str) -> tuple[str, str, str]:
    pairs = [pair for pair in result.pairs if pair.detector == detector]
    found = find_pair(result.pairs, inference.key)
    label = shorten(pair_name(result.model, inference.source, inference.target))
    goal = float(result.config.get("goal_rate") or 0.0)
    svg = plots.curves(pairs, found, goal=goal, prefix=prefix)
    shown = len(plots.drawable(pairs))
    share = "all" if shown == len(pairs) else f"the {shown} smallest of {len(pairs)}"
    caption = (
        f"Rate to the target against size during the search, {share} pairs. Most extreme: {label}. "
        "Choose a cell above to see its curve."
    )
    return svg, f"Rate against size for {share} pairs of {detector}", caption


def _collateral(result: ScanResult) -> list[dict[str, Any]]:
    replay = result.verification
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


def _part(inference: Inference) -> str:
    """What a conclusion does for the verdict, as a cell."""
    if inference.part_of:
        return f"part of {inference.part_of.replace('-', ' ')}"
    return ("decides, detected" if inference.detected else "decides") if inference.decides else "informs"


def _detector(result: ScanResult, inference: Inference) -> dict[str, Any]:
    return {
        "name": detector_name(inference),
        "inference": inference.inference,
        "num_pairs": inference.num_pairs,
        "pair": pair_name(result.model, inference.source, inference.target) if inference.target is not None else "none",
        "published": p_text(inference.p_value).removeprefix("= "),
        "calibrated": calibrated_text(inference).removeprefix("= "),
        "index": number(inference.anomaly_index) if inference.anomaly_index is not None else "",
        "part": _part(inference),
        "remarks": inference.remarks,
    }


def _targets(result: ScanResult) -> list[dict[str, Any]]:
    """For every detector that searched target classes, what it found for each."""
    tables = []
    for inference in result.detectors:
        rows = [entry for entry in result.targets if entry.detector == inference.detector]
        indices = inference.values[0] if rows and inference.null is None and inference.values else ()
        if rows:
            tables.append(
                {
                    "detector": inference.detector,
                    "value": "Largest margin"
                    if inference.statistic == "margin"
                    else f"Size of the mask ({inference.norm})",
                    "rows": [
                        {
                            "name": class_name(result.model, entry.target),
                            "value": number(entry.value),
                            "rate": percent(entry.rate),
                            "status": entry.status.value.replace("_", " "),
                            "index": number(indices[entry.target]) if entry.target < len(indices) else "",
                            "chosen": entry.target == inference.target,
                        }
                        for entry in rows
                    ],
                }
            )
    return tables


def _candidates(result: ScanResult) -> list[dict[str, Any]]:
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


def _tables(result: ScanResult) -> list[dict[str, Any]]:
    """Name and value of everything needed to repeat the scan."""
    model, provenance = result.model, result.provenance
    facts: dict[str, object] = {"file": model.name, "sha256": model.sha256, "bytes": f"{model.num_bytes:,}"}
    facts["classes"] = model.num_classes
    if model.signature is not None:
        for field in (
            "input_name",
            "input_shape",
            "layout",
            "dtype",
            "output_name",
            "output_kind",
            "opset",
            "producer",
        ):
            facts[field.replace("_", " ")] = getattr(model.signature, field)
    if result.data is not None:
        facts |= {"data": result.data.name, "data digest": result.data.digest}
    run = {
        "version": provenance.version,
        "python": provenance.python,
        "platform": provenance.platform,
        "device": provenance.device,
        "seed": provenance.seed,
        "protections": provenance.protections,
        **provenance.libraries,
    }
    timings = {name: f"{seconds:.2f} s" for name, seconds in result.timings.items()}
    tables = {"Model and data": facts, "Options": result.config, "Software and machine": run, "Seconds": timings}
    return [
        {"title": title, "rows": [(key, _cell_text(value)) for key, value in rows.items()]}
        for title, rows in tables.items()
        if rows
    ]


def _cell_text(value: object) -> str:
    if value is None:
        return "default"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
