"""How good embeddings are: retrieval, zero-shot classification, nearest neighbours and linear probes."""

from .probes import knn_metrics, linear_probe_metrics
from .retrieval import retrieval_metrics
from .zero_shot import zero_shot_metrics

__all__ = ["knn_metrics", "linear_probe_metrics", "retrieval_metrics", "zero_shot_metrics"]
