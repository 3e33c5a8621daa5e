"""The affine operators of `ai.onnx.ml` that scikit-learn's preprocessing and linear models become.

They compute in float32 whatever the type of the features, as onnxruntime does. Trees, nearest neighbours and the like
have no gradient, so they have no converter.
"""

from __future__ import annotations

from functools import partial
from math import isnan

import torch
from torch import Tensor

from backscan.converters.operators.nodes import Function, attribute, converted
from backscan.converters.operators.registry import OnnxGraph, OnnxNode, OperationConverterResult, register

_DOMAIN = "ai.onnx.ml"

_NORMS: dict[str, Function] = {
    "MAX": partial(torch.amax, dim=-1, keepdim=True),
    "L1": partial(torch.linalg.vector_norm, ord=1, dim=-1, keepdim=True),
    "L2": partial(torch.linalg.vector_norm, ord=2, dim=-1, keepdim=True),
}


@register("Scaler", versions=(1,), domain=_DOMAIN)
def convert_scaler(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Subtract an offset and multiply by a scale, one for each feature or for all."""
    offset, scale = torch.tensor(attribute(node, "offset", [0.0])), torch.tensor(attribute(node, "scale", [1.0]))
    return converted(node, scale_features, [0, offset, scale])


def scale_features(values: Tensor, offset: Tensor, scale: Tensor) -> Tensor:
    """Standardise features: (x - offset) scale."""
    return (values.float() - offset) * scale


@register("Imputer", versions=(1,), domain=_DOMAIN)
def convert_imputer(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Replace the number that stands for a missing feature."""
    replacements = attribute(node, "imputed_value_floats", None)
    if replacements is None:
        raise ValueError("expected float features, found an imputer of integers: export the pipeline with float input")
    missing = attribute(node, "replaced_value_float", 0.0)
    return converted(node, partial(impute, missing=missing), [0, torch.tensor(replacements)])


def impute(values: Tensor, replacements: Tensor, *, missing: float) -> Tensor:
    """Replace `missing`, which may be NaN, by the replacement of its feature."""
    return torch.where(values.isnan() if isnan(missing) else values == missing, replacements, values)


@register("Normalizer", versions=(1,), domain=_DOMAIN)
def convert_normalizer(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Divide each row by its maximum, sum of magnitudes or length."""
    norm = attribute(node, "norm", "MAX")
    if norm not in _NORMS:
        raise ValueError(f"expected norm MAX, L1 or L2, found '{norm}': export the pipeline again")
    return converted(node, partial(normalize_rows, norm=_NORMS[norm]))


def normalize_rows(values: Tensor, *, norm: Function) -> Tensor:
    """Divide each row by its norm, unless that is zero."""
    values = values.float()
    size: Tensor = norm(values)
    return values / torch.where(size == 0, 1, size)


@register("FeatureVectorizer", versions=(1,), domain=_DOMAIN)
def convert_feature_vectorizer(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Join features, one tensor after the other."""
    return converted(node, join_features)


def join_features(*features: Tensor) -> Tensor:
    """Join matrices of features as floats, row by row."""
    return torch.cat([feature.float() for feature in features], dim=-1)


@register("LinearRegressor", versions=(1,), domain=_DOMAIN)
def convert_linear_regressor(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Linear scores."""
    if attribute(node, "post_transform", "NONE") != "NONE":
        raise ValueError("expected plain scores, found a transformed regression: export the pipeline without it")
    return converted(node, linear_scores, [0, *_parameters(node, attribute(node, "targets", 1))])


@register("LinearClassifier", versions=(1,), domain=_DOMAIN)
def convert_linear_classifier(node: OnnxNode, _graph: OnnxGraph) -> OperationConverterResult:
    """Label and scores of a linear classifier; a label that is a text is given as its index."""
    labels = attribute(node, "classlabels_ints", None)
    labels = range(len(attribute(node, "classlabels_strings", ()))) if labels is None else labels
    intercepts = attribute(node, "intercepts", None)
    num_scores = len(labels) if intercepts is None else len(intercepts)
    transform = attribute(node, "post_transform", "NONE")
    if transform == "PROBIT":
        raise ValueError("expected a linear or logistic score, found a probit: export the pipeline without it")
    function = partial(classify_binary if num_scores == 1 else classify, transform=transform)
    return converted(node, function, [0, *_parameters(node, num_scores), torch.tensor(list(labels))])


def linear_scores(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Scores [N, scores] of features [N, features] by a weight [scores, features] and a bias [scores]."""
    return torch.nn.functional.linear(values.float(), weight, bias)


def classify(values: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, transform: str) -> tuple[Tensor, Tensor]:
    """Label and scores by one linear score per class; the transform is `NONE`, `LOGISTIC` or a softmax."""
    scores = linear_scores(values, weight, bias)
    chosen = labels[scores.argmax(-1)]
    if transform == "NONE":
        return chosen, scores
    return chosen, torch.sigmoid(scores) if transform == "LOGISTIC" else torch.softmax(scores, -1)


def classify_binary(
    values: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, *, transform: str
) -> tuple[Tensor, Tensor]:
    """Label and scores by the linear score of the second of two classes."""
    score = linear_scores(values, weight, bias)
    chosen = labels[(score > 0).long().squeeze(-1)]
    if transform == "LOGISTIC":
        return chosen, torch.sigmoid(torch.cat([-score, score], -1))
    return chosen, torch.cat([1 - score, score], -1)


def _parameters(node: OnnxNode, num_scores: int) -> tuple[Tensor, Tensor]:
    """Weight [scores, features] and bias [scores]."""
    weight = torch.tensor(attribute(node, "coefficients", [])).reshape(num_scores, -1)
    return weight, torch.tensor(attribute(node, "intercepts", [0.0] * num_scores))
