#!/usr/bin/env bash
# A newcomer's first hour: the wheel, in an empty folder, with photos, maps, captions and checkpoints of their own.
#
#     tests/first_hour.sh [PYTHON]     (a Python with the dependencies; by default that of .venv)
#
# Every step says with which status it ends and what it prints; a step that does not ends the script with its output.
set -euo pipefail
clone=$(cd "$(dirname "$0")/.." && pwd)
python=$(realpath -s "${1:-$clone/.venv/bin/python}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# expect STATUS PATTERN COMMAND...: an extended regular expression, looked for in stdout and stderr.
expect() {
  local status=$1 pattern=$2 found=0
  shift 2
  "$@" >"$place/printed" 2>&1 || found=$?
  if [[ $found != "$status" ]] || ! grep -Eq -- "$pattern" "$place/printed" || grep -q Traceback "$place/printed"; then
    printf '%s\n' "$*" "ended with $found, expected $status and /$pattern/; printed:" >&2
    cat "$place/printed" >&2
    exit 1
  fi
  echo "ok: ${*%%$'\n'*}"
}

# An environment with the wheel and, by a .pth file, which follows no editable installation, the libraries of this one.
(cd "$clone" && "$python" -m hatchling build --target wheel --directory "$place" >/dev/null 2>&1)
"$python" -m venv --without-pip "$place/venv"
"$python" -m pip --python "$place/venv/bin/python" install -q --no-deps --no-index "$place"/*.whl
for site in "$place"/venv/lib/*/site-packages; do
  "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/libraries.pth"
done
unset PYTHONPATH
export PATH="$place/venv/bin:$PATH" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=
python="$place/venv/bin/python"
mkdir "$place/empty" && cd "$place/empty"

echo "# What they bring"
cp -r "$clone/samples/multimodal-rooms" rooms-model # as a download
cp "$clone/samples/legacy/depth_autoencoder_small.pth" best_model.pth
cp "$clone/samples/foreign/dino_vit_rooms.pth" "$clone/samples/foreign/roberta_captions.pt" .
cp -r "$clone/samples/foreign/roberta-tokenizer" .
"$python" - "$clone/samples/rooms/test.parquet" <<'END'
import csv
import sys
from pathlib import Path

import numpy as np
from datasets import Dataset

rows = Dataset.from_parquet(sys.argv[1]).select(range(24))
for name in ("photos", "maps", "captions", "output"):
    Path(name).mkdir()
kinds = ["png", "jpg", "webp", "bmp"]
with open("captions/metadata.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["file_name", "caption"])
    for number, row in enumerate(rows):
        row["image"].save(f"photos/{number:02}.{kinds[number % 4]}")
        row["image"].save(f"captions/{number:02}.jpg")
        table.writerow([f"{number:02}.jpg", row["caption"]])
        if number % 2:
            row["depth"].save(f"maps/{number:02}.png")
        else:
            np.save(f"maps/{number:02}.npy", np.asarray(row["depth"]) / np.float32(1000))
Path("photos/notes.txt").write_text("where they were taken")
END

echo "# Questions"
expect 0 'usage: hf-encoders' hf-encoders --help
expect 0 'convert' hf-encoders convert --help
expect 2 'no option --outptu; did you mean --output?' hf-encoders convert best_model.pth --outptu x
expect 2 'best_modle.pth: no such file' hf-encoders convert best_modle.pth
expect 2 'no-such-model' hf-encoders encode ./no-such-model photos

echo "# Their checkpoints"
expect 0 'depth-autoencoder' hf-encoders inspect best_model.pth
expect 0 'verified: embeddings differ' hf-encoders convert best_model.pth --output depth-encoder
expect 0 'verified' hf-encoders verify depth-encoder
expect 2 'exists already; choose another --output' hf-encoders convert best_model.pth --output depth-encoder
expect 0 'consistent, with assumed' hf-encoders convert dino_vit_rooms.pth --output output # an empty folder is fine
expect 0 'verified' hf-encoders convert dino_vit_rooms.pth --attention-heads 2 --layer-norm-eps 1e-6 --output dino
expect 0 'verified' hf-encoders convert roberta_captions.pt --tokenizer roberta-tokenizer --output roberta
expect 0 '\[24, 768\]|24' "$python" -c 'if True:
    import hf_encoders
    from pathlib import Path
    from transformers import AutoModel
    model = AutoModel.from_pretrained("depth-encoder")
    print(list(model.encode([str(path) for path in sorted(Path("maps").iterdir())]).shape))'

echo "# Their photos and maps"
expect 0 'embeddings.npz' hf-encoders encode rooms-model photos --output embeddings.npz
expect 0 '24 images → dino.npz: embeddings \[24, 128\]' hf-encoders encode dino photos --output dino.npz
expect 0 '0\.[0-9]+' hf-encoders search rooms-model photos "a red chair" -k 3
expect 0 '0\.[0-9]+' hf-encoders search dino photos photos/00.png -k 3
expect 0 'chair|lamp|table' hf-encoders classify rooms-model photos --labels chair,lamp,table
expect 0 'chair|lamp|table' hf-encoders classify rooms-model maps/01.png --labels chair,lamp,table
expect 2 'is no file, and the model embeds no texts' hf-encoders search dino photos "a red chair"
expect 0 'embedded' hf-encoders embed rooms-model captions --output embedded --modality image
expect 0 '24 rows' hf-encoders embed rooms-model captions --output embedded --modality image # nothing is left to do
expect 0 '0\.[0-9]+' hf-encoders search rooms-model embedded "a red chair" -k 3
expect 0 'found.png' hf-encoders search rooms-model embedded "a red chair" -k 3 --output found.png
expect 2 'other weights|another model|weights' hf-encoders search dino embedded photos/00.png
expect 0 'index of 24 rows' hf-encoders search rooms-model photos "a red chair" --save-index index
expect 0 '0\.[0-9]+' hf-encoders search rooms-model index "a lamp"
expect 0 'none of these' hf-encoders classify rooms-model photos --labels chair,lamp --threshold 0.9
head -c 300 photos/01.jpg >photos/broken.jpg
expect 2 'broken.jpg' hf-encoders encode rooms-model photos --output all.npz
expect 0 'skipped 1' hf-encoders encode rooms-model photos --output most.npz --on-error skip
rm photos/broken.jpg
expect 0 '\(1, 256\) \(2, 256\)' "$python" -c 'if True:
    import hf_encoders
    from transformers import AutoModel
    model = AutoModel.from_pretrained("rooms-model")
    print(tuple(model.encode("a red chair").shape), tuple(model.encode(["photos/00.png", "photos/01.jpg"]).shape))'

echo "# Their captions"
quick=(--batch_size 8 --max_steps 2 --num_workers 0 --validation_split "" --patience 0 --report_to none)
expect 0 'loss: infonce; 2 steps of 8 rows' hf-encoders train finetune --init_from rooms-model --dataset captions \
  --output_dir finetuned "${quick[@]}"
expect 0 'nothing is left to do' hf-encoders train finetune --init_from rooms-model --dataset captions \
  --output_dir finetuned "${quick[@]}" --resume_from_checkpoint latest
expect 0 'visual_encoder frozen' hf-encoders train lit --text_model roberta --vision_model dino --dataset captions \
  --output_dir aligned "${quick[@]}" --gradient_accumulation_steps 1
expect 2 'name a recipe' hf-encoders train --dataset captions
expect 0 '0\.[0-9]+' hf-encoders search aligned photos "a red chair" -k 1

echo "# Away from here"
expect 0 'model.safetensors' hf-encoders push depth-encoder org/depth-encoder --dry-run
expect 0 'again.pth' hf-encoders export-legacy depth-encoder again.pth
echo "the first hour is over"
