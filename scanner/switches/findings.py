"""Backdoors built into the graph: judge the switches that `converters.switches` lists, and show what they do.

A switch is *dormant* when holding its gate at what it is on ordinary images changes nothing on them. A dormant switch
is *demonstrated* when an image is found on which the decision of the original file depends on the gate: with the
gate held at its ordinary value the same image is decided otherwise. Comparisons that act on the output are worth a
warning even if no such image is found; smooth side paths, which every squeeze-and-excitation block has, are only
worth a finding if they are dormant and one pattern sends images of different classes to the same class.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from backscan.converters.errors import ConverterError
from backscan.scanner.results import GraphFinding
from backscan.scanner.switches.blind import Forced
from backscan.scanner.switches.trial import Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from backscan.converters import Artifact, ModelSignature, Normalisation
    from backscan.converters.switches.flow import Switch
    from backscan.converters.switches.probe import GraphProbe
    from backscan.scanner.switches.judging import Decide, Demonstration

SECONDS = 60.0
"""Time for the searches."""
_MAX_IMAGES = 32
_FIRST_STEPS = 25
"""Steps of the first search of every group: planted switches turn within 20."""
_MORE_STEPS = 200
"""Steps of a second search, for predicates only: they are reported even if no image turns them."""
_MAX_REASON = 200
"""Characters of an error that a finding quotes."""

_RULES = {"Where": "selected", "If": "branched", "Mul": "masked", "Add": "shifted", "Sub": "shifted"}


def find_graph_findings(
    artifact: Artifact,
    signature: ModelSignature,
    normalisation: Normalisation,
    images: NDArray[np.float32] | None,
    *,
    decisions: Decide,
    seed: int = 0,
    seconds: float = SECONDS,
) -> tuple[GraphFinding, ...]:
    """Find switches in a model's graph, and demonstrate them.

    Args:
        artifact: The model, external data included.
        signature: Its signature.
        normalisation: How pixels become model input.
        images: Ordinary images [N, C, H, W] in [0, 1]; without any, synthetic ones stand in.
        decisions: The original file in onnxruntime.
        seed: Of the synthetic images.
        seconds: Time for the searches.

    Returns:
        One finding for each group of switches that share their gates: an error if demonstrated, else a warning.
    """
    from backscan.converters.switches.probe import GraphProbe

    probe = GraphProbe(artifact, signature, normalisation)
    return try_switches(probe, images, decisions=decisions, seed=seed, seconds=seconds)


def try_switches(
    probe: GraphProbe, images: NDArray[np.float32] | None, *, decisions: Decide, seed: int = 0, seconds: float = SECONDS
) -> tuple[GraphFinding, ...]:
    """As `find_graph_findings`, in a model that is already read."""
    switches = probe.switches()
    if not switches:
        return ()
    if images is None or not len(images):
        images = synthetic_images(probe.signature.input_shape, seed)
    chosen = spread(images, _MAX_IMAGES)
    deadline = time.monotonic() + seconds
    return _judge(switches, Trial(probe, switches, chosen, decisions, deadline=deadline), len(chosen), deadline)


def spread(images: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """So many of some images [N, C, H, W], or all of fewer, spread over them."""
    return np.asarray(images[np.unique(np.linspace(0, len(images) - 1, number).round().astype(int))])


def synthetic_images(shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Flat, noisy and smooth images [N, C, H, W] in [0, 1] that stand in for ordinary ones."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    flat = np.broadcast_to(rng.uniform(0.1, 0.9, (8, channels, 1, 1)), (8, *shape))
    noise = rng.random((8, *shape))
    ramp = np.linspace(0, 1, height)[:, None] * np.linspace(1, 0, width)
    smooth = np.clip(rng.random((8, channels, 1, 1)) * ramp + 0.1 * noise, 0, 1)
    return np.concatenate([flat, 0.2 + 0.6 * noise, smooth]).astype(np.float32)


def _judge(switches: Sequence[Switch], trial: Trial, num_images: int, deadline: float) -> tuple[GraphFinding, ...]:
    """One finding for each group of switches that deserves one."""
    dormant = trial.dormant()
    groups = _groups(dormant)
    shown, failed = _outcomes(groups, trial, deadline)
    found = []
    for index, group in enumerate(groups):
        outcome = shown.get(index)
        if outcome is not None:
            found.append(_described(group, outcome, num_images))
        elif index in failed and _is_hard(group):
            found.append(_warning(group, f"it could not be examined ({failed[index]})"))
        elif index in shown and _is_hard(group):
            found.append(_warning(group, "no image was found that turns it"))
    unheld = trial.obstacles
    found += [_warning([switch], f"it could not be examined ({why})") for switch, why in unheld.items() if switch.hard]
    awake = [switch for switch in switches if switch.hard and switch not in dormant and switch not in unheld]
    found += [_warning(group, "it acts on some of the images") for group in _groups(awake)]
    late = [group for index, group in enumerate(groups) if index not in {*shown, *failed}]
    soft = {index: why for index, why in failed.items() if not _is_hard(groups[index])}
    broken = [groups[index] for index in soft] + [[switch] for switch in unheld if not switch.hard]
    reasons = [*soft.values(), *unheld.values()]
    if not any(finding.demonstrated for finding in found):  # parts of a gate that was shown need no words of their own
        found += _of_leaks(trial, dormant, num_images)
    return (*found, *_unexamined(late, "lack of time"), *_unexamined(broken, f"an error ({''.join(reasons[:1])})"))


def _of_leaks(trial: Trial, dormant: Sequence[Switch], num_images: int) -> Iterator[GraphFinding]:
    """A finding for each group of gates that are awake on ordinary images without deciding them, and open on others."""
    for group in _groups(trial.leaks(dormant)):
        shown = trial.open_leak(group)
        if shown is not None:
            yield _error(group, shown, num_images, does="decides none of")


def _outcomes(
    groups: Sequence[Sequence[Switch]], trial: Trial, deadline: float
) -> tuple[dict[int, Demonstration | Forced | None], dict[int, str]]:
    """What was found for each group by its place, as far as the time allowed: all briefly, then predicates for long.

    Also why some could not be examined; one group that fails says nothing about the others.
    """
    shown: dict[int, Demonstration | Forced | None] = {}
    failed: dict[int, str] = {}
    hard = [index for index, group in enumerate(groups) if _is_hard(group)]
    for search, chosen in ((_briefly, range(len(groups))), (_for_long, hard)):
        for index in chosen:
            if index in failed or shown.get(index) is not None or time.monotonic() >= deadline:
                continue
            try:
                outcome = search(groups[index], trial)
            except MemoryError:
                raise
            except Exception as error:  # torch, numpy and onnxruntime raise whatever a strange gate leads to
                shown.pop(index, None)
                failed[index] = reason_of(error)
                continue
            if outcome is not None or time.monotonic() < deadline:  # else it was cut off
                shown[index] = outcome
    return shown, failed


def reason_of(error: Exception) -> str:
    """An error in a finding."""
    return f"{type(error).__name__}: {str(error)[:_MAX_REASON]}"


def _briefly(group: Sequence[Switch], trial: Trial) -> Demonstration | Forced | None:
    """What an image shows, found by a gradient or without one; else what a soft gate does when it is held elsewhere.

    Raises:
        ConverterError: the group has no differentiable twin, and nothing was found without one.
    """
    obstacle = None
    try:
        shown = trial.demonstrate(group, steps=_FIRST_STEPS)
    except ConverterError as error:
        shown, obstacle = None, error
    found = shown or _blindly(group, trial)
    if found is None and obstacle is not None:
        raise obstacle
    return found


def _blindly(group: Sequence[Switch], trial: Trial) -> Demonstration | Forced | None:
    blind, is_hard = trial.blind(group), _is_hard(group)
    shown = next((found for found in blind.demonstrate() if is_hard or found.is_universal), None)
    return shown if shown is not None or is_hard else blind.force()


def _for_long(group: Sequence[Switch], trial: Trial) -> Demonstration | None:
    return trial.demonstrate(group, steps=_MORE_STEPS)


def _is_hard(group: Sequence[Switch]) -> bool:
    return any(switch.hard for switch in group)


def _groups(switches: Sequence[Switch]) -> list[list[Switch]]:
    """Switches that share nodes of their gates belong together."""
    groups: list[tuple[set[str], list[Switch]]] = []
    for switch in switches:
        nodes, members = set(switch.nodes), [switch]
        apart = []
        for others, group in groups:
            if nodes & others:
                nodes, members = nodes | others, group + members
            else:
                apart.append((others, group))
        groups = [*apart, (nodes, members)]
    return [members for _, members in groups]


def _described(group: Sequence[Switch], outcome: Demonstration | Forced, num_images: int) -> GraphFinding:
    if isinstance(outcome, Forced):
        return _suspicion(group, outcome, num_images)
    return _error(group, outcome, num_images)


def _error(
    group: Sequence[Switch], shown: Demonstration, num_images: int, *, does: str = "changes nothing on"
) -> GraphFinding:
    return GraphFinding(
        rule=_rule(group[0]),
        severity="error",
        message=f"{_claim(group[0])}; an image was found that is decided as {shown.target} because of them, and as "
        f"{shown.source} without",
        nodes=_nodes(group),
        evidence=f"holding {_quoted(group[0].gate)} constant {does} {num_images} ordinary images; pasting "
        f"what was found on them sends {shown.moved} of {shown.others} that were decided otherwise to {shown.target}"
        + ("" if shown.finite else "; its scores are not finite"),
        demonstrated=True,
        source=shown.source,
        target=shown.target,
    )


def _suspicion(group: Sequence[Switch], forced: Forced, num_images: int) -> GraphFinding:
    return GraphFinding(
        rule=_rule(group[0]),
        severity="warning",
        message=_claim(group[0]),
        nodes=_nodes(group),
        evidence=f"{_quoted(forced.gate)} does nothing on ordinary images; held at another value it changes the "
        f"decision on {forced.changed} of {num_images} of them, most to {forced.target}; no image was found that does",
    )


def _warning(group: Sequence[Switch], outcome: str) -> GraphFinding:
    return GraphFinding(
        rule=_rule(group[0]),
        severity="warning",
        message=_claim(group[0]),
        nodes=_nodes(group),
        evidence=f"{_quoted(group[0].gate)} is computed through a comparison, a sign or a rounding; {outcome}",
        unresolved=True,
    )


def _unexamined(groups: Sequence[Sequence[Switch]], why: str) -> tuple[GraphFinding, ...]:
    if not groups:
        return ()
    return (
        GraphFinding(
            rule="unexamined-switches",
            severity="warning",
            message=f"{len(groups)} places where few values could decide the output were not examined for {why}",
            nodes=tuple(dict.fromkeys(switch.join for group in groups for switch in group)),
            evidence="ordinary networks have few such places",
            unresolved=True,
        ),
    )


def _claim(switch: Switch) -> str:
    return f"a few values computed from the image decide what node {_quoted(switch.join)} ({switch.operator}) passes on"


def _rule(switch: Switch) -> str:
    return f"{_RULES.get(switch.operator, 'joined')}-by-{'predicate' if switch.hard else 'side-path'}"


def _nodes(group: Sequence[Switch]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for switch in group for name in (switch.join, *switch.nodes)))


def _quoted(name: str) -> str:
    return ascii(name[:80])
