"""Converting full-size ResNet-50 and ViT-B/16 files to transformers' classes, beside the plain way.

    python benchmarks/bench_encoders.py

Writes the networks with random weights under the names of torchvision and timm, and measures in fresh processes:
conversion with its verification, and without, against `torch.load` + `save_file`, which renames nothing and proves
nothing. Seconds are of the whole process, with its imports. Memory is the peak beyond that of the imports, in
multiples of the file.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from measuring import machine, measure

PLAIN = """
import sys, torch
from safetensors.torch import save_file
save_file(torch.load(sys.argv[1], map_location="cpu")["state_dict"], sys.argv[2])
"""
CONVERT = """
import sys
from hf_encoders.commands.main import command
command(["convert", *sys.argv[1:], "--overwrite"])
print("nan")
"""
IMPORTS = """
import torch, transformers, safetensors.torch
from transformers import AutoModel, {model}
import hf_encoders.conversion.convert
"""


def resnet_50() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of torchvision's ResNet-50."""

    def layer(conv: str, norm: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{conv}.weight", shape
        yield from ((f"{norm}.{kind}", shape[:1]) for kind in ("weight", "bias", "running_mean", "running_var"))
        yield f"{norm}.num_batches_tracked", ()

    yield from layer("conv1", "bn1", 64, 3, 7, 7)
    before = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        middle, size = 64 * 2**stage, 256 * 2**stage
        for block in range(depth):
            name = f"layer{stage + 1}.{block}"
            yield from layer(f"{name}.conv1", f"{name}.bn1", middle, before, 1, 1)
            yield from layer(f"{name}.conv2", f"{name}.bn2", middle, middle, 3, 3)
            yield from layer(f"{name}.conv3", f"{name}.bn3", size, middle, 1, 1)
            if block == 0:
                yield from layer(f"{name}.downsample.0", f"{name}.downsample.1", size, before, 1, 1)
            before = size
    yield from (("fc.weight", (1000, before)), ("fc.bias", (1000,)))


def vit_base() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of timm's ViT-B/16."""
    width = 768
    yield from (("cls_token", (1, 1, width)), ("pos_embed", (1, 197, width)))
    yield from (("patch_embed.proj.weight", (width, 3, 16, 16)), ("patch_embed.proj.bias", (width,)))
    for block in range(12):
        for name, out, into in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            yield f"blocks.{block}.{name}.weight", (out * width, into * width)
            yield f"blocks.{block}.{name}.bias", (out * width,)
        for name in ("norm1", "norm2"):
            yield from ((f"blocks.{block}.{name}.{kind}", (width,)) for kind in ("weight", "bias"))
    yield from (("norm.weight", (width,)), ("norm.bias", (width,)))
    yield from (("head.weight", (1000, width)), ("head.bias", (1000,)))


def write(path: Path, shapes: Iterator[tuple[str, tuple[int, ...]]]) -> None:
    """Write a training checkpoint of a network with random weights, whose numbers stay small on the way through it."""
    torch.manual_seed(0)
    state_dict: dict[str, torch.Tensor] = {}
    for name, shape in shapes:
        if name.endswith("num_batches_tracked"):
            state_dict[name] = torch.tensor(1)
        elif name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "running_var")) or ".bn" in name:
            state_dict[name] = torch.full(shape, 0.0 if name.endswith(("bias", "running_mean")) else 1.0)
        else:
            state_dict[name] = torch.randn(shape) * 0.02
    torch.save({"state_dict": state_dict, "epoch": 90}, path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--make", nargs=2, metavar=("NETWORK", "FILE"), help="write a file that is converted, and end")
    args = parser.parse_args()
    if args.make:
        write(Path(args.make[1]), {"resnet50": resnet_50, "vit_b16": vit_base}[args.make[0]]())
        return
    repeats = args.repeats
    print(f"{machine()}; medians of {repeats} fresh processes\n")
    print("| file | | seconds | ratio | peak MiB | beyond imports, of the file |\n|---|---|---|---|---|---|")
    networks = (("resnet50", "ResNetModel"), ("vit_b16", "ViTModel"))
    with tempfile.TemporaryDirectory() as folder:
        for name, model in networks:
            path = Path(folder) / f"{name}.pth"
            # In a process of its own: what this one holds would count among the peaks of those that it starts.
            measure([__file__, "--make", name, str(path)], 1)
            arguments = ["-c", CONVERT, str(path), "--output", f"{folder}/repo"]
            base = {
                "plain": measure(["-c", "import torch, safetensors.torch"], repeats),
                "convert": measure(["-c", IMPORTS.format(model=model)], repeats),
            }
            results = {
                "torch.load + save_file": measure(["-c", PLAIN, str(path), f"{folder}/plain.safetensors"], repeats),
                "convert": measure(arguments, repeats),
                "convert, not verified": measure([*arguments, "--no-verify"], repeats),
            }
            mib = path.stat().st_size / 2**20
            plain = results["torch.load + save_file"].seconds
            for way, result in results.items():
                beyond = result.peak_mib - base["convert" if way.startswith("convert") else "plain"].peak_mib
                print(
                    f"| {path.name}, {mib:.0f} MiB | {way} | {result.seconds:.2f} | {result.seconds / plain:.2f}"
                    f" | {result.peak_mib:.0f} | {beyond / mib:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
