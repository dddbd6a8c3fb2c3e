"""How fast `encode` is with depth maps, beside the legacy way, and what each precision costs.

    python benchmarks/bench_encode.py [--sections depth accuracy files] [--repeats 5]
    python benchmarks/bench_encode.py --sections accuracy --maps FILE.parquet ...

All ways of a section run in turn, several times, in one process; the rates are medians and the ratios theirs. Speed is
measured on the full-size network with random weights, accuracy on the trained sample models and real maps.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from measuring import machine, rates_in_turn
from transformers import AutoModel

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel, create_semantic_encoder
from hf_encoders.export.towers import export
from hf_encoders.models.backend import Backend, get_backend
from hf_encoders.progress import quiet_libraries

SAMPLES = Path(__file__).parent.parent / "samples"
OBJECTS = SAMPLES / "objects"
ACCURACY_MAPS = [OBJECTS / "train.parquet", OBJECTS / "test.parquet"]
LEGACY = "legacy: eager float32, batch 16"
SECTIONS = ("depth", "accuracy", "files")
GOALS = {"torch": 1.3, "openvino": 1.8, "openvino bfloat16": 4.0, "openvino int8": 7.0}
# The options of `encode` for each backend and precision.
TORCH: dict[str, dict[str, Any]] = {"torch": {}, "torch bfloat16": {"dtype": "bfloat16"}}
OPENVINO: dict[str, dict[str, Any]] = {
    "openvino": {"backend": "openvino"},
    "openvino bfloat16": {"backend": "openvino", "dtype": "bfloat16"},
}
OPENVINO_INT8 = OPENVINO | {"openvino int8": {"backend": "openvino", "dtype": "int8"}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--maps", nargs="+", type=Path, default=ACCURACY_MAPS, help="parquet files, for accuracy")
    args = parser.parse_args()
    quiet_libraries()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {args.repeats}")
    sections: dict[str, Callable[[], None]] = {
        "depth": partial(measure_depth, args.repeats),
        "accuracy": partial(measure_accuracy, args.maps),
        "files": partial(measure_files, args.repeats),
    }
    for name in args.sections:
        sections[name]()


def measure_depth(repeats: int) -> None:
    """Processed maps: the legacy way, every backend and precision, and each compiled backend by itself."""
    with tempfile.TemporaryDirectory() as folder:
        model = exported_depth_encoder(Path(folder))
        maps = torch.rand(128, 1, 128, 128) * 2 - 1
        compiling = OPENVINO_INT8 | {"onnx": {"backend": "onnx"}}
        options = TORCH | compiling
        ways: dict[str, Callable[[], object]] = {LEGACY: partial(legacy, model, maps)}
        for name, chosen in options.items():
            ways[name] = partial(model.encode, maps, batch_size=64, **chosen)
        for name, chosen in compiling.items():
            compiled = get_backend(model.tower("depth"), **chosen)
            ways[f"{name}, backend alone"] = partial(run_alone, compiled, maps)
        rates = rates_in_turn(ways, len(maps), repeats)
    print("\n| depth maps, 128 px, batch 64 | maps a second | of legacy | goal | of the backend alone |")
    print("|---|---|---|---|---|")
    for name in [LEGACY, *options]:
        alone = rates.get(f"{name}, backend alone")
        share = f"{rates[name] / alone:.2f}" if alone else ""
        print(f"| {name} | {rates[name]:.1f} | {rates[name] / rates[LEGACY]:.2f} | {GOALS.get(name, '')} | {share} |")


def measure_accuracy(files: Sequence[Path]) -> None:
    """Trained networks, real maps: cosines to float32 by PyTorch, and whether the nearest other has the same noun."""
    maps = concatenate_datasets([Dataset.from_parquet(str(file)) for file in files])
    nouns = np.array(maps["noun"])
    print(f"\n| each of {len(maps)} maps among the others | least cosine | mean cosine | right by 1-NN | points |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        create_semantic_encoder(
            pretrained_path=SAMPLES / "legacy" / "depth_autoencoder_small.pth"
        ).encoder.save_pretrained(folder / "autoencoder")
        for name, source in {"autoencoder": folder / "autoencoder", "rooms": SAMPLES / "multimodal-rooms"}.items():
            calibration = str(OBJECTS / "train.parquet")
            export(str(source), folder / f"{name}-out", "openvino", towers=["depth"], calibration=calibration)
            model = AutoModel.from_pretrained(folder / f"{name}-out")
            encode = model.tower("depth").encode
            exact, right = torch.empty(0), 0.0
            for label, options in (TORCH | OPENVINO_INT8).items():
                rows = encode(maps["depth"], normalize=True, **options)
                nearest = (rows @ rows.T).fill_diagonal_(-1).argmax(1)
                score = float((nouns[nearest] == nouns).mean())
                if label == "torch":
                    exact, right = rows, score
                cosines = (rows * exact).sum(1)
                print(
                    f"| {name}, {label} | {cosines.min():.5f} | {cosines.mean():.5f} | {score:.4f}"
                    f" | {100 * (score - right):+.2f} |"
                )


def measure_files(repeats: int) -> None:
    """16-bit PNG files against tensors that are in memory, through the full-size network."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = exported_depth_encoder(folder)
        maps = Dataset.from_parquet(str(OBJECTS / "test.parquet")).select(range(128))["depth"]
        paths = [folder / f"{index}.png" for index in range(len(maps))]
        for path, picture in zip(paths, maps, strict=True):
            picture.save(path)
        ready = model.processor(paths)
        ways: dict[str, Callable[[], object]] = {}
        chosen = TORCH | OPENVINO_INT8
        for name, options in chosen.items():
            for kind, inputs in (("files", paths), ("tensors", ready)):
                ways[f"{name} {kind}"] = partial(model.encode, inputs, **options)
        rates = rates_in_turn(ways, len(paths), repeats)
    print("\n| from files | files a second | tensors a second | ratio (goal 0.9) |\n|---|---|---|---|")
    for name in chosen:
        files, tensors = rates[f"{name} files"], rates[f"{name} tensors"]
        print(f"| {name} | {files:.1f} | {tensors:.1f} | {files / tensors:.2f} |")


def legacy(model: Any, maps: torch.Tensor) -> None:
    """What the legacy `encode_batch` does."""
    with torch.no_grad():
        torch.cat([model(part).pooler_output for part in maps.split(16)])


def run_alone(backend: Backend, maps: torch.Tensor) -> None:
    """A backend without what `encode` does around it."""
    batches = ((range(64), {"pixel_values": part}) for part in maps.split(64))
    with torch.inference_mode():
        for _ in backend.embed(batches):
            pass


def exported_depth_encoder(folder: Path) -> Any:
    """The full-size legacy network with random weights, in OpenVINO's float32 and int8 too."""
    torch.manual_seed(0)
    DepthSemanticEncoderModel(DepthSemanticEncoderConfig()).save_pretrained(folder / "full")
    calibration = str(OBJECTS / "train.parquet")
    export(str(folder / "full"), folder / "exported", "openvino", calibration=calibration)
    return AutoModel.from_pretrained(folder / "exported").eval()


if __name__ == "__main__":
    main()
