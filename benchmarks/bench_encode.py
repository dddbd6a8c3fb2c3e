"""How fast `encode` is, beside the legacy way and what people would pick instead, and what each precision costs.

    python benchmarks/bench_encode.py [--sections depth accuracy files texts images] [--repeats 5]
    python benchmarks/bench_encode.py --sections accuracy --maps FILE.parquet ...

All ways of a section run in turn, several times, in one process; the rates are medians and the ratios theirs. Speed is
measured on full-size networks with random weights (the legacy encoder, BERT-base, ViT-B/16), accuracy on the trained
sample models and real maps. The sections of texts and images need `pip install -e '.[bench]'` and
`pip install --no-deps open_clip_torch` (torchvision is not needed).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from PIL import Image
from transformers import AutoModel, AutoTokenizer, BertConfig, ViTConfig, ViTImageProcessor
from transformers.utils import logging

from hf_encoders import (
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderModel,
    MultimodalEncoderConfig,
    MultimodalEncoderModel,
    MultimodalEncoderProcessor,
    create_semantic_encoder,
)
from hf_encoders.export import export
from hf_encoders.repo_files import complete_repo
from measuring import machine
from open_clip_towers import open_clip_image_tower, open_clip_text_tower

SAMPLES = Path(__file__).parent.parent / "samples"
OBJECTS = SAMPLES / "objects"
ACCURACY_MAPS = [OBJECTS / "train.parquet", OBJECTS / "test.parquet"]
LEGACY = "legacy: eager float32, batch 16"
SECTIONS = ("depth", "accuracy", "files", "texts", "images")
GOALS = {"openvino": 1.5, "openvino bfloat16": 3.0, "openvino int8": 6.0}
# The options of `encode` for each backend and precision.
TORCH: dict[str, dict[str, Any]] = {"torch": {}, "torch bfloat16": {"dtype": "bfloat16"}}
OPENVINO: dict[str, dict[str, Any]] = {
    "openvino": {"backend": "openvino"},
    "openvino bfloat16": {"backend": "openvino", "dtype": "bfloat16"},
}
OPENVINO_INT8 = OPENVINO | {"openvino int8": {"backend": "openvino", "dtype": "int8"}}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--maps", nargs="+", type=Path, default=ACCURACY_MAPS, help="parquet files, for accuracy")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {args.repeats}")
    sections: dict[str, Callable[[], None]] = {
        "depth": partial(measure_depth, args.repeats),
        "accuracy": partial(measure_accuracy, args.maps),
        "files": partial(measure_files, args.repeats),
        "texts": partial(measure_texts, args.repeats),
        "images": partial(measure_images, args.repeats),
    }
    for name in args.sections:
        sections[name]()


def measure_depth(repeats: int) -> None:
    """Processed maps: the legacy way, every backend and precision, and each engine by itself."""
    with tempfile.TemporaryDirectory() as folder:
        model = exported_depth_encoder(Path(folder))
        maps = torch.rand(128, 1, 128, 128) * 2 - 1
        engines = OPENVINO_INT8 | {"onnx": {"backend": "onnx"}}
        options = TORCH | engines
        ways: dict[str, Callable[[], object]] = {LEGACY: lambda: legacy(model, maps)}
        for name, chosen in options.items():
            ways[name] = lambda chosen=chosen: model.encode(maps, batch_size=64, **chosen)  # type: ignore[misc]
        for name, chosen in engines.items():
            engine = model.engines.get(model, "depth", model._embed, **chosen)
            ways[f"{name}, engine alone"] = lambda engine=engine: run_alone(engine, maps)  # type: ignore[misc]
        rates = compare(ways, len(maps), repeats)
    print("\n| depth maps, 128 px, batch 64 | maps a second | of legacy | goal | of the engine alone |")
    print("|---|---|---|---|---|")
    for name in [LEGACY, *options]:
        alone = rates.get(f"{name}, engine alone")
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
            encode = getattr(model, "encode_depth", None) or model.encode
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
                ways[f"{name} {kind}"] = lambda inputs=inputs, options=options: model.encode(inputs, **options)  # type: ignore[misc]
        rates = compare(ways, len(paths), repeats)
    print("\n| from files | files a second | tensors a second | ratio (goal 0.9) |\n|---|---|---|---|")
    for name in chosen:
        files, tensors = rates[f"{name} files"], rates[f"{name} tensors"]
        print(f"| {name} | {files:.1f} | {tensors:.1f} | {files / tensors:.2f} |")


def measure_texts(repeats: int) -> None:
    """Sentences of mixed length through BERT-base."""
    from sentence_transformers import SentenceTransformer

    captions = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet"))["caption"][:]
    generator = np.random.default_rng(0)
    texts = [" and ".join(generator.choice(captions, size)) for size in generator.integers(1, 9, size=128)]
    with tempfile.TemporaryDirectory() as folder:
        model = base_multimodal(Path(folder))
        theirs = SentenceTransformer(folder, device="cpu")

        tower = open_clip_text_tower(model)
        longest = max(map(len, model.text_tokenizer(texts)["input_ids"]))

        def plain() -> None:
            for start in range(0, len(texts), 32):
                tokens = model.text_tokenizer(texts[start : start + 32], padding=True, return_tensors="pt")
                with torch.inference_mode():
                    model.get_text_features(**tokens)

        def open_clip() -> torch.Tensor:  # whose tokenizer pads all to one length
            options = {"padding": "max_length", "max_length": longest, "truncation": True, "return_tensors": "pt"}
            parts = (model.text_tokenizer(texts[start : start + 32], **options) for start in range(0, len(texts), 32))
            with torch.inference_mode():
                return torch.cat([tower(part["input_ids"]) for part in parts])

        check_same(open_clip(), model.encode_text(texts, normalize=False))
        ways: dict[str, Callable[[], object]] = {
            "transformers' get_text_features, in order": plain,
            "sentence-transformers": lambda: theirs.encode(texts, show_progress_bar=False),
            "open_clip, in order": open_clip,
        }
        for name, options in (TORCH | OPENVINO).items():
            ways[f"encode_text, {name}"] = lambda options=options: model.encode_text(texts, **options)  # type: ignore[misc]
        rates = compare(ways, len(texts), repeats)
    print_ratios("texts of 1 to 8 captions, BERT-base", rates, "1.5 of the first, 1.0 of the others")


def measure_images(repeats: int) -> None:
    """JPEG files through ViT-B/16."""
    from sentence_transformers import SentenceTransformer

    rooms = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet"))["image"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = base_multimodal(folder / "model")
        theirs = SentenceTransformer(str(folder / "model"), device="cpu")
        paths = [str(folder / f"{index}.jpg") for index in range(32)]
        for index, path in enumerate(paths):
            rooms[index].resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)

        tower = open_clip_image_tower(model)

        def plain(embed: Callable[[torch.Tensor], Any]) -> list[Any]:
            embedded = []
            for start in range(0, len(paths), 16):
                pictures = [Image.open(path).convert("RGB") for path in paths[start : start + 16]]
                with torch.inference_mode():
                    embedded.append(embed(model.image_processor(pictures, return_tensors="pt")["pixel_values"]))
            return embedded

        check_same(torch.cat(plain(tower)), model.encode_image(paths, normalize=False))
        ways: dict[str, Callable[[], object]] = {
            "processor and model, batch 16": lambda: plain(model.get_image_features),
            "sentence-transformers": lambda: theirs.encode(paths, show_progress_bar=False),
            "processor and open_clip's tower, batch 16": lambda: plain(tower),
        }
        for name, options in (TORCH | OPENVINO).items():
            ways[f"encode_image, {name}"] = lambda options=options: model.encode_image(paths, **options)  # type: ignore[misc]
        rates = compare(ways, len(paths), repeats)
    print_ratios("JPEG files of 640x480, ViT-B/16", rates, "1.3 of the first, 1.0 of the others")


def compare(ways: dict[str, Callable[[], object]], count: int, repeats: int) -> dict[str, float]:
    """Inputs a second of each way: medians of runs in turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: count / statistics.median(times) for name, times in seconds.items()}


