"""Ways in which patterns change images: the twin for replay, limits and controls, and least patterns known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from backscan.scanner.results import PairStatus
from backscan.scanner.search.algorithm1 import search_pairs
from backscan.scanner.search.batch import Sources
from backscan.scanner.search.crossing import TOLERANCE
from backscan.scanner.search.first_order import FirstOrder
from backscan.scanner.search.individual import individual_sizes
from backscan.scanner.search.norms import NORMS
from backscan.scanner.search.settings import Work
from backscan.scanner.search.spaces import SPACES, ClippedImage, in_words, picture
from tests.scanner.search.linear import LinearClassifier, settings_of

SHAPES = [(3, 9, 12), (1, 8, 8), (1, 2, 1)]


def drawn(name: str, shape: tuple[int, ...], *, share: float = 0.3) -> np.ndarray:
    """A random pattern of a share of the largest size."""
    largest = SPACES[name].largest(shape)
    values = np.random.default_rng(1).normal(size=largest.shape)
    return (share * np.linalg.norm(largest) * values / np.linalg.norm(values)).astype(np.float32)


def images_of(shape: tuple[int, ...], number: int = 4) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(number, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", SPACES)
def test_the_twin_of_the_replay_does_what_the_search_did(name, shape):
    change, images, pattern = SPACES[name], images_of(shape), drawn(name, shape)
    assert change.pattern_shape(shape) == pattern.shape == change.largest(shape).shape
    patterns = torch.from_numpy(np.stack([pattern, 0 * pattern])).requires_grad_()
    searched = change.changed(torch.from_numpy(images).expand(2, *images.shape), patterns)
    replayed = change.replayed(images, pattern)
    assert replayed.dtype == np.float32
    np.testing.assert_allclose(replayed, searched[0].detach(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(searched[1].detach(), images, err_msg="zeros change nothing")
    np.testing.assert_array_equal(change.replayed(images, 0 * pattern), images)
    assert np.abs(replayed - images).max() > 1e-3
    assert 0.0 <= replayed.min() <= replayed.max() <= 1.0
    (gradient,) = torch.autograd.grad(searched[1].square().sum(), patterns)
    assert gradient.isfinite().all()
    assert gradient[1].ne(0.0).any(), "the search begins at zeros"


@pytest.mark.parametrize("name", SPACES)
def test_a_control_has_the_size_and_another_effect(name):
    change, pattern, images = SPACES[name], drawn(name, (3, 9, 12)), images_of((3, 9, 12))
    control = change.shuffled(pattern, np.random.default_rng(0))
    assert (control.shape, control.dtype) == (pattern.shape, np.float32)
    assert np.linalg.norm(control) == pytest.approx(np.linalg.norm(pattern), rel=1e-5)
    assert np.abs(change.replayed(images, control) - change.replayed(images, pattern)).max() > 0.01


@pytest.mark.parametrize("name", SPACES)
def test_a_picture_shows_what_the_pattern_changes(name):
    change, shape = SPACES[name], (3, 9, 12)
    shown = picture(change, drawn(name, shape), shape)
    assert (shown.shape, shown.dtype) == (shape, np.float32)
    assert 0.01 < np.abs(shown).max() <= 1.0
    assert not picture(change, 0 * drawn(name, shape), shape).any()
    card = change.card(shape)
    assert 0.0 <= card.min() <= card.max() <= 1.0
    words = in_words(name)
    assert (words is None) == (name == "additive")
    assert words is None or words.name == name


@pytest.mark.parametrize("name", SPACES)
def test_nothing_is_left_of_a_pattern_that_the_range_of_pixels_takes(name):
    """`within` may not change what becomes of the image."""
    change, images = SPACES[name], torch.from_numpy(images_of((3, 9, 12)))
    pattern = torch.from_numpy(drawn(name, (3, 9, 12))).expand(4, *change.pattern_shape((3, 9, 12)))
    held = change.within(pattern, images)
    alone = images.unsqueeze(1)
    torch.testing.assert_close(change.changed(alone, held), change.changed(alone, pattern), rtol=0, atol=1e-5)


def case(name: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Weights and image, and on paper the slope of weights . x' along each number of the pattern, where it is 0."""
    rng = np.random.default_rng(2)
    shape = (1, 12, 12) if name == "warp" else (3, 9, 12)
    weights, image = rng.normal(size=shape), 0.5 + 0.2 * rng.uniform(-1, 1, size=shape)
    weights, image, slope = PAPER[name](weights, image)
    return torch.tensor(weights, dtype=torch.float32), torch.tensor(image, dtype=torch.float32), slope


