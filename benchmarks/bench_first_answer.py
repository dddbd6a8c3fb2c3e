"""How soon a command answers what needs no model: its help, a wrong option, a file that is not there.

    python benchmarks/bench_first_answer.py [--quick]

Each row is a command, in multiples of `python -c "import huggingface_hub"` in the same run. Every call is a process of
its own; they take turns, so that a slow minute of the machine slows all of them. The figure of a call is its least
processor time of all rounds, which other work on the machine changes less than its wall time.
"""

import argparse
import os
import subprocess
import sys

from measuring import machine

from hf_encoders.commands.main import COMMANDS

PLAIN = ["-c", "import huggingface_hub"]
CONSOLE = ["-c", "import sys; from hf_encoders.commands.main import main; sys.exit(main())"]  # as the console script
WRONG = ["--nothing"]
HELP = ["--help"]
# What each command needs before it misses a file; `train` misses its recipe.
ABSENT = {
    "convert": ["absent.pth"],
    "inspect": ["absent.pth"],
    "verify": ["./absent"],
    "export-legacy": ["./absent", "out.pth"],
    "encode": ["./absent", "."],
    "embed": ["./absent", ".", "--output", "out"],
    "search": ["./absent", ".", "a chair"],
    "classify": ["./absent", ".", "--labels", "chair"],
    "evaluate": ["./absent", "."],
    "train": ["absent.yaml"],
    "export": ["./absent", "--to", "onnx"],
    "push": ["./absent", "org/name"],
}
DOORS = {
    "conversion/convert_ckpt.py": ["absent.pth"],
    "conversion/export_legacy.py": ["./absent", "out.pth"],
    "training/evaluate.py": ["./absent", "."],
    "training/pretrain.py": ["absent.yaml"],
    "training/pretrain_depth.py": ["absent.yaml"],
    "-m hf_encoders.embed": ["./absent", ".", "--output", "out"],
    "-m hf_encoders.training.pretrain": ["absent.yaml"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 15")
    rounds = 3 if parser.parse_args().quick else 15
    ways = {f"hf-encoders {name}": ([*CONSOLE, name], ABSENT.get(name)) for name in COMMANDS}
    ways = {"hf-encoders": (CONSOLE, None), **ways, **{door: (door.split(), words) for door, words in DOORS.items()}}
    calls = {("plain", ""): PLAIN}
    for way, (start, absent) in ways.items():
        calls |= {(way, "help"): [*start, *HELP], (way, "wrong"): [*start, *WRONG]}
        calls |= {(way, "absent"): [*start, *absent]} if absent else {}
    found = [{call: _seconds(words) for call, words in calls.items()} for _ in range(rounds)]
    least = {call: min(one[call] for one in found) for call in calls}
    plain = least["plain", ""]
    print(f"{machine()}; least of {rounds} rounds; import huggingface_hub: {1000 * plain:.0f} ms")
    print("\n| | --help | a wrong option | a missing file |\n|---|---|---|---|")
    for way in ways:
        cells = [
            f"{least[way, kind] / plain:.2f}" if (way, kind) in least else "" for kind in ("help", "wrong", "absent")
        ]
        print(f"| {way} | {' | '.join(cells)} |")


def _seconds(words: list[str]) -> float:
    """Processor time of a process."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
