"""Small text encoders in plain torch, under the names of transformers and of fairseq, with random weights."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModel

from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.families.family import EncoderOptions

VOCAB, WIDTH, HEADS, DEPTH, INNER = 50, 128, 2, 3, 96


def randomised(network):
    """Every tensor at random, those of LayerNorms too, so that a swapped one shows."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            is_scale = tensor.ndim == 1 and name.endswith("weight")
            tensor.copy_(1 + 0.3 * noise if is_scale else noise * (0.5 if "embed" in name else 0.1))
    return network.eval()


def part(**children):
    return nn.ModuleDict(children)


class SmallBert(nn.Module):
    """Devlin et al. 2018, as transformers names it. Positions count from 0, or from behind the padding's id."""

    def __init__(self, positions=24, types=2, pad=None, eps=1e-12, act=F.gelu, heads=HEADS, width=WIDTH, pooler=True):
        super().__init__()
        self.pad, self.act, self.heads = pad, act, heads
        self.embeddings = part(
            word_embeddings=nn.Embedding(VOCAB, width),
            position_embeddings=nn.Embedding(positions, width),
            token_type_embeddings=nn.Embedding(types, width),
            LayerNorm=nn.LayerNorm(width, eps),
        )
        layers = [
            part(
                attention=part(
                    self=part(
                        query=nn.Linear(width, width), key=nn.Linear(width, width), value=nn.Linear(width, width)
                    ),
                    output=part(dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, eps)),
                ),
                intermediate=part(dense=nn.Linear(width, INNER)),
                output=part(dense=nn.Linear(INNER, width), LayerNorm=nn.LayerNorm(width, eps)),
            )
            for _ in range(DEPTH)
        ]
        self.encoder = part(layer=nn.ModuleList(layers))
        if pooler:
            self.pooler = part(dense=nn.Linear(width, width))
        randomised(self)

    def forward(self, ids, mask):
        positions = torch.arange(ids.shape[1])[None]
        if self.pad is not None:
            is_token = ids != self.pad
            positions = is_token.cumsum(1) * is_token + self.pad
        tables = self.embeddings
        x = tables["word_embeddings"](ids) + tables["position_embeddings"](positions)
        x = tables["LayerNorm"](x + tables["token_type_embeddings"].weight[0])
        for layer in self.encoder["layer"]:
            q, k, v = (
                layer["attention"]["self"][name](x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            y = F.scaled_dot_product_attention(q, k, v, mask[:, None, None].bool()).transpose(1, 2).flatten(2)
            out = layer["attention"]["output"]
            x = out["LayerNorm"](x + out["dense"](y))
            y = layer["output"]["dense"](self.act(layer["intermediate"]["dense"](x)))
            x = layer["output"]["LayerNorm"](x + y)
        outputs = {"last_hidden_state": x}
        if hasattr(self, "pooler"):
            outputs["pooler_output"] = self.pooler["dense"](x[:, 0]).tanh()
        return outputs


class SmallFairseq(nn.Module):
    """Liu et al. 2019: fairseq's TransformerSentenceEncoder, with query, key and value in one matrix."""

    def __init__(self, positions=24, act=F.gelu, heads=HEADS):
        super().__init__()
        self.act = act
        self.embed_tokens = nn.Embedding(VOCAB, WIDTH)
        self.embed_positions = nn.Embedding(positions, WIDTH)
        self.emb_layer_norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(
            part(
                self_attn=nn.MultiheadAttention(WIDTH, heads, batch_first=True),
                self_attn_layer_norm=nn.LayerNorm(WIDTH),
                fc1=nn.Linear(WIDTH, INNER),
                fc2=nn.Linear(INNER, WIDTH),
                final_layer_norm=nn.LayerNorm(WIDTH),
            )
            for _ in range(DEPTH)
        )
        randomised(self)

    def forward(self, ids, mask):
        positions = torch.where(ids == 1, 1, (ids != 1).cumsum(1) + 1)
        x = self.emb_layer_norm(self.embed_tokens(ids) + self.embed_positions(positions))
        for layer in self.layers:
            y, _ = layer["self_attn"](x, x, x, key_padding_mask=mask == 0, need_weights=False)
            x = layer["self_attn_layer_norm"](x + y)
            x = layer["final_layer_norm"](x + layer["fc2"](self.act(layer["fc1"](x))))
        return {"last_hidden_state": x}


def below(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def converted(content, folder, options=None, **arguments):
    """Save a content, convert it, and load the repo: nothing may be missing."""
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    convert(path, folder / "repo", encoder=options or EncoderOptions(), **arguments)
    model, loading = AutoModel.from_pretrained(folder / "repo", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    return model.eval()


def differences(model, network, pad=0):
    """The largest difference of each output of the network, relative to its magnitude; padding does not count."""
    ids = torch.randint(3, VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(9) < torch.tensor([[9], [5], [1]])).long()
    ids = torch.where(mask == 1, ids, pad)
    with torch.inference_mode():
        actual, expected = model(input_ids=ids, attention_mask=mask), network(ids, mask)
    found = {}
    for name, wanted in expected.items():
        weights = mask[..., None] if name == "last_hidden_state" else 1
        found[name] = ((actual[name] - wanted) * weights).abs().max().item() / wanted.abs().max().item()
    return found
