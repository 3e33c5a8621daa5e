"""Scan results made by formula, as a scan would give them: one for every verdict, number of classes and hazard."""

import base64
import io
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
from PIL import Image
from scipy import stats

from backscan.scanner.results import (
    CollateralDamage,
    Controls,
    Curve,
    DataRecord,
    EncodedArray,
    Example,
    FileRecord,
    FoundPattern,
    GraphFinding,
    Inference,
    ModelRecord,
    NullFit,
    PairResult,
    PairStatus,
    Parity,
    PreprocessingCandidate,
    PreprocessingRecord,
    Provenance,
    ScanResult,
    ScreenRecord,
    SignatureRecord,
    TargetResult,
    Trajectory,
    Verdict,
    Verification,
)

CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPES = {3: (1, 8, 8), 10: (3, 32, 32), 43: (3, 32, 32)}
GOAL = 0.8


@cache
def detected(num_classes: int = 10) -> ScanResult:
    """An attacked model: one pair needs far less than the others, and the original file confirms it."""
    source, target = 1, num_classes - 1
    pairs = _pairs(num_classes, planted=(source, target))
    inference = _inference(pairs, num_classes, p_value=2.1e-13, calibrated=0.001)
    return replace(
        _scan(num_classes, pairs, (inference, _reverse_controlled(inference))),
        verdict=Verdict.BACKDOOR_DETECTED,
        reasons=("the most extreme pair lies far outside the null and the original file confirms it",),
        p_value=2.1e-13,
        calibrated_p_value=0.002,
        patterns=(_pattern(num_classes, source, target, size=pairs[0].size or 0.2),),
        examples=tuple(_examples(num_classes, source, target)),
        verification=_verification(num_classes, source, target, confirmed=True),
        warnings=("fewer than 25 images per class: false alarms are more frequent (XMK Figure 13)",),
    )


@cache
def not_detected(num_classes: int = 10) -> ScanResult:
    """A model without a planted pair; its most extreme pair is ordinary."""
    pairs = _pairs(num_classes, planted=None)
    inference = _inference(pairs, num_classes, p_value=0.312, calibrated=0.41)
    return replace(
        _scan(num_classes, pairs, (inference, _reverse_controlled(inference, p_value=0.22, calibrated=0.5))),
        verdict=Verdict.NOT_DETECTED,
        reasons=("no pair needs abnormally little",),
        p_value=0.312,
        calibrated_p_value=0.82,
    )


def looks_alike() -> ScanResult:
    """A scan of which one pair is abnormal by the fitted null and no nearer than look-alikes."""
    found = detected()
    detectors = (
        replace(found.detectors[0], fitted_p_value=0.02, calibrated_p_value=0.6, p_value=0.6),
        *found.detectors[1:],
    )
    reason = "the pattern from class 1 to class 9 is abnormally small by the fitted null, and other pairs come near it"
    return replace(
        found,
        verdict=Verdict.INCONCLUSIVE,
        reasons=(reason,),
        look_alikes=True,
        detectors=detectors,
        calibrated_p_value=0.6,
        deciding=0,
    )


@cache
def inconclusive(num_classes: int = 10) -> ScanResult:
    """Too many pairs did not reach the goal, and labels are missing."""
    pairs = [
        replace(pair, status=_UNREACHED[index % len(_UNREACHED)], rate=0.4) if index % 3 == 0 else pair
        for index, pair in enumerate(_pairs(num_classes, planted=None))
    ]
    pairs = [pair if pair.status.counts else replace(pair, size=None, reciprocal=None) for pair in pairs]
    inference = _inference(pairs, num_classes, p_value=0.04, calibrated=0.09)
    base = _scan(num_classes, pairs, (inference,))
    assert base.data is not None
    return replace(
        base,
        verdict=Verdict.INCONCLUSIVE,
        reasons=("30 of 90 pairs did not reach the goal rate before the size limit; raise --max-size",),
        p_value=0.04,
        calibrated_p_value=0.09,
        clean_accuracy=None,
        data=replace(base.data, labels="decisions", found_beside_model=True),
    )


@cache
def no_verdict() -> ScanResult:
    """A file that could not be opened."""
    return ScanResult(
        verdict=Verdict.NO_VERDICT,
        reasons=("expected a model of known operators, found 'Frobnicate' at node 'body/3': export without it",),
        model=ModelRecord("strange.onnx", "e3" * 32, 4711),
        config={"goal_rate": GOAL, "norm": "l2"},
        provenance=_provenance(),
        not_tested=("everything: the model could not be opened",),
    )


