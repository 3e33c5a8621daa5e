"""One self-contained page: readable offline, on paper, in the dark, on a phone, and without a mouse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from backscan.scanner.reports import fragile, html_tables, plots
from backscan.scanner.reports.basis import deciding, rests_on_statistics
from backscan.scanner.reports.display import Display
from backscan.scanner.reports.extent import route
from backscan.scanner.reports.glossary import GLOSSARY
from backscan.scanner.reports.matrix import LEGEND, size_matrix
from backscan.scanner.reports.page import dated, filled
from backscan.scanner.reports.rules import techniques_of
from backscan.scanner.reports.sizes import INSIDE, pattern_in_words, place_of
from backscan.scanner.reports.summary import detector_name, summarise, why
from backscan.scanner.reports.words import (
    calibrated_text,
    class_name,
    counted,
    overall_text,
    p_text,
    pair_name,
    shorten,
)
from backscan.scanner.results import IMAGE, FoundPattern, Inference, ScanResult, Verdict, find_pair

_ORDINARY = {
    Verdict.NOT_DETECTED: "Every model has a smallest pattern that changes its decisions; this one is not abnormal. ",
    Verdict.INCONCLUSIVE: "Every model has a smallest pattern that changes its decisions; nothing rests on this one. ",
}


def render(results: Sequence[ScanResult], display: Display) -> str:
    """The page of one scan or of several; nothing in it needs the network and no name can become markup."""
    del display  # a file
    values = {
        "title": _title(results),
        "version": results[0].provenance.version if results else "",
        "scans": [_view(result, index, of=len(results)) for index, result in enumerate(results)],
        "dated": dated(results),
        "legend": LEGEND,
        "glossary": GLOSSARY,
        "counted": counted,
    }
    return filled("page.html", "page.js", values)


def _title(results: Sequence[ScanResult]) -> str:
    if len(results) == 1:
        return f"{summarise(results[0]).label}: {shorten(results[0].model.name)}"
    return f"backscan: {counted(len(results), 'model')}"


def _view(result: ScanResult, index: int, *, of: int) -> dict[str, Any]:
    """What the template shows of one scan."""
    name = f"m{index}-"  # begins every id of this scan
    searches, by_targets = _searches(result, name), _by_targets(result)
    shown = 0 if by_targets else 1
    return {
        "id": name.rstrip("-"),
        "label": f"Model {index + 1}: " if of > 1 else "",
        "result": result,
        "model": result.model,
        "verdict": result.verdict.value,
        "summary": summarise(result),
        "why": why(result),
        "pair": route(result),
        "p": overall_text(result).removeprefix("= ") if result.calibrated_p_value is not None else "",
        "patterns": [_pattern(result, each, f"{name}p{index}-") for index, each in enumerate(result.patterns)],
        "examples": _examples(result),
        "shown_searches": searches[:shown],
        "other_searches": searches[shown:],
        "histograms": _histograms(result, name),
        "techniques": techniques_of(result),
        "collateral": html_tables.collateral(result),
        "detectors": html_tables.detectors(result),
        "targets": html_tables.targets(result),
        "by_targets": by_targets,
        "rests": rests_on_statistics(result),
        "candidates": html_tables.candidates(result),
        "fragile": _fragile(result),
        "tables": html_tables.facts(result),
    }


def _pattern(result: ScanResult, found: FoundPattern, prefix: str) -> dict[str, Any]:
    pair = pair_name(result.model, found.source, found.target)
    whole = route(result) or pair
    told = "" if whole == pair else f"Found on images of {class_name(result.model, found.source)}. "
    told += _ORDINARY.get(result.verdict, "")
    place = place_of(result, found.space)
    where = f" {place}" if place else ""
    if found.picture is not None and result.space is not None:
        description = f"What the recovered pattern for {pair} changes of {result.space.card}"
        caption = (
            f"{told}By the pattern{where} {result.space.about}. What that changes of {result.space.card}: red adds "
            f"light, blue takes it away, amplified. {pattern_in_words(result, found)}."
        )
    elif found.mask is not None:
        description = f"Recovered content for {pair}, the redder the brighter"
        caption = f"{told}The redder, the brighter is what hides the image there. It {pattern_in_words(result, found)}."
    elif found.space == IMAGE:
        description = f"Recovered pattern for {pair}, red adds light, blue takes it away"
        caption = f"{told}Red adds light, blue takes it away, amplified. It {pattern_in_words(result, found)}."
    else:
        description = f"Recovered pattern for {pair}{where}, mean and strongest channels"
        caption = (
            f"{told}What is added{where}: the mean of its channels and the strongest of them, amplified. "
            f"{pattern_in_words(result, found)}."
        )
    title = "Recovered pattern" if result.verdict is Verdict.BACKDOOR_DETECTED else "Pattern of the extreme pair"
    return {
        "pair": whole,
        "title": f"{title}{where}",
        "where": where,
        "picture": Markup(plots.pattern_picture(found, prefix=prefix)),  # noqa: S704 - drawn here
        "single": (found.picture or found.values).shape[:1] == (1,) and where != f" {INSIDE}",
        "description": description,
        "caption": caption,
        "size": pattern_in_words(result, found),
    }


def _fragile(result: ScanResult) -> dict[str, Any]:
    """The pairs closest to confusion, with what they are."""
    return {
        "title": fragile.TITLE,
        "note": f"{fragile.ADVICE.replace('`', '')}{fragile.left_out(result)}",
        "columns": fragile.COLUMNS,
        "rows": [{"chosen": False, "cells": cells} for cells in fragile.rows(result)],
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


def _by_targets(result: ScanResult) -> str:
    """The detector of target classes that the verdict rests on; empty if it rests on pairs."""
    basis = _basis(result)
    return basis if basis and any(each.detector == basis for each in result.targets) else ""


def _basis(result: ScanResult) -> str:
    """The detector whose pattern stands for the verdict."""
    first = deciding(result)
    return result.patterns[0].detector if result.patterns else first.detector if first else ""


def _searched(result: ScanResult) -> list[Inference]:
    """One inference of every detector that searched pairs, that behind the verdict first; each marks a pair."""
    basis, shown = _basis(result), {each.key for each in result.patterns}
    behind = deciding(result)
    chosen: dict[str, Inference] = {}
    for detector in dict.fromkeys(each.detector for each in result.detectors):
        own = [each for each in result.detectors if each.detector == detector]
        own.sort(key=lambda each: (each.key not in shown, each is not behind))
        chosen[detector] = own[0]
    pairs = {pair.detector for pair in result.pairs}
    return sorted((each for each in chosen.values() if each.detector in pairs), key=lambda e: e.detector != basis)


def _searches(result: ScanResult, name: str) -> list[dict[str, Any]]:
    """The sizes of all pairs and the curves of each detector; the first one's verdict rests on it."""
    basis = _basis(result) if rests_on_statistics(result) else ""
    return [
        {
            "matrix": size_matrix(
                result,
                inference,
                [pair for pair in result.pairs if pair.detector == inference.detector],
                name=f"{name}d{index}-",
            ),
            "where": place_of(result, inference.space) or "on the image",
            "behind": inference.detector == basis,
            "curves": _curves(result, inference, prefix=f"{name}d{index}-curves-"),
        }
        for index, inference in enumerate(_searched(result))
    ]


