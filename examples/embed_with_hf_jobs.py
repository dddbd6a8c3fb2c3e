# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-encoders[ray]"]
# ///
"""Embeds a data set on a machine of HF Jobs, straight into a data set of yours on the Hub.

    hf jobs uv run --flavor a10g-largex2 --secrets HF_TOKEN --timeout 4h examples/embed_with_hf_jobs.py \
        org/encoder org/maps hf://datasets/you/embeddings

Ray gives each GPU of the machine a copy of the model, while the CPUs decode. Every shard is a commit: when a job ran
out of time, the same line goes on. `hf download you/embeddings --repo-type dataset --local-dir embeddings` fetches the
result, which `EmbeddingIndex.from_folder("embeddings")` searches. It runs on this machine too, as it is:

    python examples/embed_with_hf_jobs.py samples/multimodal-rooms samples/rooms/test.parquet embedded --modality depth
"""

import argparse
import subprocess
import sys

from huggingface_hub import HfApi

HUB = "hf://datasets/"


def main() -> None:
    """Make the data set, if it is one of the Hub, and embed."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description="Every other option is one of hf-encoders embed.")
    parser.add_argument("model", help="folder or Hub id of an encoder")
    parser.add_argument("dataset", help="Hub id, folder, files or URL of the data")
    parser.add_argument("output", help=f"{HUB}YOU/NAME, another URL, or a folder")
    args, options = parser.parse_known_args()
    if args.output.startswith(HUB):
        repo = "/".join(args.output.removeprefix(HUB).split("/")[:2])
        HfApi().create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
    command = [sys.executable, "-m", "hf_encoders.embed", args.model, args.dataset, "--output", args.output]
    sys.exit(subprocess.run([*command, "--engine", "ray", *options]).returncode)


if __name__ == "__main__":
    main()
