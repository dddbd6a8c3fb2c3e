"""What one GPU does: encoding in each precision, compiled or not, and the steps of a training.

    python benchmarks/bench_gpu.py [--sections encode training memory] [--repeats 5]

It needs this package or its clone (`PYTHONPATH=. python benchmarks/bench_gpu.py`), no network, and under 8 minutes on
one card. The networks have random weights and their full size. All ways of a network run several times, in one process;
the rates are medians. `--device cpu --quick` runs it anywhere with tiny networks, as its test does.
"""

import argparse
import copy
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTImageProcessor, ViTModel

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from hf_encoders.losses import InfoNCELoss
from hf_encoders.models.tower import Tower
from hf_encoders.progress import quiet_libraries
from hf_encoders.towers import make_tower

SECTIONS = ("encode", "training", "memory")
_TINY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_TINY_DEPTH: dict[str, Any] = {
    "hidden_size": 32, "stem_sizes": [4, 8], "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1],
    "enhance_size": 8, "fusion_size": 4, "fc_sizes": [32, 32],
}  # fmt: skip
# The memory that batches of the section "memory" may have.
_ROOM = 4 << 30
_PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Network:
    """A network and processed inputs for it.

    Args:
        tower: of the network.
        inputs: the tensors of all inputs, on the CPU.
        count: how many there are.
        batch: how many the network sees at a time.
    """

    tower: Tower
    inputs: Mapping[str, Tensor]
    count: int
    batch: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny networks, to see that it runs")
    args = parser.parse_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --quick runs it on the CPU")
    quiet_libraries()
    name = torch.cuda.get_device_name() if args.device.startswith("cuda") else "CPU"
    print(f"{name}, torch {torch.__version__}, medians of {args.repeats}")
    started = time.perf_counter()
    for section in args.sections:
        {"encode": measure_encoding, "training": measure_training, "memory": measure_memory}[section](args)
    print(f"\n{time.perf_counter() - started:.0f} s in all")


def networks(quick: bool) -> dict[str, Network]:
    """The depth encoder, a ViT-B/16 and a BERT-base, with random weights."""
    torch.manual_seed(0)
    count, batch = (8, 4) if quick else (2048, 256)
    side = 32 if quick else 224
    depth = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**(_TINY_DEPTH if quick else {})))
    vit = ViTModel(ViTConfig(image_size=side, **(_TINY if quick else {})), add_pooling_layer=False)
    bert = BertModel(BertConfig(**(_TINY if quick else {})), add_pooling_layer=False)
    tokenizer = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4})
    tokens = torch.randint(bert.config.vocab_size, (count, 16 if quick else 128))
    return {
        f"depth encoder, {32 if quick else 128} px": Network(
            depth.eval().tower("depth"),
            {"pixel_values": torch.rand(count, 1, *[32 if quick else 128] * 2) * 2 - 1},
            count,
            batch,
        ),
        f"ViT-B/16, {side} px": Network(
            make_tower(vit.eval(), ViTImageProcessor(), "image", pooling="cls"),
            {"pixel_values": torch.rand(count, 3, side, side) * 2 - 1},
            count,
            batch,
        ),
        f"BERT-base, {tokens.shape[1]} tokens": Network(
            make_tower(bert.eval(), tokenizer, "text", pooling="mean"),
            {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)},
            count,
            batch,
        ),
    }


