"""What it takes to know weights and files: the fingerprint of a large model, and `embed` again over unchanged files.

    python benchmarks/bench_identity.py [--quick]

The fingerprint reads every byte of the weights, which lie in a mapped file in the page cache. It stands beside reading
those bytes (their sum), SHA-256, and the 256 values per tensor that earlier versions looked at. The second table runs
what `hf-encoders embed` does after its model is loaded, over a folder of files that are all embedded already, and
stands beside listing that folder, as Python does it and as we do.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from measuring import machine
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from hf_encoders.data.collection import open_collection
from hf_encoders.data.location import list_files
from hf_encoders.embed.folder import Plan
from hf_encoders.embed.manifest import make_plan
from hf_encoders.embed.rows import RowEmbedder
from hf_encoders.embed.run import embed_collection
from hf_encoders.fingerprint import fingerprint
from hf_encoders.progress import hide_library_bars

TENSORS, VALUES = 100, 4_000_000  # 1.6 GB in float32
SMALL = {
    "image_size": 32, "hidden_size": 8, "stem_sizes": [2, 4], "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1],
    "enhance_size": 8, "fusion_size": 4, "fc_sizes": [8, 8],
}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    small = parser.parse_args().quick
    hide_library_bars()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        weigh(Path(folder, "weights.safetensors"), TENSORS // (10 if small else 1))
    with tempfile.TemporaryDirectory() as folder:
        embed_again(Path(folder), 10_000 if small else 100_000)


def weigh(path: Path, tensors: int) -> None:
    """Fingerprints of mapped weights."""
    save_file({f"layer.{number}": torch.randn(VALUES) for number in range(tensors)}, path)
    model = Mapped(load_file(path))
    ways = {
        "sum of the bytes": lambda: [int(tensor.view(torch.int64).sum()) for tensor in model.state_dict().values()],
        "fingerprint": lambda: fingerprint(model),
        "256 values per tensor (before)": lambda: sampled(model),
        "SHA-256": lambda: [hashlib.sha256(tensor.numpy()).hexdigest() for tensor in model.state_dict().values()],
    }
    table(f"weights of {tensors * VALUES * 4 / 1e9:.1f} GB", ways, "sum of the bytes")


class Mapped(nn.Module):
    """Weights by name."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name.replace(".", "_"), tensor)


def sampled(model: nn.Module) -> str:
    """What earlier versions took for the weights."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        values = tensor.reshape(-1)
        digest.update(values[:: max(1, len(values) // 256)].numpy().tobytes())
    return digest.hexdigest()


def embed_again(folder: Path, count: int) -> None:
    """Embed a folder of small depth maps; then again, where nothing is left to do."""
    maps = folder / "maps"
    for number in range(count):
        path = maps / f"{number // 1000:03}" / f"{number:06}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.full((4, 4), 1 + number % 7, np.uint16) + np.eye(4, dtype=np.uint16))
    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig.from_dict(SMALL)).eval()

    def embed() -> None:
        collection = open_collection(str(maps), "depth")
        options = {"batch_size": 256}
        embedder = RowEmbedder(model, collection, "depth", options=options)
        plan: Plan = make_plan(model, collection, "depth", embedder, shard_rows=10_000, options={})
        embed_collection(embedder, collection, folder / "out", plan, processes=PartialState(cpu=True))

    embed()
    ways = {
        "sorted(Path.rglob)": lambda: sorted(path for path in maps.rglob("*") if path.suffix == ".npy"),
        "our listing": lambda: list_files([maps], "depth"),
        "embed again": embed,
    }
    table(f"{count:,} unchanged files", ways, "sorted(Path.rglob)")


def table(title: str, ways: Mapping[str, Callable[[], object]], reference: str, repeats: int = 5) -> None:
    """Time each way in turn; print medians, and ratios to one of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"\n| {title} | seconds | ratio |\n|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.3f} | {median / medians[reference]:.2f} |")


if __name__ == "__main__":
    main()
