"""How similar two depth maps are: the cosine of their embeddings, for pairs of the same thing and of different things.

    python examples/map_similarity.py

Two encoders answer: an autoencoder's, which learned to redraw maps, and the depth tower of the sample model, which
learned from captions what is on them.
"""

from typing import Any

import bundled
import torch
from torch import Tensor
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models with AutoModel


def main() -> None:
    """Compare all pairs of test maps."""
    autoencoder = AutoModel.from_pretrained(bundled.depth_encoder())
    multimodal = AutoModel.from_pretrained(bundled.MULTIMODAL)
    maps = bundled.scenes("objects", "test")
    nouns = maps["noun"]
    same = torch.tensor([[one == other for other in nouns] for one in nouns])
    same_pairs, other_pairs = same.triu(1), ~same
    print(f"{len(maps)} maps: {same_pairs.sum()} pairs of the same noun, {other_pairs.sum() // 2} of different nouns")

    first, second = same_pairs.nonzero()[0].tolist()
    third = int(other_pairs[first].nonzero()[0])
    encoders: dict[str, Any] = {"autoencoder": autoencoder.encode, "sample model": multimodal.encode_depth}
    for name, encode in encoders.items():
        embeddings = encode(maps["depth"], normalize=True)
        similarity = embeddings @ embeddings.T  # rows have length 1, so that products are cosines
        print(f"\n{name}, {embeddings.shape[1]} dimensions")
        for other in (second, third):
            print(f"  maps {first} ({nouns[first]}) and {other} ({nouns[other]}): {similarity[first, other]:.2f}")
        same_values, other_values = similarity[same_pairs], similarity[other_pairs]
        print(f"  mean of the same noun {same_values.mean():.2f}, of different nouns {other_values.mean():.2f}")
        print(f"  the same noun is more similar in {wins(same_values, other_values):.0%} of comparisons (chance: 50%)")


def wins(better: Tensor, worse: Tensor) -> float:
    """Share of pairs (one of each) in which the first is larger; 0.5 by chance."""
    return float(torch.searchsorted(worse.sort().values, better).double().mean() / len(worse))


if __name__ == "__main__":
    main()
