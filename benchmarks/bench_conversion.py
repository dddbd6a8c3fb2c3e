"""Converting and loading full-size legacy checkpoints, beside the plain way.

    python benchmarks/bench_conversion.py

Makes a training checkpoint of 1.6 GB (the full AutoEncoder with AdamW's state), and measures in fresh processes:
opening it, which reads its structure alone, against `torch.load`; conversion against `torch.load` + `save_file` of the
encoder, with peak memory; and loading the result with `AutoModel.from_pretrained` against the legacy way (build the
network, `torch.load`, `load_state_dict`). Then the same of a multimodal checkpoint of 0.8 GB (BERT-base and ViT-B/16
with the goldens' weights), converted against `torch.load` + `load_state_dict` + `save_pretrained`.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from measuring import Measurement, machine, measure

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig

ROOT = Path(__file__).parent.parent

# Each prints its seconds without the imports.
PLAIN = """
import sys, time, torch
from safetensors.torch import save_file
start = time.perf_counter()
tensors = torch.load(sys.argv[1], map_location="cpu")["model_state_dict"]
save_file({k: v for k, v in tensors.items() if k.startswith("encoder.")}, sys.argv[2])
print(time.perf_counter() - start)
"""
CONVERT = """
import sys, time
from hf_encoders.commands.main import command
start = time.perf_counter()
command(["convert", *sys.argv[1:], "--overwrite"])
print(time.perf_counter() - start)
"""
OPEN = """
import sys, time, torch
from hf_encoders.checkpoints.files import open_checkpoint
start = time.perf_counter()
content = open_checkpoint(sys.argv[1]).content
print(time.perf_counter() - start)
"""
PLAIN_OPEN = """
import sys, time, torch
start = time.perf_counter()
content = torch.load(sys.argv[1], map_location="cpu", weights_only=True, mmap=sys.argv[2] == "mapped")
print(time.perf_counter() - start)
"""
MAKE_MULTIMODAL = f"""
import sys, pathlib, torch
from tests.helpers.golden import golden_state_dict
keys = pathlib.Path({str(ROOT / "tests" / "data" / "multimodal_base_keys.tsv")!r})
torch.save({{"epoch": 0, "global_step": 0, "model_state_dict": golden_state_dict(keys)}}, sys.argv[1])
"""
PLAIN_MULTIMODAL = """
import sys, time, torch, hf_encoders
from hf_encoders.conversion.families.legacy.multimodal_layouts import model_name
from transformers import BertConfig, ViTConfig
from transformers.utils import logging
logging.disable_progress_bar()
start = time.perf_counter()
config = hf_encoders.MultimodalEncoderConfig(text_config=BertConfig(), vision_config=ViTConfig())
model = hf_encoders.MultimodalEncoderModel(config)
tensors = torch.load(sys.argv[1], map_location="cpu")["model_state_dict"]
model.load_state_dict({model_name(k): v for k, v in tensors.items() if ".pooler." not in k})
model.save_pretrained(sys.argv[2])
print(time.perf_counter() - start)
"""
AUTO_MODEL = """
import sys, time, torch, hf_encoders
from transformers import AutoModel
from transformers.utils import logging
logging.disable_progress_bar()
start = time.perf_counter()
model = AutoModel.from_pretrained(sys.argv[1])
model(torch.zeros(0, 1, 128, 128))
print(time.perf_counter() - start)
"""
LEGACY = """
import sys, time, torch, hf_encoders
start = time.perf_counter()
model = hf_encoders.DepthSemanticEncoderModel(hf_encoders.DepthSemanticEncoderConfig())
content = torch.load(sys.argv[1], map_location="cpu")
tensors = content.get("encoder_state_dict") or content["model_state_dict"]
model.load_state_dict({k.removeprefix("encoder."): v for k, v in tensors.items() if not k.startswith("decoder.")})
model.eval()(torch.zeros(0, 1, 128, 128))
print(time.perf_counter() - start)
"""


def make_checkpoint(path: Path) -> None:
    """Write a training checkpoint of the full-size AutoEncoder with AdamW's state."""
    torch.manual_seed(0)
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=1e-5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    content = {
        "epoch": 0,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": {},
        "loss": 1.0,
        "best_loss": 1.0,
        "training_history": {"train_loss": [1.0], "val_loss": [1.0]},
        "config": {"image_size": 128, "latent_dim": 768, "input_channels": 1, "height_range": 10.0},
    }
    torch.save(content, path)
    encoder = {k.removeprefix("encoder."): v for k, v in model.state_dict().items() if k.startswith("encoder.")}
    torch.save({"encoder_state_dict": encoder, "model_config": {}}, path.with_name("encoder.pth"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--make", type=Path, metavar="FILE", help="write the checkpoint that is converted, and end")
    args = parser.parse_args()
    if args.make:
        make_checkpoint(args.make)
        return
    repeats = args.repeats
    print(f"{machine()}; medians of {repeats} fresh processes")
    with tempfile.TemporaryDirectory() as folder:
        measure_depth(folder, repeats)
    with tempfile.TemporaryDirectory() as folder:
        measure_multimodal(folder, repeats)


def measure_depth(folder: str, repeats: int) -> None:
    """Convert the autoencoder's training checkpoint, and load the result."""
    checkpoint, encoder, repo = (f"{folder}/{name}" for name in ("training.pth", "encoder.pth", "repo"))
    measure([__file__, "--make", checkpoint], 1)
    opening = {
        "torch.load": measure(["-c", PLAIN_OPEN, checkpoint, "read"], repeats),
        "torch.load, mapped": measure(["-c", PLAIN_OPEN, checkpoint, "mapped"], repeats),
        "open_checkpoint": measure(["-c", OPEN, checkpoint], repeats),
    }
    _print_table(checkpoint, opening)
    plain = measure(["-c", PLAIN, checkpoint, f"{folder}/plain.safetensors"], repeats)
    _print_table(checkpoint, {"torch.load + save_file": plain, **_conversions(checkpoint, repo, repeats)})
    auto = measure(["-c", AUTO_MODEL, repo], repeats)
    legacy = measure(["-c", LEGACY, encoder], repeats)
    training = measure(["-c", LEGACY, checkpoint], repeats)
    loading = {"AutoModel.from_pretrained": auto, "legacy, encoder file": legacy, "legacy, training file": training}
    _print_table(checkpoint, loading)


def measure_multimodal(folder: str, repeats: int) -> None:
    """Convert BERT-base and ViT-B/16."""
    checkpoint = f"{folder}/multimodal.pt"
    measure(["-c", MAKE_MULTIMODAL, checkpoint], 1)
    plain = measure(["-c", PLAIN_MULTIMODAL, checkpoint, f"{folder}/plain"], repeats)
    converted = _conversions(checkpoint, f"{folder}/repo", repeats, "--allow-no-tokenizer")
    _print_table(checkpoint, {"torch.load + load_state_dict + save_pretrained": plain, **converted})


def _conversions(checkpoint: str, repo: str, repeats: int, *options: str) -> dict[str, Measurement]:
    arguments = ["-c", CONVERT, checkpoint, "--output", repo, *options]
    return {
        "convert": measure(arguments, repeats),
        "convert, not verified": measure([*arguments, "--no-verify"], repeats),
    }


def _print_table(checkpoint: str, results: dict[str, Measurement]) -> None:
    """One line a result, with its ratio to the first."""
    print(f"\n{Path(checkpoint).name}, {Path(checkpoint).stat().st_size / 1e9:.2f} GB")
    print("\n| | seconds | ratio | with imports | ratio | peak MiB |\n|---|---|---|---|---|---|")
    first = next(iter(results.values()))
    for name, result in results.items():
        inside, ratio = result.printed, result.printed / first.printed
        print(
            f"| {name} | {inside:.2f} | {ratio:.2f} | {result.seconds:.2f} | {result.seconds / first.seconds:.2f}"
            f" | {result.peak_mib:.0f} |"
        )


if __name__ == "__main__":
    main()
