"""device_map: only the tower that is needed in memory, the others on disk until they are called.

    python examples/with_device_map.py

With a GPU, `device_map="auto"` fills it first, and "cuda:0" may stand for "cpu" below.
"""

import tempfile

import bundled
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models

IN_MEMORY = ["text_encoder", "text_projection", "visual_projection", "depth_projection", "temperature"]
ON_DISK = ["visual_encoder", "depth_encoder"]


def main() -> None:
    """Load with a device map, and show that every tower works."""
    scenes = bundled.scenes("rooms", "test").select(range(8))
    whole = AutoModel.from_pretrained(bundled.MULTIMODAL, dtype="float32", device_map="auto")
    with tempfile.TemporaryDirectory() as folder:
        device_map = dict.fromkeys(IN_MEMORY, "cpu") | dict.fromkeys(ON_DISK, "disk")
        model = AutoModel.from_pretrained(
            bundled.MULTIMODAL, dtype="float32", device_map=device_map, offload_folder=folder
        )
        loaded = sum(parameter.nbytes for parameter in model.parameters() if not parameter.is_meta)
        total = sum(parameter.nbytes for parameter in whole.parameters())
        print(f"in memory: {loaded / 1e6:.1f} of {total / 1e6:.1f} MB")
        for column, encode in (("caption", "encode_text"), ("image", "encode_image"), ("depth", "encode_depth")):
            embeddings, expected = (getattr(one, encode)(scenes[column]) for one in (model, whole))
            difference = (embeddings.cpu() - expected.cpu()).abs().max().item()
            print(f"{encode} of {len(scenes)}: embeddings differ by {difference:.1e}")


if __name__ == "__main__":
    main()
