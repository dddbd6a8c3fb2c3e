"""What a stopped run advises: the command line that started it, launcher and all."""

import pytest

from hf_encoders.training.resume_command import resume_words

PYTHON = "/venv/bin/python"
RUN = ["recipe.yaml", "--epochs", "3"]
SCRIPT = ["training/pretrain.py", *RUN]
MODULE = ["-m", "hf_encoders.training.pretrain", *RUN]
AGAIN = "recipe.yaml --epochs 3 --resume_from_checkpoint latest"


@pytest.mark.parametrize(
    ("launcher", "own", "said"),
    [
        ([], [PYTHON, *SCRIPT], "python training/pretrain.py"),
        ([], [PYTHON, "-u", *MODULE], "python -m hf_encoders.training.pretrain"),
        ([], [PYTHON, "/venv/bin/hf-encoders", "train", *RUN], "hf-encoders train"),
        (["bash", "-c", "python training/pretrain.py"], [PYTHON, *SCRIPT], "python training/pretrain.py"),
        (
            [PYTHON, "/venv/bin/accelerate", "launch", "--num_processes", "8", *SCRIPT],
            [PYTHON, *SCRIPT],
            "accelerate launch --num_processes 8 training/pretrain.py",
        ),
        (
            [PYTHON, "-m", "accelerate.commands.launch", *MODULE],
            [PYTHON, *MODULE],
            "accelerate launch -m hf_encoders.training.pretrain",
        ),
        (
            [PYTHON, "/venv/bin/torchrun", "--nproc_per_node", "8", *SCRIPT],
            [PYTHON, "-u", *SCRIPT],
            "torchrun --nproc_per_node 8 training/pretrain.py",
        ),
        (
            [PYTHON, "-m", "torch.distributed.run", "--nproc-per-node=2", *SCRIPT],
            [PYTHON, "-u", *SCRIPT],
            "python -m torch.distributed.run --nproc-per-node=2 training/pretrain.py",
        ),
        (
            [PYTHON, "/venv/bin/accelerate", "launch", "other.py"],
            [PYTHON, *SCRIPT],
            "python training/pretrain.py",
        ),
    ],
)
def test_it_is_what_was_typed(launcher, own, said):
    assert resume_words(own, RUN, launcher) == f"{said} {AGAIN}"


@pytest.mark.parametrize(
    "old",
    [
        ["--resume_from_checkpoint", "latest"],
        ["--resume_from_checkpoint=out/checkpoints/checkpoint-3"],
        ["--resume-from-checkpoint", "latest"],
        ["--resume-from-checkpoint=latest", "--resume_from_checkpoint", "latest"],
    ],
)
def test_it_resumes_once(old):
    arguments = ["recipe.yaml", *old, "--epochs", "3"]
    assert (
        resume_words([PYTHON, "training/pretrain.py", *arguments], arguments) == f"python training/pretrain.py {AGAIN}"
    )


def test_words_are_quoted_as_a_shell_reads_them():
    arguments = ["--output_dir", "my run"]
    assert "--output_dir 'my run' --resume" in resume_words([PYTHON, "training/pretrain.py", *arguments], arguments)
