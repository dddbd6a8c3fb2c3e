"""A small CLIP after its paper, with OpenAI's names, and its state dict as others name it."""

from collections import OrderedDict

import torch
from torch import nn

TEXT, IMAGE, DIM, VOCABULARY, LENGTH, PATCH, SIDE = 128, 192, 24, 60, 12, 8, 24


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, act):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, 40)), ("gelu", act()), ("c_proj", nn.Linear(40, width))]
        self.mlp = nn.Sequential(OrderedDict(parts))

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, heads, depth, act):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, act) for _ in range(depth))

    def forward(self, x, mask=None):
        x = x.transpose(0, 1)
        for block in self.resblocks:
            x = block(x, mask)
        return x.transpose(0, 1)


class Image(nn.Module):
    def __init__(self, width, heads, act):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + (SIDE // PATCH) ** 2, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(width, heads, 2, act)
        self.proj = nn.Parameter(torch.empty(width, DIM))

    def hidden(self, x):
        x = self.conv1(x).flatten(2).permute(0, 2, 1)
        first = self.class_embedding + torch.zeros(x.shape[0], 1, x.shape[2])
        return self.transformer(self.ln_pre(torch.cat([first, x], 1) + self.positional_embedding))

    def forward(self, x):
        return self.ln_post(self.hidden(x)[:, 0]) @ self.proj


class Clip(nn.Module):
    def __init__(self, act=nn.GELU, text=TEXT, image=IMAGE, heads=(2, 3), vocabulary=VOCABULARY):
        super().__init__()
        self.visual = Image(image, heads[1], act)
        self.transformer = Transformer(text, heads[0], 3, act)
        self.token_embedding = nn.Embedding(vocabulary, text)
        self.positional_embedding = nn.Parameter(torch.empty(LENGTH, text))
        self.ln_final = nn.LayerNorm(text)
        self.text_projection = nn.Parameter(torch.empty(text, DIM))
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.register_buffer("attn_mask", torch.full((LENGTH, LENGTH), -torch.inf).triu(1), persistent=False)
        for name, parameter in self.named_parameters():
            nn.init.normal_(parameter, float("ln_" in name and name.endswith("weight")), 0.3)
        nn.init.constant_(self.logit_scale, 1.3)
        self.requires_grad_(False).eval()

    def hidden(self, ids):
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        return self.ln_final(self.transformer(x, self.attn_mask[: ids.shape[1], : ids.shape[1]]))

    def text(self, ids):
        return self.hidden(ids)[torch.arange(ids.shape[0]), ids.argmax(-1)] @ self.text_projection

    def forward(self, pixels, ids):
        image, text = self.visual(pixels), self.text(ids)
        image, text = image / image.norm(dim=1, keepdim=True), text / text.norm(dim=1, keepdim=True)
        return image, text, self.logit_scale.exp() * image @ text.t()


def custom_text(state):
    """The names of open_clip's CustomTextCLIP."""
    kept = ("visual.", "logit_scale")
    return {name if name.startswith(kept) else f"text.{name}": tensor for name, tensor in state.items()}


OF_TRANSFORMERS = (
    ("transformer.resblocks", "encoder.layers"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
    ("attn.out_proj", "self_attn.out_proj"), ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2"),
    ("positional_embedding", "embeddings.position_embedding.weight"), ("token_embedding", "embeddings.token_embedding"),
    ("class_embedding", "embeddings.class_embedding"), ("conv1", "embeddings.patch_embedding"),
    ("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm"), ("ln_final", "final_layer_norm"),
)  # fmt: skip


def of_transformers(state):
    """The names of CLIPModel, as a trainer around it saves them."""
    named = {"logit_scale": state["logit_scale"]}
    named["text_projection.weight"] = state["text_projection"].T.contiguous()
    named["visual_projection.weight"] = state["visual.proj"].T.contiguous()
    for key, tensor in state.items():
        if key in ("logit_scale", "text_projection", "visual.proj"):
            continue
        name = f"vision_model.{key.removeprefix('visual.')}" if key.startswith("visual.") else f"text_model.{key}"
        for openai, theirs in OF_TRANSFORMERS:
            name = name.replace(openai, theirs)
        if ".attn.in_proj_" in name:
            start, _, kind = name.partition(".attn.in_proj_")
            parts = zip("qkv", tensor.chunk(3), strict=True)
            named |= {f"{start}.self_attn.{part}_proj.{kind}": values.clone() for part, values in parts}
        else:
            named[name] = tensor
    named["text_model.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    return named


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def scalars(**other):
    numbers = {"input_resolution": SIDE, "context_length": LENGTH, "vocab_size": VOCABULARY} | other
    return {name: torch.tensor(number) for name, number in numbers.items()}


def samples(vocabulary=VOCABULARY):
    """Images, and texts whose largest token is at different places, in the last one twice."""
    ids = torch.randint(1, vocabulary - 2, (4, LENGTH - 2))
    ids[0, 4], ids[1, 9] = vocabulary - 1, vocabulary - 1
    ids[3, 2], ids[3, 6] = vocabulary - 2, vocabulary - 2
    return torch.randn(3, 3, SIDE, SIDE), ids
