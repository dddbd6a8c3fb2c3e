"""What imports, the command's help and `from_pretrained` take, beside what cannot be avoided.

    python benchmarks/bench_loading.py [--quick]

Imports are timed in fresh processes, in turn. Loading is timed in one process, with the file in the page cache and
random weights, and ends when every byte of the weights was in use (their sums are taken), for transformers maps files
into memory and reads them when they are used. It stands beside reading the file in two ways: its bytes into memory,
and safetensors' `load_file`, which maps it too, with the same sums. BERT-base shows what is transformers' own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from measuring import machine
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, BertConfig, BertModel, PreTrainedModel, ViTConfig

from hf_encoders import (
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderModel,
    MultimodalEncoderConfig,
    MultimodalEncoderModel,
)
from hf_encoders.progress import hide_library_bars

# By name: what is run, and what it is compared with.
COMMANDS: dict[str, tuple[list[str], str | None]] = {
    "nothing (Python itself)": (["-c", "pass"], None),
    "import hf_encoders": (["-c", "import hf_encoders"], "nothing (Python itself)"),
    "import transformers": (["-c", "import transformers"], None),
    "import transformers, hf_encoders": (["-c", "import transformers, hf_encoders"], "import transformers"),
    "AutoModel": (["-c", "from transformers import AutoModel"], None),
    "hf_encoders, then AutoModel": (["-c", "import hf_encoders; from transformers import AutoModel"], "AutoModel"),
    "hf-encoders -h": (["-m", "hf_encoders.commands.main", "-h"], "nothing (Python itself)"),
    "hf-encoders encode -h": (["-m", "hf_encoders.commands.main", "encode", "-h"], "nothing (Python itself)"),
}
MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "depth encoder": lambda: DepthSemanticEncoderModel(DepthSemanticEncoderConfig()),
    "multimodal (BERT-base, ViT-B/16)": lambda: MultimodalEncoderModel(
        MultimodalEncoderConfig(text_config=BertConfig(), vision_config=ViTConfig())
    ),
    "transformers' own BERT-base": lambda: BertModel(BertConfig()),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="3 repeats instead of 9")
    repeats = 3 if parser.parse_args().quick else 9
    hide_library_bars()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {repeats}")
    measure_imports(repeats)
    measure_loading(repeats)


def measure_imports(repeats: int) -> None:
    """Fresh processes, in turn, so that a slow minute of the machine slows all of them."""
    rounds = [{name: _seconds(command) for name, (command, _) in COMMANDS.items()} for _ in range(repeats)]
    seconds = {name: statistics.median(one[name] for one in rounds) for name in COMMANDS}
    print("\n| | seconds | more than | by |\n|---|---|---|---|")
    for name, (_, base) in COMMANDS.items():
        more = f"{base} | {seconds[name] - seconds[base]:+.3f}" if base else "|"
        print(f"| {name} | {seconds[name]:.3f} | {more} |")


def measure_loading(repeats: int) -> None:
    """Reading a file and loading the model, in turn."""
    print("\n| | MB | bytes | load_file | from_pretrained | / bytes | / load_file |\n|---|---|---|---|---|---|---|")
    for name, make in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            make().save_pretrained(folder)
            file = Path(folder, "model.safetensors")
            ways: list[Callable[[], object]] = [file.read_bytes, partial(_read, file), partial(_load, folder)]
            rounds = [[_time(way) for way in ways] for _ in range(repeats + 1)][1:]  # the first one warms up
            read, mapped, loaded = (statistics.median(times) for times in zip(*rounds, strict=True))
            print(
                f"| {name} | {file.stat().st_size / 1e6:.0f} | {read:.3f} | {mapped:.3f} | {loaded:.3f}"
                f" | {loaded / read:.2f} | {loaded / mapped:.2f} |"
            )


def _read(file: Path) -> None:
    _use(load_file(file).values())


def _load(folder: str) -> None:
    _use(AutoModel.from_pretrained(folder).state_dict().values())


def _use(tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        tensor.sum()


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _seconds(command: list[str]) -> float:
    return _time(lambda: subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL))


if __name__ == "__main__":
    main()
