"""Peak memory and time of a training step with the cached loss, beside plain steps of a chunk and of a larger batch.

    python benchmarks/bench_cached_loss.py
    python benchmarks/bench_cached_loss.py --device cuda --batch 8192

Each case is a fresh process on one thread: two steps (AdamW) of BERT and ViT, each of 4 layers of 256 channels, with
their images in memory. On CUDA the peak is that of allocated device memory, elsewhere of resident memory.
"""

import argparse

from measuring import machine, measure

# Prints the peak in MiB. A first argument of 0 rows measures the model and its gradients alone.
STEP = """
import resource, sys, torch
from transformers import BertConfig, ViTConfig
from hf_encoders import MultimodalEncoderConfig, MultimodalEncoderModel
from hf_encoders.losses.cached import cached_backward, split_batch
from hf_encoders.losses import InfoNCELoss

rows, chunk_size, device = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.manual_seed(0)
size = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
model = MultimodalEncoderModel(MultimodalEncoderConfig(
    text_config=BertConfig(vocab_size=8000, **size), vision_config=ViTConfig(image_size=64, patch_size=8, **size)
)).to(device).train()
optimizer = torch.optim.AdamW(model.parameters())
batch = {
    "input_ids": torch.randint(8000, (rows, 32), device=device),
    "pixel_values": torch.randn(rows, 3, 64, 64, device=device),
}

def embed(chunk):
    outputs = model(**chunk)
    return {"text": outputs.text_embeds, "image": outputs.image_embeds}

def loss(embeds):
    return InfoNCELoss()(embeds, model.clamped_temperature)

for _ in range(2):
    if chunk_size:
        cached_backward(model, split_batch(batch, chunk_size), embed, loss)
    elif rows:
        loss(embed(batch)).loss.backward()
    else:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
if device == "cpu":
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
else:
    print(torch.cuda.max_memory_allocated() / 2**20)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()

    cases = {
        "no batch": (0, 0),
        f"plain, batch {args.chunk}": (args.chunk, 0),
        f"cached, batch {args.batch} in chunks of {args.chunk}": (args.batch, args.chunk),
        f"plain, batch {args.batch // 4}": (args.batch // 4, 0),
    }
    print(f"{machine()}; {args.device}; {args.repeats} fresh processes each, two steps")
    print("\n| | seconds | peak MiB | ratio | MiB over no batch | ratio |\n|---|---|---|---|---|---|")
    peaks = []
    for name, (rows, chunk_size) in cases.items():
        result = measure(["-c", STEP, str(rows), str(chunk_size), args.device], args.repeats)
        peaks.append(result.printed)
        unit = peaks[:2][-1]
        above, above_unit = result.printed - peaks[0], unit - peaks[0]
        ratio = f"{above / above_unit:.2f}" if above_unit else ""
        print(
            f"| {name} | {result.seconds:.1f} | {result.printed:.0f} | {result.printed / unit:.2f} | {above:.0f}"
            f" | {ratio} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
