"""Places embeddings on a map of two dimensions, near each other where they are alike."""

import numpy as np

from ..arrays import Vectors

# t-SNE of more takes minutes, and nobody sees more points.
MOST_POINTS = 2000
_LEAST_FOR_NEIGHBOURS = 10
_PERPLEXITY = 30.0  # the usual one; a few points have fewer neighbours
_PLANE = 2


def project(embeddings: Vectors) -> tuple[list[int], Vectors]:
    """Place embeddings on a map, by t-SNE of their cosines (van der Maaten and Hinton, 2008).

    Args:
        embeddings: [N, D] unit vectors.

    Returns:
        M = min(N, `MOST_POINTS`) rows, evenly spread over all; and their places [M, 2], from 0 to 1. The same
        embeddings have the same places on the same machine.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = len(embeddings)
    rows = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))
    chosen = np.asarray(embeddings, np.float32)[rows]
    if len(chosen) < _LEAST_FOR_NEIGHBOURS:
        places = np.zeros((len(chosen), _PLANE), np.float32)
        if len(chosen) > 1:
            axes = min(_PLANE, *chosen.shape)
            places[:, :axes] = PCA(axes).fit_transform(chosen)
    else:
        perplexity = min(_PERPLEXITY, (len(chosen) - 1) / 3)
        init = "pca" if chosen.shape[1] >= _PLANE else "random"
        places = TSNE(_PLANE, perplexity=perplexity, init=init, metric="cosine", random_state=0).fit_transform(chosen)
    return rows.tolist(), _from_0_to_1(places)


def _from_0_to_1(places: Vectors) -> Vectors:
    low, high = places.min(0, keepdims=True), places.max(0, keepdims=True)
    scaled: Vectors = (places - low) / np.maximum(high - low, 1e-9)
    return scaled.astype(np.float32)