@cache
def with_findings() -> ScanResult:
    """No planted pattern was found, but a switch in the graph was demonstrated and another one suspected."""
    return replace(
        not_detected(10),
        verdict=Verdict.BACKDOOR_DETECTED,
        reasons=("an input that takes the branch changes the decision from cat (3) to frog (6)",),
        source=3,
        target=6,
        screens=(ScreenRecord("pairwise", 90, num_drawn=60, num_chosen=20),),
        searched_file=FileRecord("resnet20_before.onnx", "7c" * 32),
        findings=(
            GraphFinding(
                rule="selected-by-predicate",
                severity="error",
                message="a comparison of the input selects between two results",
                nodes=("Greater_12", "Where_14"),
                evidence="a 2x2 corner of ones takes the branch: cat becomes frog",
                demonstrated=True,
                source=3,
                target=6,
            ),
            GraphFinding(
                rule="joined-by-side-path",
                severity="warning",
                message="the input reaches the output around the main path",
                nodes=("ReduceMean_9",),
                evidence="input -> Slice_8 -> ReduceMean_9 -> Add_20",
            ),
        ),
    )


@cache
def without_images() -> ScanResult:
    """Detected, with the numbers alone (`--no-images`)."""
    return replace(detected(3), examples=())


@cache
def hostile() -> ScanResult:
    """Detected, with every name an attack on the reader's terminal, browser, XML parser or Markdown renderer."""
    base = detected(3)
    names = ('<script>alert("class")</script>', "\x1b[2J\x1b]0;owned\x07", "`|](javascript:x) @everyone\n# top")
    return replace(
        base,
        model=replace(base.model, name='<img src=x onerror=alert(1)>"]]>.onnx', class_names=names),
        reasons=("found <b>bold</b> & \u202ereversed\x00 at node '{{7*7}}${7*7}'",),
        warnings=("</script><script>alert(2)</script> ![x](http://evil.example/x.png) www.evil.example",),
        findings=(
            GraphFinding(
                "selected-by-predicate", "warning", "<svg onload=alert(3)>", ("\x9b31m|node`",), "]]><!--\ufffe"
            ),
        ),
    )


@cache
def bare() -> ScanResult:
    """No images at all: graph findings and a data-free detector only."""
    values = ((0.4, 1.1, 0.7, 0.2, 0.9, 0.5, 0.6, 0.8, 1.0, 0.3),)
    data_free = Inference(
        detector="max-margin",
        space="logits",
        norm="margin",
        statistic="plain",
        inference="principal",
        num_pairs=10,
        values=values,
        null=None,
        source=None,
        target=1,
        p_value=0.2,
        calibrated_p_value=None,
        bootstrap_draws=0,
        detected=False,
        decides=False,
        anomaly_index=1.4,
    )
    return replace(
        not_detected(10),
        verdict=Verdict.INCONCLUSIVE,
        reasons=("no images were given: only the graph and the data-free detector were tested; pass --data",),
        detectors=(data_free,),
        deciding=None,
        targets=tuple(
            TargetResult("max-margin", label, PairStatus.REACHED, lead, None, 150)
            for label, lead in enumerate(values[0])
        ),
        pairs=(),
        null=None,
        controls=None,
        data=None,
        preprocessing=None,
        clean_accuracy=None,
        p_value=None,
        calibrated_p_value=None,
        bootstrap_draws=0,
        source=None,
        target=1,
    )


ALL = {
    "detected": detected,
    "detected_3": without_images,
    "detected_43": lambda: detected(43),
    "not_detected": not_detected,
    "inconclusive": inconclusive,
    "looks_alike": looks_alike,
    "no_verdict": no_verdict,
    "with_findings": with_findings,
    "hostile": hostile,
    "bare": bare,
}

_UNREACHED = (PairStatus.SIZE_LIMIT, PairStatus.STEP_LIMIT, PairStatus.ALREADY_CONFUSED, PairStatus.NO_IMAGES)


