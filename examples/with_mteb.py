"""Evaluate a repo with MTEB: a retrieval task of your own data, as those of MTEB and MIEB are.

    pip install mteb
    python examples/with_mteb.py

The tasks of the benchmarks take their data from the Hub: `mteb.evaluate(model, mteb.get_tasks([...]))`. This one has
the bundled rooms: each caption should find its image.
"""

import bundled
import mteb
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from sentence_transformers import SentenceTransformer

import hf_encoders  # noqa: F401 - registers the models with AutoModel

ROOMS = 100


class RoomRetrieval(AbsTaskRetrieval):
    """Images of rooms by their captions."""

    metadata = TaskMetadata(
        name="RoomRetrieval",
        description="Find the image of a room by its caption.",
        dataset={"path": "samples/rooms", "revision": "main"},
        type="Any2AnyRetrieval",
        category="t2i",
        modalities=["text", "image"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, num_proc: int | None = None, **kwargs: object) -> None:
        """Read the queries, the images and which belong together."""
        if self.data_loaded:
            return
        rooms = bundled.scenes("rooms", "test").select(range(ROOMS))
        ids = [str(number) for number in range(ROOMS)]
        queries = Dataset.from_dict({"id": [f"q{id}" for id in ids], "text": rooms["caption"][:]})
        corpus = rooms.select_columns(["image"]).add_column("id", [f"d{id}" for id in ids])
        relevant = {f"q{id}": {f"d{id}": 1} for id in ids}
        split = RetrievalSplitData(queries=queries, corpus=corpus, relevant_docs=relevant, top_ranked=None)
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def main() -> None:
    """Evaluate the bundled model, and print what leaderboards show."""
    model = mteb.SentenceTransformerEncoderWrapper(SentenceTransformer(str(bundled.MULTIMODAL)))
    # MTEB reads what a model takes from the Hub, and takes one from a folder for a model of texts.
    model.mteb_model_meta = model.mteb_model_meta.model_copy(update={"modalities": ["text", "image"]})
    result = mteb.evaluate(model, RoomRetrieval(), co2_tracker=False, cache=None, show_progress_bar=False)
    (scores,) = result.task_results[0].scores["test"]
    print(f"{ROOMS} captions, {ROOMS} images:")
    for name in ("ndcg_at_10", "recall_at_1", "recall_at_10", "mrr_at_10"):
        print(f"{name:13} {scores[name]:.3f}")


if __name__ == "__main__":
    main()
