"""BERT: transformers' names, below any prefix.

Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2018. RoBERTa has the
same names in transformers, and counts its positions otherwise.
"""

import re

import torch
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from ..assumptions import Assumption
from .family import EncoderOptions, Family, FileTensors, Plan, Texts
from .inputs import text_inputs
from .layers import Tensors, linear
from .moves import same
from .post_norm import TRANSFORMERS, forward, moves_of, sizes_of, stated

_EPS = 1e-12
_TYPES = 2
_BLOCK = (
    r"attention\.(?:self\.(?:query|key|value)|output\.(?:dense|LayerNorm))|intermediate\.dense"
    r"|output\.(?:dense|LayerNorm)"
)
_NAMES = (
    r"embeddings\.(?:(?:word|position|token_type)_embeddings\.weight|LayerNorm\.(?:weight|bias|gamma|beta)"
    r"|(?:position|token_type)_ids)"
    rf"|encoder\.layer\.\d+\.(?:{_BLOCK})\.(?:weight|bias|gamma|beta)|pooler\.dense\.(?:weight|bias)"
)
_MARKS = (r"embeddings\.word_embeddings\.", r"encoder\.layer\.\d+\.attention\.self\.(?:query|key|value)\.")
_CLASSIFIED = "bert."  # the prefix of the encoder beside a classifier
_CLASSIFIER = ("classifier.weight", "classifier.bias")
# Heads below the same prefix as the encoder.
_HEADS = re.compile(
    r"(?:cls|classifier|qa_outputs|lm_head|mlp|encode_proj|proj|projector|projection(?:_head)?|text_projection"
    r"|discriminator_predictions|generator_(?:predictions|lm_head)|dense|linear|head)\..+"
)
# Part of a name → the relative of BERT that has it.
_RELATIVES = (
    (r"(?:^|\.)transformer\.layer\.\d+\.attention\.q_lin\.", "a DistilBERT"),
    (r"(?:^|\.)albert_layer_groups\.", "an ALBERT, whose blocks share their weights"),
    (r"(?:^|\.)rel_embeddings\.|attention\.self\.(?:query_proj|in_proj)\.", "a DeBERTa"),
    (r"attention\.attn\.q\.|(?:^|\.)relative_attention_bias\.", "an MPNet"),
    (r"(?:^|\.)embeddings_project\.", "an ELECTRA whose embeddings are projected (embeddings_project)"),
    (r"attention\.self\.query_global\.", "a Longformer"),
    (r"attention\.self\.key_conv_attn_layer\.", "a ConvBERT"),
    (r"attention\.self\.conv\.", "a Nyströmformer"),
    (r"embeddings\.embedding_transformation\.", "a MobileBERT"),
    (r"embeddings\.task_type_embeddings\.", "an ERNIE with task types"),
    (r"embeddings\.(?:x_position|h_position|bbox)_?\w*\.", "a LayoutLM, which embeds places on a page"),
    (r"embeddings\.visual_\w+\.", "a VisualBERT"),
    (r"embeddings\.patch_embeddings\.", "a ViT, of images"),
    (r"(?:^|\.)emb_layer_norm_after\.", "an ESM, of proteins (pre-norm)"),
    (r"^pooler\.weight$", "a BigBird, with sparse attention"),
    (r"crossattention\.", "a BERT with cross-attention, as decoders and fusion encoders have it"),
    (r"layer\.\d+\.attention\.ln\.", "a MegatronBERT (pre-norm)"),
    (r"layer\.\d+\.(?:attention|intermediate)\.LayerNorm\.", "a RoBERTa with pre-norm (RobertaPreLayerNorm)"),
    (r"layer\.\d+\.attention\.self_attn_layer_norm\.", "an XLM-RoBERTa-XL (pre-norm)"),
    (
        r"attention\.self\.(?:distance_embedding\.|pos_\w+|rel_\w+|relative_\w+)",
        "a BERT with relative positions (distance_embedding)",
    ),
    (r"^encoder\.embed_positions\.", "a RoFormer, with rotary positions"),
)
# Relatives that only the name of the encoder in a larger model tells.
_NAMED_RELATIVES = {"yoso": "a YOSO, with sampled attention", "mra": "an MRA, with approximate attention"}
_BIG_BIRD = 4096  # positions; BERT has 512 at most, and BigBird's names below "bert."
# Parts of names and model types → the family.
_NAMED = {
    "bert": "bert",
    "hf_bert": "bert",
    "electra": "bert",
    "roberta": "roberta",
    "hf_roberta": "roberta",
    "xlm_roberta": "roberta",
    "camembert": "roberta",
}


