"""scikit-learn: linear classifiers and neighbours on embeddings, and `encode` as a step of a pipeline.

    python examples/with_scikit_learn.py

The labels are kinds of furniture, the embeddings those of depth maps by the sample model.
"""

import bundled
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models


def main() -> None:
    """Classify the sample objects by their depth maps."""
    train, test = (bundled.scenes("objects", split) for split in ("train", "test"))
    model = AutoModel.from_pretrained(bundled.MULTIMODAL, dtype="float32")
    features, others = (model.encode_depth(scenes["depth"], convert_to="numpy") for scenes in (train, test))
    for name, classifier in {
        "most frequent": DummyClassifier(),
        "linear": LogisticRegression(C=10, max_iter=1000),
        "nearest of 5": KNeighborsClassifier(5, metric="cosine"),
    }.items():
        folds = cross_val_score(classifier, features, train["label"], cv=3)
        accuracy = classifier.fit(features, train["label"]).score(others, test["label"])
        print(f"{name:<14} accuracy {accuracy:.3f} ({folds.mean():.3f} in cross-validation)")

    # The same from the maps on, as one object that can be cloned and pickled.
    encode = FunctionTransformer(model.encode_depth, kw_args={"convert_to": "numpy"})
    pipeline = make_pipeline(encode, StandardScaler(), LogisticRegression(max_iter=1000))
    pipeline.fit(train["depth"][:200], train["label"][:200])
    print(f"pipeline       accuracy {pipeline.score(test['depth'], test['label']):.3f} (after 200 maps)")


if __name__ == "__main__":
    main()
