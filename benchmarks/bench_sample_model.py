"""What the sample model of texts, images and depth maps reaches, beside chance, raw pixels and the legacy autoencoder.

    python benchmarks/bench_sample_model.py MODEL --rooms ROOMS --objects OBJECTS --split validation
    python benchmarks/bench_sample_model.py MODEL --rooms ROOMS --objects OBJECTS --aligned REPO --output table.json

ROOMS and OBJECTS are the folders of the whole data set, of which `samples/` holds a part. REPO is a multimodal model
whose depth tower is the legacy encoder, aligned to words (the recipe `depth_to_words`). Retrieval is
measured on rooms; zero-shot, nearest neighbours and a linear probe on objects, of whose train split the latter two
learn. Choose anything by `--split validation`; `test` is for the end.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import AutoModel

from hf_encoders import DepthImageProcessor, create_semantic_encoder
from hf_encoders.command_line import OneLineArgumentParser, run
from hf_encoders.data.splits import data_revision, load_splits
from hf_encoders.evaluation.embedded_columns import EmbeddedColumns, embed_columns
from hf_encoders.evaluation.tasks import Labels, probe, read_labels, retrieval, zero_shot
from hf_encoders.fingerprint import identity
from hf_encoders.launched_processes import launched_processes
from hf_encoders.outputs import check_file, new_file
from hf_encoders.progress import hide_library_bars

LEGACY = Path(__file__).parent.parent / "samples" / "legacy" / "depth_autoencoder_small.pth"
COLORS = ("blue", "brown", "cyan", "gray", "green", "orange", "pink", "purple", "red", "yellow")
# Prompts in the grammar of the captions that the model learned: "a red armchair". The colour says nothing of the class,
# so a noun's embedding is the mean over all ten, and over none. A category never has a colour or an article.
TEMPLATES = {
    "noun": (*(f"{'an' if color[0] in 'aeiou' else 'a'} {color} {{}}" for color in COLORS), "a {}"),
    "label": ("{}",),
}
# Task → the measure that the table shows.
MEASURES = {"zero-shot": "top1_accuracy", "knn": "accuracy", "linear-probe": "accuracy"}
DIRECTIONS = (("text", "image"), ("text", "depth"), ("image", "depth"))
KS = (1, 5, 10)
COLUMNS = {"text": "caption", "image": "image", "depth": "depth"}
PICTURES = {"image": "image", "depth": "depth"}
PIXELS = 32  # side of the raw pictures: on the validation split, depth maps of 128 are no better

Figures = dict[str, dict[str, float | None]]


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Measure, print two tables, and write their figures if asked to."""
    args = _parse(argv)
    if args.output:
        check_file(args.output, args.overwrite)
    hide_library_bars()  # the bar of encoding stays
    processes = launched_processes()
    models = {"our model": _load(args.model, processes)}
    if args.aligned:
        models["aligned legacy autoencoder"] = _load(args.aligned, processes)
    rooms = _open(args.rooms, args.split)[args.split]
    objects = _open(args.objects, args.split, "train")
    train, test = objects["train"], objects[args.split]

    report = {
        "split": args.split,
        "k": args.k,
        "templates": TEMPLATES,
        "models": {name: identity(model) for name, model in models.items()},
        "rooms": {"dataset": args.rooms, "rows": len(rooms), **data_revision(args.rooms, args.split)},
        "objects": {"dataset": args.objects, "rows": len(test), **data_revision(args.objects, args.split)},
        "retrieval": _retrieve(models, rooms, processes),
        "classification": _classify(models, args.legacy, train, test, args.k, processes),
    }
    print(_tables(report, len(train)))
    if args.output:
        with new_file(args.output, args.overwrite) as partial:
            partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _retrieve(models: Mapping[str, Any], rooms: Any, processes: PartialState) -> Figures:
    """Row → `recall@k`, from 0 to 1. Of the aligned autoencoder what has to do with depth."""
    figures: Figures = {"chance": {f"recall@{k}": min(k / len(rooms), 1) for k in KS}}
    for number, (name, model) in enumerate(models.items()):
        metrics = retrieval(embed_columns(model, rooms, COLUMNS, processes))
        for one, other in DIRECTIONS:
            if not number or other == "depth":
                recalls = {f"recall@{k}": metrics[f"retrieval/{one}_to_{other}_recall@{k}"] for k in KS}
                figures[f"{name}, {one} → {other}"] = dict(recalls)
    return figures


def _classify(
    models: Mapping[str, Any], legacy: Path, train: Any, test: Any, k: int, processes: PartialState
) -> Figures:
    """Row → `TASK/COLUMN`, from 0 to 1, or None for what it cannot do."""
    learned = {column: read_labels(train, column) for column in TEMPLATES}
    asked = {column: _among_all(read_labels(test, column), learned[column]) for column in TEMPLATES}
    figures: Figures = {"chance": {}, "the most frequent class": {}}
    for task in MEASURES:
        for column in TEMPLATES:
            frequent = Counter(learned[column].values.tolist()).most_common(1)[0][0]
            figures["chance"][f"{task}/{column}"] = 1 / len(asked[column].classes)
            figures["the most frequent class"][f"{task}/{column}"] = float((asked[column].values == frequent).mean())

    def add(name: str, parts: tuple[EmbeddedColumns, EmbeddedColumns], tasks: Sequence[str], model: Any = None) -> None:
        metrics: dict[str, float] = {}
        for column in TEMPLATES:
            for task in tasks:
                metrics |= probe(task, parts[0], learned[column], parts[1], asked[column], k)
            if model is not None:
                metrics |= zero_shot(model, parts[1], asked[column], TEMPLATES[column])
        for modality in parts[1].embeds:
            figures[name.format(modality)] = {
                f"{task}/{column}": metrics.get(f"{task}/{column}/{modality}/{measure}")
                for task, measure in MEASURES.items()
                for column in TEMPLATES
            }

    probes = ("knn", "linear-probe")
    add("raw pixels, {}", _raw_pixels(train, test), ["knn"])
    # Its default processor stretches each map from its minimum to its maximum, as its training did.
    encoder = create_semantic_encoder(pretrained_path=legacy, device=processes.device).encoder
    add("legacy autoencoder, {}", _embed(encoder, train, test, {"depth": "depth"}, processes), probes)
    for name, model in reversed([*models.items()]):
        columns = PICTURES if name == next(iter(models)) else {"depth": "depth"}
        add(f"{name}, {{}}", _embed(model, train, test, columns, processes), probes, model)
    return figures