def canonical_bert(name: str) -> str:
    """The name of an encoder's tensor without the prefix beside a classifier, and TensorFlow's names of LayerNorm."""
    name = name.removeprefix(_CLASSIFIED)
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _check_relatives(file: FileTensors) -> None:
    """Refuse the relatives of BERT that transformers' classes cannot hold, by their names."""
    named = [what for part in _place_parts(file) if (what := _NAMED_RELATIVES.get(part))]
    by_tensors = [what for pattern, what in _RELATIVES if any(re.search(pattern, name) for name in file.shapes)]
    if found := [*by_tensors, *named]:
        raise file.refuse(f"{found[0]}, which BertModel and RobertaModel cannot hold")
    if f"{TRANSFORMERS.words}.weight" in file.shapes and f"{TRANSFORMERS.positions}.weight" not in file.shapes:
        raise file.refuse(
            "has no position embeddings, as a network with relative or rotary positions, which BertModel and"
            " RobertaModel cannot hold"
        )


def _place_parts(file: FileTensors) -> list[str]:
    """The names on the way to the encoder in the file."""
    return re.split(r"[^\w-]+", f"{file.place}.{file.keys.get(f'{TRANSFORMERS.words}.weight', '')}")


def heads_of(file: FileTensors) -> list[str]:
    """The names of heads below the same prefix as the encoder."""
    word_key = file.keys[f"{TRANSFORMERS.words}.weight"]
    base = word_key[: word_key.rfind(_CLASSIFIED) + len(_CLASSIFIED)] if _CLASSIFIER[0] in file.shapes else ""
    return [name for name, key in file.keys.items() if _HEADS.fullmatch(name) or not key.startswith(base)]


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    sizes, assumed = sizes_of(file, options, TRANSFORMERS, _EPS)
    if sizes.positions == _BIG_BIRD and options.hidden_act is None:
        what = "exact GELU and full attention, which BigBird, of as many positions, does not have,"
        assumed.append(Assumption("attention", what, ("--hidden-act",)))
    beside = heads_of(file)
    labels = _labels(file, sizes.width)
    classified = bool(labels) and sizes.pooler and not options.without_head
    prefix = _CLASSIFIED if classified else ""
    moves = list(moves_of(file, TRANSFORMERS, sizes, _TYPES, prefix))
    settings = sizes.settings(_TYPES) | {"pad_token_id": 0}
    if classified:
        beside = [name for name in beside if name not in _CLASSIFIER]
        moves += [same(name, name) for name in _CLASSIFIER]
        settings["num_labels"] = labels
        what = "a classifier of the pooler's output, as BertForSequenceClassification has it,"
        assumed.append(Assumption("classifier", what, ("--without-head",)))

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        ids = inputs["input_ids"]
        positions = torch.arange(ids.shape[1])[None]
        outputs = forward(tensors, ids, inputs["attention_mask"], positions, TRANSFORMERS, sizes)
        if classified:
            outputs["logits"] = linear(tensors, "classifier", outputs["pooler_output"])
        return outputs

    return Plan(
        architecture="BertForSequenceClassification" if classified else "BertModel",
        settings=settings,
        moves=moves,
        reference=reference,
        inputs=text_inputs(sizes.vocab_size, sizes.positions),
        dropped=beside,
        assumed=assumed,
        untrained=() if sizes.pooler else ("pooler",),
        notes=left_out(file, beside, "BertForSequenceClassification" if classified else "BertModel"),
        texts=Texts(sizes.vocab_size, sizes.positions, "BertTokenizer"),
    )