def _histograms(result: ScanResult, name: str) -> list[dict[str, Any]]:
    figures = []
    for index, inference in enumerate(result.detectors):
        label = shorten(pair_name(result.model, inference.source, inference.target))
        svg = plots.histogram(inference, prefix=f"{name}h{index}-")
        null = f"with the fitted {inference.null.family} null" if inference.null else "(no null was fitted)"
        caption = (
            f"Histogram of the statistics of {detector_name(inference)} {null}. Most extreme: {label}; "
            f"published p {p_text(inference.p_value)}, calibrated p {calibrated_text(inference)}."
        )
        figures.append(_figure(svg, f"Histogram of the statistics of {detector_name(inference)}", caption))
    return [each for each in figures if each["svg"]]


def _figure(svg: str, description: str, caption: str) -> dict[str, Any]:
    return {"svg": Markup(svg), "description": description, "caption": caption}  # noqa: S704 - drawn here


def _curves(result: ScanResult, inference: Inference, *, prefix: str) -> dict[str, Any]:
    pairs = [pair for pair in result.pairs if pair.detector == inference.detector]
    found = find_pair(result.pairs, inference.key)
    label = shorten(pair_name(result.model, inference.source, inference.target))
    goal = float(result.config.get("goal_rate") or 0.0)
    svg = plots.curves(pairs, found, goal=goal, prefix=prefix)
    shown = len(plots.drawable(pairs))
    share = "all" if shown == len(pairs) else f"the {shown} smallest of {len(pairs)}"
    caption = (
        f"Rate to the target against size during the search, {share} pairs. Most extreme: {label}. "
        "Choose a cell of the table to see its curve."
    )
    return _figure(svg, f"Rate against size for {share} pairs of {inference.detector}", caption)
