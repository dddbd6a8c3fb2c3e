"""RoBERTa: fairseq's names, and transformers' names, which are BERT's.

Liu et al., RoBERTa: A Robustly Optimized BERT Pretraining Approach, 2019. Positions begin behind the padding token's
id, 1, and padding has that position itself; XLM-RoBERTa and CamemBERT are the same network.
"""

import re

import torch
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from .bert import canonical_bert, heads_of, left_out
from .family import EncoderOptions, Family, FileTensors, Plan, Texts
from .inputs import text_inputs
from .layers import Tensors
from .post_norm import TRANSFORMERS, Naming, forward, moves_of, sizes_of

_PAD = 1
_TYPES = 1
_FAIRSEQ = Naming(
    words="embed_tokens",
    positions="embed_positions",
    types="segment_embeddings",
    norm="emb_layer_norm",
    blocks="layers.",
    parts={
        "attention.self.query": "self_attn.q_proj",
        "attention.self.key": "self_attn.k_proj",
        "attention.self.value": "self_attn.v_proj",
        "attention.output.dense": "self_attn.out_proj",
        "attention.output.LayerNorm": "self_attn_layer_norm",
        "intermediate.dense": "fc1",
        "output.dense": "fc2",
        "output.LayerNorm": "final_layer_norm",
    },
)
_ENCODER = "sentence_encoder."
_ATTENTION = r"self_attn\.(?:[qkv]_proj\.(?:weight|bias)|in_proj_(?:weight|bias))"
_NAMES = (
    r"sentence_encoder\.(?:embed_(?:tokens|positions)\.weight|(?:emb_layer_norm|layernorm_embedding)\.(?:weight|bias)"
    rf"|layers\.\d+\.(?:{_ATTENTION}|(?:self_attn\.out_proj|self_attn_layer_norm|fc[12]|final_layer_norm)"
    r"\.(?:weight|bias)))|lm_head\..+"
)
_MARKS = (r"sentence_encoder\.embed_tokens\.", rf"sentence_encoder\.layers\.\d+\.{_ATTENTION}")
_HEADS = re.compile(r"lm_head\..+|classification_heads\..+|version")
# Part of a name → the relative of fairseq's RoBERTa that has it.
_RELATIVES = (
    (r"^layer_norm\.", "a RoBERTa with pre-norm, as XLM-RoBERTa-XL"),
    (r"^segment_embeddings\.", "fairseq's BERT with segment embeddings"),
    (r"^embed_positions\._float_tensor$", "a RoBERTa with sinusoidal positions"),
    (r"^layers\.\d+\.encoder_attn", "a decoder with cross-attention"),
    (r"^layers\.\d+\.(?:moe_layer|fc[12]\.experts|attn_ln|ffn_layernorm|c_attn|w_resid)", "a NormFormer or a mixture"),
)


def _canonical(name: str) -> str:
    """The name without fairseq's prefix; the embeddings' LayerNorm has two names there."""
    if not name.startswith(_ENCODER):
        return canonical_bert(name)
    name = name.removeprefix(_ENCODER)
    return name.replace("layernorm_embedding.", "emb_layer_norm.", 1) if name.startswith("layernorm_") else name


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    is_fairseq = "embed_tokens.weight" in file.shapes
    if is_fairseq:
        for pattern, what in _RELATIVES:
            if any(re.search(pattern, name) for name in file.shapes):
                raise file.refuse(f"{what}, which RobertaModel cannot hold")
        naming, beside = _FAIRSEQ, [name for name in file.shapes if _HEADS.fullmatch(name)]
        sizes, assumed = sizes_of(file, options, naming, 1e-5)
    else:
        naming, beside = TRANSFORMERS, heads_of(file)
        # RobertaConfig's own default, which networks that were trained from scratch in transformers may have.
        sizes, assumed = sizes_of(file, options, naming, 1e-5, (1e-12,))
    longest = sizes.positions - _PAD - 1
    if longest < 1 or sizes.vocab_size <= _PAD:
        name = naming.words if sizes.vocab_size <= _PAD else naming.positions
        key = file.keys[f"{name}.weight"]
        raise file.refuse(f"{key!r} has too few rows: {_PAD} is the id of padding, and positions begin behind it")

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        ids = inputs["input_ids"]
        is_token = ids != _PAD
        positions = torch.where(is_token, _PAD + is_token.cumsum(1), _PAD)
        return forward(tensors, ids, inputs["attention_mask"], positions, naming, sizes)

    return Plan(
        architecture="RobertaModel",
        settings=sizes.settings(_TYPES) | {"pad_token_id": _PAD, "bos_token_id": 0, "eos_token_id": 2},
        moves=list(moves_of(file, naming, sizes, _TYPES)),
        reference=reference,
        inputs=text_inputs(sizes.vocab_size, longest, _PAD),
        dropped=beside,
        assumed=assumed,
        untrained=() if sizes.pooler else ("pooler",),
        notes=left_out(file, beside, "RobertaModel"),
        texts=Texts(sizes.vocab_size, longest, "RobertaTokenizer"),
    )


ROBERTA = Family(
    name="roberta",
    names=(FamilyNames("roberta", re.compile(_NAMES), tuple(map(re.compile, _MARKS))),),
    plan=_plan,
    canonical=_canonical,
    label="RoBERTa",
)
