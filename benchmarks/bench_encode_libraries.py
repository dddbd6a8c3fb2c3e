"""How fast `encode_text` and `encode_image` are, beside what people would pick instead.

    pip install -e '.[bench]' && pip install --no-deps open_clip_torch  # torchvision is not needed
    python benchmarks/bench_encode_libraries.py [--sections texts images] [--repeats 5]

Full-size towers with random weights (BERT-base, ViT-B/16), the same in transformers, sentence-transformers and
open_clip. All ways of a section run in turn, several times, in one process; the rates are medians and the ratios
theirs.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_encode import OPENVINO, SAMPLES, TORCH
from datasets import Dataset
from measuring import machine, rates_in_turn
from open_clip_towers import open_clip_image_tower, open_clip_text_tower
from PIL import Image
from transformers import AutoModel, AutoTokenizer, BertConfig, ViTConfig, ViTImageProcessor

from hf_encoders import MultimodalEncoderConfig, MultimodalEncoderModel, MultimodalEncoderProcessor
from hf_encoders.hub.complete import complete_repo
from hf_encoders.progress import quiet_libraries


def main() -> None:
    """Measure and print."""
    sections = {"texts": measure_texts, "images": measure_images}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--sections", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    quiet_libraries()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {args.repeats}")
    for name in args.sections:
        sections[name](args.repeats)


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
            ways[f"encode_text, {name}"] = partial(model.encode_text, texts, **options)
        rates = rates_in_turn(ways, len(texts), repeats)
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
            ways[f"encode_image, {name}"] = partial(model.encode_image, paths, **options)
        rates = rates_in_turn(ways, len(paths), repeats)
    print_ratios("JPEG files of 640x480, ViT-B/16", rates, "1.3 of the first, 1.0 of the others")


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
