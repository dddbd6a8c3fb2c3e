"""scikit-learn on embeddings: the arrays as features, and `encode` as a step of a pipeline."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tests.helpers.multimodal_models import tiny_model

KINDS = np.array(["across", "down", "roof"] * 10)


@pytest.fixture(scope="module")
def maps():
    """[30, 32, 32]: ramps of three kinds with noise."""
    ramp = np.linspace(0, 1, 32)
    plain = {"across": np.tile(ramp, (32, 1)), "down": np.tile(ramp[:, None], (1, 32))}
    plain["roof"] = np.abs(ramp + ramp[:, None] - 1)
    noise = np.random.default_rng(0).normal(0, 0.02, (len(KINDS), 32, 32))
    return np.stack([plain[kind] for kind in KINDS]) + noise


@pytest.mark.parametrize("classifier", [LogisticRegression(max_iter=1000), KNeighborsClassifier(3, metric="cosine")])
def test_embeddings_are_features(classifier, maps, tiny_encoder):
    embeddings = tiny_encoder.encode(maps, convert_to="numpy")
    assert embeddings.dtype == np.float32 and embeddings.flags["C_CONTIGUOUS"] and embeddings.flags["WRITEABLE"]
    scaled = StandardScaler().fit_transform(embeddings)
    assert cross_val_score(classifier, scaled, KINDS, cv=3).mean() > 0.9


def test_encode_is_a_step(maps, tiny_encoder):
    encode = FunctionTransformer(tiny_encoder.encode, kw_args={"convert_to": "numpy", "batch_size": 8})
    pipeline = make_pipeline(encode, StandardScaler(), LogisticRegression(max_iter=1000))
    # Each fold clones the pipeline, and the encoder in it.
    assert cross_val_score(pipeline, maps, KINDS, cv=3).mean() > 0.9
    pipeline.fit(maps[:15], KINDS[:15])
    assert pipeline.score(maps[15:], KINDS[15:]) > 0.9


@pytest.mark.parametrize("again", [clone, copy.deepcopy, lambda pipeline: pickle.loads(pickle.dumps(pipeline))])
@pytest.mark.parametrize(
    ("method", "inputs"), [("encode_text", ["a red chair", "the lamp", "a table"]), ("encode_depth", None)]
)
def test_pipelines_are_cloned_and_pickled(method, inputs, again, maps):
    inputs = maps[:3] if inputs is None else inputs
    options = {"convert_to": "numpy"}
    pipeline = make_pipeline(
        FunctionTransformer(getattr(tiny_model(), method), kw_args=options), PCA(2, random_state=0)
    )
    expected = pipeline.fit_transform(inputs)
    np.testing.assert_allclose(again(pipeline).fit(inputs).transform(inputs), expected, atol=1e-5)