def measure_encoding(args: argparse.Namespace) -> None:
    """Each network in each precision, as it is and compiled, beside a plain loop in float32."""
    for title, network in networks(args.quick).items():
        flops = flops_of(network) / network.count
        rates: dict[str, float] = {}
        differences: dict[str, float] = {}
        expected = rows(network, args.device, "fp32")
        for name, way in ways_of(network, args.device, args.quick).items():
            try:
                differences[name] = relative_difference(way(), expected)  # compiles
                rates[name] = rate(way, network.count, args.repeats, args.device)
            except Exception as error:  # a compiler that is not there; the other rows count all the same
                print(f"{title}, {name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
        plain = rates["plain loop, fp32"]
        precisions = [each for each in _PRECISIONS if any(each in name for name in rates)]
        peaks = {each: peak_flops(each, args.device, args.quick) for each in precisions}
        print(f"\n| {title}, batch {network.batch} | a second | of the plain loop | of the card's peak | differs by |")
        print("|---|---|---|---|---|")
        for name, found in rates.items():
            peak = peaks[next(each for each in precisions if each in name)]
            print(
                f"| {name} | {found:.0f} | {found / plain:.2f} | {found * flops / peak:.2f} | {differences[name]:.1e} |"
            )


def ways_of(network: Network, device: str, quick: bool) -> dict[str, Callable[[], Tensor]]:
    """The ways to encode a network's inputs, by name; each has a copy of the network of its own where it changes it."""
    ways: dict[str, Callable[[], Tensor]] = {"plain loop, fp32": partial(plain_loop, network, device)}
    for precision in ("fp32", "bf16") if quick else _PRECISIONS:
        ways[f"encode, {precision}"] = partial(rows, network, device, precision)
    for precision in () if quick else ("bf16", "fp16"):
        ways[f"encode, weights in {precision}"] = partial(rows, in_precision(network, precision), device, precision)
    for precision in () if quick else ("tf32", "bf16"):
        for mode, name in ((None, "compiled"), ("reduce-overhead", "compiled with CUDA graphs")):
            other = in_precision(network, precision)
            other.tower.model.compile(mode=mode)
            ways[f"encode, {precision}, {name}"] = partial(rows, other, device, precision)
    if importlib.util.find_spec("sentence_transformers") and network.tower.name == "text":
        ways["sentence-transformers, fp32"] = partial(sentence_transformers_rows, network, device)
    return ways


def in_precision(network: Network, precision: str) -> Network:
    """The network with weights of its own, of a precision."""
    tower = copy.deepcopy(network.tower)
    module: nn.Module = tower.model
    module.to(_PRECISIONS[precision])
    return Network(tower, network.inputs, network.count, network.batch)


def rows(network: Network, device: str, precision: str) -> Tensor:
    """The embeddings by `encode`."""
    dtype = None if precision in ("fp32", "tf32") else _PRECISIONS[precision]
    with tf32(precision == "tf32"):
        found = network.tower.encode(network.inputs, network.batch, device=device, dtype=dtype)
    assert isinstance(found, Tensor)
    return found


@torch.inference_mode()
def plain_loop(network: Network, device: str) -> Tensor:
    """What people write themselves."""
    module: nn.Module = network.tower.model
    module.to(device)
    found = []
    with tf32(False):
        for start in range(0, network.count, network.batch):
            batch = {name: each[start : start + network.batch].to(device) for name, each in network.inputs.items()}
            found.append(network.tower.embed(batch).cpu())
    return torch.cat(found)


@torch.inference_mode()
def sentence_transformers_rows(network: Network, device: str) -> Tensor:
    """The same network in the modules of sentence-transformers, given the same tokens."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    module: nn.Module = network.tower.model.to(device)  # type: ignore[arg-type]  # transformers decorates its own
    pooling = Pooling(network.tower.dimensions, "mean")
    found = []
    for start in range(0, network.count, network.batch):
        batch = {name: each[start : start + network.batch].to(device) for name, each in network.inputs.items()}
        tokens = module(**batch).last_hidden_state
        found.append(pooling({"token_embeddings": tokens, **batch})["sentence_embedding"].cpu())
    return torch.cat(found)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 may be computed in TF32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def flops_of(network: Network) -> int:
    """Multiplications and additions for all inputs."""
    few = {name: each[:1] for name, each in network.inputs.items()}
    counter = FlopCounterMode(display=False)
    module: nn.Module = network.tower.model
    with counter, torch.no_grad():
        network.tower.embed({name: each.to(next(module.parameters()).device) for name, each in few.items()})
    return counter.get_total_flops() * network.count


def peak_flops(precision: str, device: str, quick: bool) -> float:
    """Operations a second of one large product of matrices: nearer to what can be had than a data sheet."""
    size = 256 if quick else 8192
    left, right = (torch.randn(size, size, device=device, dtype=_PRECISIONS[precision]) for _ in range(2))
    with tf32(precision == "tf32"):
        seconds = [timed(partial(torch.mm, left, right), device) for _ in range(6)][1:]
    return 2 * size**3 / statistics.median(seconds)


def rate(way: Callable[[], object], count: int, repeats: int, device: str) -> float:
    """Inputs a second."""
    return count / statistics.median(timed(way, device) for _ in range(repeats))


def timed(way: Callable[[], object], device: str) -> float:
    """Seconds until the device is done."""
    start = time.perf_counter()
    way()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def relative_difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, of the largest number."""
    return ((found.cpu() - expected.cpu()).abs().max() / expected.abs().max()).item()


def measure_training(args: argparse.Namespace) -> None:
    """Steps of a dual encoder of texts and images with InfoNCE and AdamW, in each precision, and with FSDP2."""
    batch, steps = (4, 2) if args.quick else (256, 10)
    print(f"\n| steps of BERT-base and ViT-B/16, batch {batch} | pairs a second | of fp32 | peak memory, GiB |")
    print("|---|---|---|---|")
    plain = 0.0
    for name in ("fp32", "tf32", "bf16", "bf16, FSDP2"):
        try:
            found, peak = training_rate(name, args, batch, steps)
        except Exception as error:  # too little memory, no process group; the other rows count all the same
            print(f"| {name} | {type(error).__name__}: {str(error).partition(chr(10))[0]} | | |")
            continue
        plain = plain or found
        print(f"| {name} | {found:.1f} | {found / plain:.2f} | {peak / 2**30:.1f} |")


def training_rate(name: str, args: argparse.Namespace, batch: int, steps: int) -> tuple[float, int]:
    """Pairs a second, and the peak of the card's memory."""
    cuda = args.device.startswith("cuda")
    found = [network for network in networks(args.quick).values() if network.tower.name != "depth"]
    names = [network.tower.name for network in found]
    modules: list[nn.Module] = [network.tower.model.train() for network in found]
    heads = [nn.Linear(network.tower.dimensions, 256) for network in found]
    loss = InfoNCELoss()
    trained = nn.ModuleList([*modules, *heads, loss]).to(args.device)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with process_group(args.device) if "FSDP2" in name else tf32("tf32" in name):
        if "FSDP2" in name:
            shard(modules)
        optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-5, fused=cuda)
        inputs = [
            {key: each.repeat(-(-batch // len(each)), *[1] * (each.ndim - 1))[:batch].to(args.device) for key, each in
             network.inputs.items()}
            for network in found
        ]  # fmt: skip
        kind = "cuda" if cuda else "cpu"

        def step() -> None:
            with torch.autocast(kind, torch.bfloat16, enabled="bf16" in name):
                embeddings = [
                    nn.functional.normalize(head(network.tower.embed(tensors)), dim=-1)
                    for network, head, tensors in zip(found, heads, inputs, strict=True)
                ]
                loss(dict(zip(names, embeddings, strict=True)), temperature=0.07).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        step()  # allocates
        seconds = statistics.median(timed(step, args.device) for _ in range(steps))
    return batch / seconds, torch.cuda.max_memory_allocated() if cuda else 0


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """A group of this process alone."""
    torch.distributed.init_process_group(
        "nccl" if device.startswith("cuda") else "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def shard(modules: list[nn.Module]) -> None:
    """FSDP2 over each layer of the networks, and over each network."""
    from torch.distributed.fsdp import fully_shard

    for module in modules:
        for layer in [each for each in module.modules() if type(each).__name__.endswith("Layer")]:
            fully_shard(layer)
        fully_shard(module)


def measure_memory(args: argparse.Namespace) -> None:
    """Batches that do not fit are halved: what is left of the rate, beside a batch that fits."""
    if not args.device.startswith("cuda"):
        print("\nThe section memory needs a CUDA device.")
        return
    network = networks(args.quick)[f"ViT-B/16, {32 if args.quick else 224} px"]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, _ROOM / total))
    try:
        print(f"\n| ViT-B/16 in {_ROOM >> 30} GiB | a second |\n|---|---|")
        for batch in (64, network.count):
            other = Network(network.tower, network.inputs, network.count, batch)
            found = rate(partial(rows, other, args.device, "fp32"), network.count, args.repeats, args.device)
            print(f"| batch_size={batch} | {found:.0f} |")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


if __name__ == "__main__":
    main()