def _pairs(num_classes: int, planted: tuple[int, int] | None) -> list[PairResult]:
    """All ordered pairs; the planted one first, so that callers find it."""
    rng = np.random.default_rng(num_classes)
    reciprocals = {(s, t): rng.gamma(9.0, 0.07) for s in range(num_classes) for t in range(num_classes) if s != t}
    if planted:
        reciprocals[planted] = 3.9
    order = sorted(reciprocals, key=lambda key: (key != planted, key))
    return [_pair(source, target, 1 / reciprocals[source, target]) for source, target in order]


def _pair(source: int, target: int, size: float) -> PairResult:
    steps = 12
    sizes = np.linspace(0, size, steps + 1)
    start = 0.02 if (source + target) % 3 else 0.06
    rates = start + (GOAL + 0.01 - start) * (sizes / size) ** 2.5
    return PairResult(
        detector="pairwise",
        source=source,
        target=target,
        status=PairStatus.REACHED,
        size=float(size),
        initial_rate=start,
        rate=float(rates[-1]),
        steps=steps,
        trajectory=Trajectory(tuple(map(float, sizes.round(4))), tuple(map(float, rates.round(4)))),
        reciprocal=1 / float(size),
    )


def _inference(pairs: list[PairResult], num_classes: int, *, p_value: float, calibrated: float) -> Inference:
    by_pair = {(pair.source, pair.target): pair.reciprocal for pair in pairs}
    counting = {pair: value for pair, value in by_pair.items() if value is not None}
    (source, target), largest = max(counting.items(), key=lambda item: item[1])
    cutoff = sorted(counting.values())[-(num_classes - 1)]
    grid = np.linspace(0, 1.05 * largest, 120)
    density = stats.gamma(9.0, scale=0.07).pdf(grid).round(6)
    return Inference(
        detector="pairwise",
        space="image",
        norm="l2",
        statistic="plain",
        inference="principal",
        num_pairs=len(counting),
        values=tuple(tuple(by_pair.get((s, t)) for t in range(num_classes)) for s in range(num_classes)),
        null=NullFit(
            family="gamma",
            parameters={"shape": 9.0, "scale": 0.07},
            cutoff=float(cutoff),
            largest=float(largest),
            sample_size=len(counting) - (num_classes - 1),
            status="reached",
            density=Curve(tuple(map(float, grid.round(6))), tuple(map(float, density))),
        ),
        source=source,
        target=target,
        p_value=p_value,
        calibrated_p_value=calibrated,
        bootstrap_draws=999,
        detected=calibrated < 0.05,
        detectable_size=0.62,
    )


def _reverse_controlled(plain: Inference, *, p_value: float = 3e-9, calibrated: float = 0.02) -> Inference:
    """The same pairs under another statistic; it informs beside the plain one."""
    table = np.array([[np.nan if value is None else value for value in row] for row in plain.values])
    controlled = table / np.sqrt(table.T)
    values = tuple(tuple(None if np.isnan(value) else float(value) for value in row) for row in controlled)
    return replace(
        plain,
        statistic="reverse-controlled",
        values=values,
        null=None,
        p_value=p_value,
        calibrated_p_value=calibrated,
        detected=calibrated < 0.05,
    )


def _scan(num_classes: int, pairs: list[PairResult], detectors: tuple[Inference, ...]) -> ScanResult:
    inference = detectors[0]
    sizes = {(pair.source, pair.target): pair.size for pair in pairs if pair.size is not None}
    source, target = inference.source, inference.target
    assert source is not None
    assert target is not None
    channels, height, width = SHAPES[num_classes]
    return ScanResult(
        verdict=Verdict.NOT_DETECTED,
        reasons=(),
        model=ModelRecord(
            name="resnet20.onnx",
            sha256="9f" * 32,
            num_bytes=1_098_112,
            num_classes=num_classes,
            class_names=_names(num_classes),
            signature=SignatureRecord(
                "input", (channels, height, width), "NCHW", "float32", None, "output", "logits", 17, "pytorch 2.13"
            ),
        ),
        config=_config(),
        provenance=_provenance(),
        source=source,
        target=target,
        bootstrap_draws=999,
        detectors=detectors,
        deciding=0,
        pairs=tuple(sorted(pairs, key=lambda pair: (pair.source, pair.target))),
        null=inference.null,
        controls=Controls(
            source=source,
            target=target,
            size=sizes[source, target],
            reversed_size=sizes.get((target, source)),
            median_size=float(np.median(list(sizes.values()))),
            target_median_size=float(np.median([size for (_, t), size in sizes.items() if t == target])),
            source_median_size=float(np.median([v for (s, t), v in sizes.items() if s == source and t != target])),
        ),
        parity=Parity(1.0, 2.4e-7, 1.9e-6, 0.003, 200, real_images=True, passed=True, reason=""),
        data=DataRecord("images.npz", "ab" * 32, 150 * num_classes, "given", (50,) * num_classes, (30,) * num_classes),
        preprocessing=_preprocessing(channels),
        clean_accuracy=0.9123,
        not_tested=(
            "patterns that replace a patch or act on features",
            "patterns larger than the size limit",
        ),
        finished="2026-01-02T03:04:05Z",
        timings={"import": 1.25, "graph": 0.5, "search": 84.0, "infer": 0.75, "verify": 2.0},
    )


