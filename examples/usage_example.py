"""The seven use cases, one after the other, on the bundled models and scenes.

    python examples/usage_example.py

Each is a short script of its own in this folder, to start from.
"""

import time

import feature_extractor
import frozen_backbone
import map_similarity
import numpy_pipeline
import save_and_load
import text_image_retrieval
import zero_shot

from hf_encoders.progress import hide_library_bars

USE_CASES = {
    "Feature extractor": feature_extractor,
    "Classifier on a frozen backbone": frozen_backbone,
    "Similarity of two maps": map_similarity,
    "NumPy pipeline": numpy_pipeline,
    "Saving and loading": save_and_load,
    "Retrieval of texts, images and depth maps": text_image_retrieval,
    "Zero-shot classification": zero_shot,
}


def main() -> None:
    """Run all seven."""
    hide_library_bars()
    start = time.perf_counter()
    for number, (title, script) in enumerate(USE_CASES.items(), 1):
        print(f"\n{number}. {title} (examples/{script.__name__}.py)\n", flush=True)
        script.main()
    print(f"\n{len(USE_CASES)} use cases in {time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