def of_colour(weights, image):
    """w_d . x_c for every entry of the matrix, and the sum of w_d for the offset."""
    mixed = np.einsum("dhw,chw->dc", weights, image)
    return weights, image, np.concatenate([mixed, weights.sum(axis=(1, 2))[:, None]], axis=1)


def of_frequency(weights, image):
    """The coefficients of the weights."""
    return weights, image, scipy.fft.dctn(weights, axes=(1, 2), norm="ortho")[:, :3, :3]


def of_sinusoidal(weights, image):
    """The product of the weights with each wave: four frequencies of nine lines, then five of twelve columns."""
    lines, columns = np.indices(weights.shape[1:])
    turns = [2 * np.pi * k * lines / 9 for k in (1, 2, 3, 4)] + [2 * np.pi * k * columns / 12 for k in (1, 2, 3, 4, 5)]
    waves = np.stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)]) * np.sqrt(2 / weights.size)
    return weights, image, np.einsum("khw,chw->k", waves, weights)


def of_warp(weights, image):
    """Where it gets lighter downwards, a displacement downwards adds light; the field is torch's bicubic."""
    weights[:, [0, 1, 2, -3, -2, -1]], weights[:, :, [0, 1, 2, -3, -2, -1]] = 0.0, 0.0
    image = np.broadcast_to(0.2 + 0.05 * np.arange(12)[:, None], image.shape)
    points = torch.eye(16).reshape(16, 1, 4, 4)
    field = torch.nn.functional.interpolate(points, (12, 12), mode="bicubic", align_corners=True).numpy()
    down = np.einsum("phw,hw->p", field[:, 0], 0.05 * weights[0]).reshape(4, 4)
    return weights, image, np.stack([down, 0 * down])


PAPER = {
    "additive": lambda weights, image: (weights, image, weights),
    "multiplicative": lambda weights, image: (weights, image, weights * image),
    "colour": of_colour,
    "frequency": of_frequency,
    "sinusoidal": of_sinusoidal,
    "warp": of_warp,
}


@pytest.mark.parametrize("name", SPACES)
def test_finds_the_least_pattern_of_a_linear_model(name):
    """Where w . x' is linear in the pattern, the least one lies along the slope, and one image needs what all need."""
    weights, image, slope = case(name)
    norm, size = float(np.linalg.norm(slope)), 0.05 * float(np.linalg.norm(SPACES[name].largest(tuple(image.shape))))
    classifier = LinearClassifier(weights, float((weights * image).sum()) + size * norm)
    space = ClippedImage(classifier, SPACES[name])
    images = image.repeat(30, 1, 1, 1)
    sources = Sources.gather({0: images}, space, {0: torch.ones(30, dtype=torch.bool)})
    settings = settings_of(classifier, space=space, step_size=size / 10, max_size=4 * size)
    [result] = search_pairs(settings, sources, [(0, 1)], Work())
    assert result.status is PairStatus.REACHED
    assert result.size == pytest.approx(size, rel=2 * TOLERANCE)
    assert result.pattern.shape == SPACES[name].pattern_shape(tuple(image.shape))
    assert (result.pattern * slope).sum() / np.linalg.norm(result.pattern) / norm == pytest.approx(1.0, abs=2e-3)
    alone = individual_sizes(settings, sources, [(0, 1)], Work())[0, 1]
    np.testing.assert_allclose(alone, size, rtol=2e-2)
    estimate = FirstOrder(space, goal_rate=0.8, norm=NORMS["l2"], sources_per_pass=1)
    assert estimate.sizes(sources, [(0, 1)], stopped=lambda: False) == pytest.approx([size], rel=1e-2)
    # The replay finds the image at the boundary that the search has found.
    moved = SPACES[name].replayed(image.numpy()[None], result.pattern)
    assert float((weights.numpy() * moved).sum()) == pytest.approx(
        classifier.threshold, abs=2 * TOLERANCE * size * norm
    )