def left_out(file: FileTensors, names: list[str], architecture: str) -> list[str]:
    """A line about the tensors that the model does not hold."""
    parts = list(dict.fromkeys(file.keys[name].rpartition(".")[0] or file.keys[name] for name in names))
    shown = ", ".join(parts[:3]) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")
    return [f"left out {shown}: {architecture} has no such head"] if parts else []


def _labels(file: FileTensors, width: int) -> int:
    """The number of a classifier's labels; 0 without one beside the encoder."""
    shapes = [file.shapes.get(name, ()) for name in _CLASSIFIER]
    if not (file.keys[f"{TRANSFORMERS.words}.weight"].count(_CLASSIFIED) and len(shapes[0]) == 2 and shapes[0][0]):
        return 0
    return shapes[0][0] if shapes == [(shapes[0][0], width), (shapes[0][0],)] else 0


def _kin(file: FileTensors, options: EncoderOptions) -> str | None:
    """Whether a file with names of BERT is of a RoBERTa: a wrong choice would shift the positions in silence.

    Relatives of both are refused.

    In transformers' RoBERTa row 1 of the positions is that of padding, and stays zero: training never changes it.
    """
    _check_relatives(file)
    if options.layout in ("bert", "roberta"):
        return options.layout
    shape = file.shapes.get(f"{TRANSFORMERS.positions}.weight", ())
    if len(shape) != 2 or shape[0] < 3:
        return None  # which the plan refuses
    rows = file.values[f"{TRANSFORMERS.positions}.weight"]
    if not rows[1].any() and rows[2:].any():
        return "roberta"
    signs = dict(_signs(file, shape[0]))
    families = set(signs.values())
    if families == {"bert", "roberta"} and {"one token type", "padding's two positions"} <= set(signs):
        return "roberta"
    if len(families) == 1:
        return families.pop()
    said = ", ".join(f"{sign} ({family})" for sign, family in signs.items()) or "nothing in it tells"
    raise file.refuse(
        f"has names of BERT and of RoBERTa, which count positions differently: {said}; give --layout bert or"
        " --layout roberta"
    )


def _signs(file: FileTensors, positions: int) -> list[tuple[str, str]]:
    """What tells BERT from RoBERTa: a sign, and the family that it is of."""
    signs = []
    types = file.shapes.get(f"{TRANSFORMERS.types}.weight", ())
    if types:
        signs.append(("one token type", "roberta") if types[0] == 1 else (f"{types[0]} token types", "bert"))
    if positions > 64 and (positions - 2) % 64 == 0:
        signs.append(("padding's two positions", "roberta"))
    for part in _place_parts(file):
        if family := _NAMED.get(part):
            signs.append((f"the name {part!r}", family))
    for _, value in stated(file.metadata, "model_type", "encoder_model_type"):
        if isinstance(value, str) and (family := _NAMED.get(value.replace("-", "_"))):
            signs.append((f"the type {value!r}", family))
    return signs


BERT = Family(
    name="bert",
    names=(
        FamilyNames("bert", re.compile(_NAMES), tuple(map(re.compile, _MARKS))),
        FamilyNames(
            "bert",
            re.compile(rf"bert\.(?:{_NAMES})|classifier\.(?:weight|bias)"),
            (*(re.compile(rf"bert\.{mark}") for mark in _MARKS), re.compile(r"classifier\.weight$")),
        ),
    ),
    plan=_plan,
    canonical=canonical_bert,
    label="BERT",
    kin=_kin,
)