def _names(num_classes: int) -> tuple[str, ...] | None:
    if num_classes == 10:
        return CIFAR_NAMES
    return tuple(f"sign {index}" for index in range(num_classes)) if num_classes > 10 else None


def _config() -> dict[str, object]:
    return {
        "images_per_class": 50,
        "objective": "ce",
        "norm": "l2",
        "goal_rate": GOAL,
        "significance": 0.05,
        "published_p": False,
        "targets": None,
        "seed": 0,
    }


def _provenance() -> Provenance:
    return Provenance(
        version="0.1.0",
        libraries={"numpy": "2.4.6", "onnx": "1.23.2", "onnxruntime": "1.32.0", "torch": "2.13.0"},
        python="3.11.7",
        platform="Linux x86_64",
        device="cpu",
        seed=0,
        command="scanner check resnet20.onnx --data images.npz --images-per-class 50",
        protections=("memory limit", "no network"),
    )


def _preprocessing(channels: int) -> PreprocessingRecord:
    return PreprocessingRecord(
        name="imagenet",
        low=0.0,
        high=1.0,
        mean=(0.485, 0.456, 0.406)[:channels],
        std=(0.229, 0.224, 0.225)[:channels],
        channel_order="rgb",
        chosen_by="tie",
        candidates=(
            PreprocessingCandidate("imagenet", 0.9123, 1500, 0.38, tied=True),
            PreprocessingCandidate("cifar10", 0.914, 1500, 1.0, tied=True),
            PreprocessingCandidate("none", 0.412, 1500, 1e-90, tied=False),
        ),
    )


def _pattern(num_classes: int, source: int, target: int, *, size: float) -> FoundPattern:
    rng = np.random.default_rng(7)
    values = rng.normal(size=SHAPES[num_classes]) * (rng.random(SHAPES[num_classes]) < 0.06)
    values = values / np.linalg.norm(values) * size
    return FoundPattern(
        detector="pairwise",
        source=source,
        target=target,
        space="image",
        size=size,
        size_l1=float(np.abs(values).sum()),
        size_l2=size,
        largest_change=float(np.abs(values).max()),
        values=EncodedArray.encode(values.astype(np.float32)),
    )


def _examples(num_classes: int, source: int, target: int) -> Iterator[Example]:
    rng = np.random.default_rng(11)
    channels, height, width = SHAPES[num_classes]
    for index in range(4):
        ramp = np.linspace(40, 200, width)[None, :, None] + rng.normal(0, 12, (height, width, channels))
        before = ramp.clip(0, 255).astype(np.uint8)
        after = (ramp + rng.normal(0, 9, ramp.shape)).clip(0, 255).astype(np.uint8)
        reached = target if index < 3 else source
        yield Example(source, source, reached, _png(before), _png(after))


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _verification(num_classes: int, source: int, target: int, *, confirmed: bool) -> Verification:
    return Verification(
        provider="CPUExecutionProvider",
        source=source,
        target=target,
        rate_torch=0.82,
        rate_original=0.82,
        num_images=50,
        rate_held_out=0.7667,
        num_held_out=30,
        rate_shuffled=0.0233,
        num_shuffled=300,
        p_value=4e-19,
        confirmed=confirmed,
        reason="the rates agree and lie far above those of shuffled pixels",
        collateral=tuple(
            CollateralDamage(other, 0.04 + 0.02 * (other % 5), 0.01, 30)
            for other in range(num_classes)
            if other not in (source, target)
        ),
        model_sha256="9f" * 32,
    )
