"""Chooses the words whose tokens a small text tower keeps: those most like the names of the scenes, and usual ones.

    python samples/choose_words.py TEXT_ENCODER SCENES... --output samples/tokenizer/words.txt

TEXT_ENCODER is a sentence encoder with BERT's vocabulary, whose words stand in the order of how often they are used. A
word is like the scenes by the mean of its five largest similarities to names of objects, and to the words in them.
"""

import argparse
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoTokenizer

from hf_encoders import load_encoder

SIMILAR, USUAL, PIECES, NEAREST = 2400, 1400, 300, 5


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("encoder", help="Hub id or folder")
    parser.add_argument("scenes", type=Path, nargs="+", help="folders with train.parquet")
    parser.add_argument("--output", type=Path, required=True, help="a text file, one word per line")
    args = parser.parse_args()
    encoder = load_encoder(args.encoder)
    names = {item["name"] for folder in args.scenes for row in _objects(folder) for item in row}
    names |= {word for name in names for word in name.split()}
    vocabulary = AutoTokenizer.from_pretrained(args.encoder).get_vocab()
    tokens = sorted(vocabulary.items(), key=lambda item: item[1])
    words = [token for token, _ in tokens if token.isascii() and token.isalpha() and len(token) > 1]
    pieces = [token for token, _ in tokens if token.startswith("##") and token[2:].isalpha() and token.isascii()]
    similarities = encoder.encode_text(words) @ encoder.encode_text(sorted(names)).T
    likeness = similarities.topk(NEAREST, dim=1).values.mean(1)
    similar = [words[index] for index in torch.sort(likeness, descending=True, stable=True).indices[:SIMILAR].tolist()]
    kept = dict.fromkeys([*words[:USUAL], *pieces[:PIECES], *sorted(similar)])
    args.output.write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{args.output}: {len(kept)} words")


def _objects(folder: Path) -> list[list[dict[str, str]]]:
    return list(Dataset.from_parquet(str(folder / "train.parquet")).select_columns(["objects"])["objects"])


if __name__ == "__main__":
    main()
