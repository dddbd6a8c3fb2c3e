"""torch.compile and torch.export: the depth encoder compiled in place, and as a .pt2 file for any batch.

    python examples/with_compile_and_export.py [BACKEND]

BACKEND is one of torch.compile; the default, inductor, compiles for about a minute and needs a C++ compiler on a CPU.
"""

import sys
import tempfile
import time
from pathlib import Path

import bundled
import torch
from transformers import AutoModel

import hf_encoders  # noqa: F401 - registers the models


def main() -> None:
    """Compile, export, and compare with the plain model."""
    maps = bundled.scenes("objects", "test")["depth"][:32]
    model = AutoModel.from_pretrained(bundled.depth_encoder())
    expected = model.encode(maps)
    pixel_values = model.processor(maps, return_tensors="pt")["pixel_values"]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "depth_encoder.pt2"
        shapes = {"pixel_values": {0: torch.export.Dim.DYNAMIC}}
        torch.export.save(torch.export.export(model, (pixel_values[:2],), dynamic_shapes=shapes), path)
        program = torch.export.load(path).module()
        for batch in (1, 7):
            embeddings = program(pixel_values[:batch]).pooler_output
            difference = (embeddings - expected[:batch]).abs().max().item()
            print(f"exported, batch of {batch}: embeddings differ by {difference:.1e}")

    model.compile(fullgraph=True, backend=sys.argv[1] if len(sys.argv) > 1 else "inductor")
    model.encode(maps)  # the first call compiles
    start = time.perf_counter()
    embeddings = model.encode(maps)
    seconds = time.perf_counter() - start
    difference = (embeddings - expected).abs().max().item()
    print(f"compiled: embeddings differ by {difference:.1e}; {len(maps) / seconds:.0f} maps a second")


if __name__ == "__main__":
    main()