def _embed(
    model: Any, train: Any, test: Any, columns: Mapping[str, str], processes: PartialState
) -> tuple[EmbeddedColumns, EmbeddedColumns]:
    return embed_columns(model, train, columns, processes), embed_columns(model, test, columns, processes)


def _among_all(asked: Labels, learned: Labels) -> Labels:
    """With the classes of train too: a split that happens to lack some is not easier for it."""
    return Labels(asked.column, asked.values, sorted({*asked.classes, *learned.classes}))


def _raw_pixels(train: Any, test: Any) -> tuple[EmbeddedColumns, EmbeddedColumns]:
    """Images in RGB, and depth maps from -1 to 1 each, of 32 x 32 pixels, less the mean picture of train.

    Without the mean all pictures are alike by cosine, and the neighbours are worse.
    """
    stretch = DepthImageProcessor(size=PIXELS)
    parts = []
    for rows in (train, test):
        images = [np.asarray(image.convert("RGB").resize((PIXELS, PIXELS)), np.float32) for image in rows["image"]]
        maps = [stretch(depth)["pixel_values"] for depth in rows["depth"]]
        parts.append({"image": torch.from_numpy(np.stack(images)).flatten(1), "depth": torch.cat(maps).flatten(1)})
    means = {modality: pictures.mean(dim=0) for modality, pictures in parts[0].items()}
    embedded = []
    for pictures in parts:
        kept = np.ones(len(pictures["image"]), dtype=bool)
        centred = {modality: values - means[modality] for modality, values in pictures.items()}
        embedded.append(EmbeddedColumns(centred, dict.fromkeys(centred, np.arange(len(kept))), [], kept))
    return embedded[0], embedded[1]


def _tables(report: Mapping[str, Any], learned: int) -> str:
    """Both tables in Markdown, in percent."""
    rooms, objects, split = report["rooms"], report["objects"], report["split"]
    recalls = {f"recall@{k}": f"recall@{k}" for k in KS}
    names = {"zero-shot": "zero-shot", "knn": f"{report['k']}-NN", "linear-probe": "linear probe"}
    accuracies = {f"{task}/{column}": f"{name}, {column}" for task, name in names.items() for column in TEMPLATES}
    return "\n".join(
        [
            f"Retrieval in percent, {rooms['rows']} scenes of rooms/{split}:",
            "",
            *_table(report["retrieval"], recalls),
            "",
            f"Accuracy in percent, {objects['rows']} scenes of objects/{split} (learned from {learned} of train):",
            "",
            *_table(report["classification"], accuracies),
        ]
    )


def _table(figures: Figures, columns: Mapping[str, str]) -> list[str]:
    lines = [["", *columns.values()], ["---"] * (len(columns) + 1)]
    for name, row in figures.items():
        shown = [row[key] for key in columns]
        lines.append([name, *("–" if value is None else f"{100 * value:.1f}" for value in shown)])
    return [f"| {' | '.join(line)} |" for line in lines]


def _load(name: str, processes: PartialState) -> Any:
    model = AutoModel.from_pretrained(name, dtype=torch.float32)
    if getattr(model.config, "depth_config", None) is None:
        raise ValueError(f"{name}: a {model.config.model_type} model, expected a multimodal encoder with a depth tower")
    return model.to(processes.device)


def _open(name: str, *splits: str) -> Mapping[str, Any]:
    found = load_splits(name, splits[0])
    for split in splits:
        if split not in found:
            raise ValueError(f"{name}: no split {split!r}, it has {', '.join(found)}; give the folder of the data set")
        if lacking := {*COLUMNS.values(), *TEMPLATES}.difference(found[split].column_names):
            raise ValueError(f"{name}: no column {min(lacking)!r} in {split}; give the whole data set")
    return found


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = OneLineArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("model", help="folder or Hub id of a multimodal encoder with a depth tower")
    add("--rooms", required=True, help="data set of scenes with captions")
    add("--objects", required=True, help="data set of scenes with one object each, with a train split")
    add("--split", choices=("validation", "test"), default="test", help="what is measured on (default: %(default)s)")
    add("--legacy", type=Path, default=LEGACY, help="legacy depth file (default: the sample's)")
    add("--aligned", help="multimodal encoder whose depth tower is the legacy one, aligned to words")
    add("--k", type=int, default=1, help="neighbours (default: %(default)s, as the data set's own figures)")
    add("--output", type=Path, help="a JSON file for the figures, the data's revision and the models' fingerprints")
    add("--overwrite", action="store_true", help="replace an existing output")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
