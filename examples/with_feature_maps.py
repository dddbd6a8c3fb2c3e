"""Feature maps: what each stage of the depth encoder sees, at strides 4, 4, 8, 16 and 32.

    python examples/with_feature_maps.py [maps.png]

With a path, draws the mean over the channels of each map.
"""

import sys

import bundled
import matplotlib
import numpy as np
import torch
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402 - the backend is chosen first


def main() -> None:
    """Print the shapes, and draw the maps if asked."""
    model = AutoModel.from_pretrained(bundled.depth_encoder())
    scene = bundled.scenes("objects", "test")[0]
    pixel_values = model.processor(scene["depth"], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        maps = model(pixel_values, output_hidden_states=True).hidden_states
    names = ["stem", "layer1", "layer2", "layer3", "layer4"]
    for name, features in zip(names, maps, strict=True):
        _, channels, height, width = features.shape
        print(f"{name}: {channels} channels of {height}x{width}, stride {pixel_values.shape[-1] // width}")
    if len(sys.argv) > 1:
        figure, axes = plt.subplots(1, 6, figsize=(12, 2.4), layout="constrained")
        shown = [np.asarray(scene["depth"], dtype=np.float32), *(features[0].mean(0).numpy() for features in maps)]
        for axis, name, values in zip(axes, [scene["noun"], *names], shown, strict=True):
            axis.imshow(values)
            axis.set_title(name)
            axis.axis("off")
        figure.savefig(sys.argv[1])
        plt.close(figure)


if __name__ == "__main__":
    main()
