"""How files name the parts of a CLIP, and which of its relatives they tell of.

OpenAI's names are the ones that the family knows a file by. What transformers' files store in another form (query, key
and value apart, a projection as [out, in]) keeps a name of its own.
"""

import re

from ...checkpoints.finding.networks import FamilyNames
from .family import FileTensors

# The finder calls a part that is named "visual" or "text" visual_encoder or text_encoder.
_TEXT = (
    r"token_embedding\.weight|positional_embedding|transformer\.resblocks\.\d+\..+|ln_final\.(?:weight|bias)"
    r"|text_projection(?:\.(?:weight|bias))?|attn_mask"
)
_BESIDE = r"logit_scale|logit_bias|input_resolution|context_length|vocab_size|text_decoder\..+"
_IMAGE = (
    r"class_embedding|positional_embedding|proj|conv1\.weight|ln_(?:pre|post)\.(?:weight|bias)"
    r"|transformer\.resblocks\.\d+\..+"
)
_OURS = r"(?:text|vision)_model\..+|(?:text|visual)_projection\.weight|logit_scale|logit_bias"
# A tower alone, which releases of transformers save with and without its prefix.
_LAYERS = r"encoder\.layers\.\d+\..+"
_IMAGE_OURS = (
    r"embeddings\.(?:class_embedding|(?:patch|position)_embedding\.weight|position_ids)"
    rf"|(?:pre_layrnorm|post_layernorm)\.(?:weight|bias)|{_LAYERS}"
)
_TEXT_OURS = (
    r"embeddings\.(?:(?:token|position)_embedding\.weight|position_ids)"
    rf"|final_layer_norm\.(?:weight|bias)|{_LAYERS}"
)


def _names(pattern: str, *marks: str) -> FamilyNames:
    return FamilyNames("clip", re.compile(pattern), tuple(map(re.compile, marks)))


NAMES = (
    _names(rf"visual_encoder\..+|{_TEXT}|{_BESIDE}", r"visual_encoder\.", r"token_embedding\.", r"ln_final\."),
    _names(
        rf"(?:visual|text)_encoder\..+|{_BESIDE}",
        r"visual_encoder\.",
        r"text_encoder\.(?:token_embedding|transformer)\.",
        r"logit_scale$",
    ),
    _names(_IMAGE, r"class_embedding$", r"conv1\.weight$", r"transformer\.resblocks\."),
    _names(rf"{_TEXT}|logit_scale", r"token_embedding\.", r"transformer\.resblocks\.", r"ln_final\."),
    _names(_OURS, r"text_model\.embeddings\.token_embedding\.", r"vision_model\."),
    _names(
        rf"vision_model\.(?:{_IMAGE_OURS})|visual_projection\.weight",
        r"vision_model\.embeddings\.class_embedding$",
        r"visual_projection\.weight$",
    ),
    _names(
        rf"text_model\.(?:{_TEXT_OURS})|text_projection\.weight",
        r"text_model\.embeddings\.token_embedding\.",
        r"text_projection\.weight$",
    ),
    _names(_IMAGE_OURS, r"embeddings\.class_embedding$", r"pre_layrnorm\."),
    _names(_TEXT_OURS, r"embeddings\.token_embedding\.", r"final_layer_norm\."),
)
# Names of transformers, below vision_model or text_model → OpenAI's.
_OF_TRANSFORMERS = (
    ("embeddings.token_embedding.", "token_embedding."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.patch_embedding.weight", "conv1.weight"),
    ("embeddings.", ""),
    ("pre_layrnorm.", "ln_pre."),
    ("post_layernorm.", "ln_post."),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
)
# Parts of a block: OpenAI's name → transformers'.
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
SPLIT = {f"attn.{part}_proj": f"self_attn.{part}_proj" for part in "qkv"}
_OPENAIS = {theirs: part for part, theirs in (PARTS | SPLIT).items()}
_XLM_V = 901629  # tokens of the vocabulary of XLM-V
_BLOCK = re.compile(r"(transformer\.resblocks\.\d+)\.(.+)\.(weight|bias)")


def canonical(name: str) -> str:
    """OpenAI's name of a tensor, the image tower's below `visual.` and the text tower's at the top."""
    first, _, rest = name.partition(".")
    prefix = {"vision_model": "visual.", "visual_encoder": "visual."}.get(first, "")
    if first in ("visual_encoder", "text_encoder"):
        return f"{prefix}{rest}"
    if re.fullmatch(rf"(?:text|vision)_model\..+|{_IMAGE_OURS}|{_TEXT_OURS}", name):
        rest = rest if first.endswith("_model") else name
        for theirs, openais in _OF_TRANSFORMERS:
            if rest.startswith(theirs):
                rest = openais + rest[len(theirs) :]
                break
        if block := _BLOCK.fullmatch(rest):
            rest = f"{block[1]}.{_OPENAIS.get(block[2], block[2])}.{block[3]}"
        return f"{prefix}{rest}"
    return "visual.projection.weight" if name == "visual_projection.weight" else name


def refuse_relatives(file: FileTensors, image: str, has_text: bool, has_image: bool) -> None:
    """Refuse the relatives of CLIP that CLIPModel cannot hold, by their names."""

    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in file.shapes)

    for there, pattern, what in (
        (True, r"text_decoder\.|cls_emb$", "a CoCa, with a decoder of captions or a class token in its texts"),
        (True, r"logit_bias$", "a SigLIP, with a bias of its logits (SiglipModel of transformers is another network)"),
        (has_image, rf"{image}trunk\.", "a CLIP with an image tower of timm (visual.trunk)"),
        (has_image, rf"{image}(?:layer\d|attnpool)\.", "a CLIP with a ModifiedResNet as its image tower"),
        (has_image, rf"{image}attn_pool\w*\.|{image}ln_k\.", "a CLIP whose image tower pools by attention"),
        (has_image, rf"{image}patchnorm_pre_ln\.", "a CLIP that normalises the patches of its images"),
        (
            has_image,
            rf"{image}(?:blocks|patch_embed|stages|stem)\.",
            "a CLIP with another image tower than its own ViT",
        ),
        (has_text, r"transformer\.(?!resblocks\.)", "a CLIP with a text tower of transformers (text.transformer)"),
        (True, r".*\.ls_[12]\.", "a CLIP with LayerScale"),
        (
            True,
            r".*\.(?:attn\.(?:ln(?:_\w+)?|logit_scale|head_scale)|ln_attn|mlp\.ln)\b",
            "a CLIP with scaled attention",
        ),
        (has_text, r"positional_embedding_res$", "a LongCLIP, with two tables of positions"),
        (has_text, r"text_projection\.bias$", "a CLIP whose text projection has a bias"),
    ):
        if there and has(pattern):
            raise file.refuse(f"{what}, which CLIPModel cannot hold")
    if file.shapes.get("token_embedding.weight", (0,))[:1] == (_XLM_V,):
        raise file.refuse("a MetaCLIP 2, whose text feature is at another token than CLIPModel's; use MetaClip2Model")
    if has_image and not has(rf"{image}ln_pre\."):
        raise file.refuse("a CLIP without a LayerNorm before its image tower (ln_pre), which CLIPModel cannot hold")