def check_same(theirs: torch.Tensor, ours: torch.Tensor) -> None:
    """Refuse to compare what computes something else."""
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def print_ratios(title: str, rates: dict[str, float], goal: str) -> None:
    """A table of rates, and their ratios to the plain way and to the libraries."""
    plain, *others = list(rates.values())[:3]
    print(f"\n| {title} | a second | of the first | of the better of the next two |\n|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rate / plain:.2f} | {rate / max(others):.2f} |")
    print(f"\nGoal: {goal}.")


def legacy(model: Any, maps: torch.Tensor) -> None:
    """What the legacy `encode_batch` does."""
    with torch.no_grad():
        torch.cat([model(part).pooler_output for part in maps.split(16)])


def run_alone(engine: Any, maps: torch.Tensor) -> None:
    """An engine without what `encode` does around it."""
    batches = ((range(64), {"pixel_values": part}) for part in maps.split(64))
    with torch.inference_mode():
        for _ in engine.embed(batches):
            pass


def exported_depth_encoder(folder: Path) -> Any:
    """The full-size legacy network with random weights, in OpenVINO's float32 and int8 too."""
    torch.manual_seed(0)
    DepthSemanticEncoderModel(DepthSemanticEncoderConfig()).save_pretrained(folder / "full")
    calibration = str(OBJECTS / "train.parquet")
    export(str(folder / "full"), folder / "exported", "openvino", calibration=calibration)
    return AutoModel.from_pretrained(folder / "exported").eval()


def base_multimodal(folder: Path) -> Any:
    """BERT-base and ViT-B/16 with random weights."""
    torch.manual_seed(0)
    bert = BertConfig()
    model = MultimodalEncoderModel(MultimodalEncoderConfig(text_config=bert, vision_config=ViTConfig()))
    limit = bert.max_position_embeddings
    tokenizer = AutoTokenizer.from_pretrained(SAMPLES / "multimodal-rooms", model_max_length=limit)
    model.processor = MultimodalEncoderProcessor(image_processor=ViTImageProcessor(), tokenizer=tokenizer)
    model.save_pretrained(folder)
    complete_repo(folder, remote_code=False)
    return AutoModel.from_pretrained(folder).eval()


if __name__ == "__main__":
    main()
