"""The operators of scikit-learn's pipelines, onnxruntime as the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.converters.operators.single_node import assert_same, imported, model_of

DOMAIN = "ai.onnx.ml"
FEATURES = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Scaler", {"offset": [0.1, 0.2, 0.3, 0.4], "scale": [1.0, 2.0, 0.5, 3.0]}),
        ("Scaler", {"offset": [0.1], "scale": [2.0]}),
        ("Normalizer", {"norm": "MAX"}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        (
            "LinearRegressor",
            {"coefficients": [float(n) for n in range(12)], "intercepts": [0.1, 0.2, 0.3], "targets": 3},
        ),
        ("LinearRegressor", {"coefficients": [1.0, 2.0, 3.0, 4.0]}),
        ("Imputer", {"imputed_value_floats": [9.0, 8.0, 7.0, 6.0], "replaced_value_float": float(FEATURES[1, 2])}),
        ("Imputer", {"imputed_value_floats": [5.0], "replaced_value_float": float("nan")}),
    ],
)
def test_operator(operator: str, attributes: dict[str, Any]) -> None:
    values = FEATURES.copy()
    if operator == "Normalizer":
        values[3] = 0
    if operator == "Imputer" and np.isnan(attributes["replaced_value_float"]):
        values[2, 1] = np.nan
    model = model_of(operator, ["x"], {"x": values}, domain=DOMAIN, **attributes)
    assert_same(model, {"x": values})


def test_feature_vectorizer() -> None:
    live = {"x": FEATURES, "n": np.arange(12, dtype=np.float32).reshape(6, 2)}
    assert_same(model_of("FeatureVectorizer", ["x", "n"], live, domain=DOMAIN, inputdimensions=[4, 2]), live)


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_linear_classifier(transform: str, rows: int) -> None:
    draw = np.random.default_rng(rows)
    model = model_of(
        "LinearClassifier",
        ["x"],
        {"x": FEATURES},
        domain=DOMAIN,
        outputs=2,
        coefficients=draw.normal(size=4 * rows).tolist(),
        intercepts=draw.normal(size=rows).tolist(),
        classlabels_ints=[5, 7] if rows == 1 else list(range(3, 3 + rows)),
        post_transform=transform,
    )
    assert_same(model, {"x": FEATURES})
    inputs = torch.from_numpy(FEATURES).requires_grad_()
    (gradient,) = torch.autograd.grad(imported(model)(inputs)[1][:, 0].sum(), inputs)
    assert gradient.abs().sum() > 0
