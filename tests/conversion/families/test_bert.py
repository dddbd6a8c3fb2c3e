"""BERT below any prefix becomes a BertModel with the same numbers; what it cannot hold is refused by its name."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertForSequenceClassification

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import WeightsWanted, choose
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.encoders.source import recognise_encoder
from hf_encoders.conversion.families.bert import BERT
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.families.moves import apply, undo
from hf_encoders.conversion.families.names import FAMILIES
from hf_encoders.conversion.report import read_report
from tests.helpers.small_texts import DEPTH, VOCAB, WIDTH, SmallBert, below, converted, differences, randomised

ENOUGH = 1e-5


@pytest.fixture(scope="module")
def network():
    return SmallBert()


def check(model, network, **options):
    found = differences(model, network, **options)
    assert max(found.values()) < ENOUGH, found
    return set(found)


def assumed(folder):
    return {entry["quantity"]: entry for entry in read_report(folder / "repo")["assumed"]}


def refusal(content, folder, options=None, **arguments):
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    with pytest.raises(LayoutError) as error:
        convert(path, folder / "repo", encoder=options, **arguments)
    assert not (folder / "repo").exists()
    line = str(error.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line


def plan_of(content, folder, options=None):
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    return recognise_encoder(choose(open_checkpoint(path), FAMILIES), BERT, options or EncoderOptions())


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": below("model.bert.", state), "epoch": 3},
        lambda state: {"model": below("module.text_encoder.", state)},
        lambda state: below("0.auto_model.", state),
        lambda state: below("encoder.", state),
        lambda state: {"model_state_dict": below("_orig_mod.bert.", state) | {"mlp.dense.weight": torch.ones(2, 2)}},
    ],
    ids=["bare", "Lightning", "DataParallel", "sentence-transformers", "an encoder in a model", "a head beside"],
)
def test_below_any_prefix(wrapped, network, tmp_path):
    model = converted(wrapped(network.state_dict()), tmp_path)
    assert type(model).__name__ == "BertModel"
    assert check(model, network) == {"last_hidden_state", "pooler_output"}
    assert set(assumed(tmp_path)) == {"heads"}


def test_older_names_and_buffers(network, tmp_path):
    """Files of early releases have LayerNorm.gamma and beta, and the buffer of positions."""
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in network.state_dict().items()
    }
    state["embeddings.position_ids"] = torch.arange(24)[None]
    state["embeddings.token_type_ids"] = torch.zeros(1, 24, dtype=torch.int64)
    check(converted(below("bert.", state), tmp_path), network)
    state["embeddings.position_ids"] = torch.arange(24)[None] + 2
    (tmp_path / "other").mkdir()
    assert "is not 0, 1, 2, ..., which transformers' class assumes" in refusal(state, tmp_path / "other")


def test_half_precision_stays(network, tmp_path):
    half = SmallBert().half()
    model = converted(half.state_dict(), tmp_path)
    assert model.dtype == torch.float16
    check(model.float(), half.float())


def test_moves_go_back(network, tmp_path):
    state = network.state_dict() | {"embeddings.position_ids": torch.arange(24)[None]}
    source = plan_of(below("model.bert.", state), tmp_path)
    back = undo(source.plan.moves, apply(source.plan.moves, source.tensors))
    assert set(back) == set(state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_a_file_without_pooler_says_so(tmp_path):
    network = SmallBert(pooler=False)
    model = converted(below("question_model.", network.state_dict()), tmp_path)
    assert check(model, network) == {"last_hidden_state"}
    assert read_report(tmp_path / "repo")["untrained"] == ["pooler"]
    assert torch.equal(model.pooler.dense.weight, torch.eye(WIDTH)) and not model.pooler.dense.bias.any()


def test_one_of_two_encoders_is_asked_for(tmp_path):
    """A DPR file has two; the end of the path is enough."""
    networks = SmallBert(pooler=False), SmallBert(pooler=False, types=3)
    content = {
        "model_dict": below("question_model.", networks[0].state_dict())
        | below("ctx_model.", networks[1].state_dict()),
        "encoder_params": {"encoder_model_type": "hf_bert"},
    }
    model = converted(content, tmp_path, weights=WeightsWanted("ctx_model"))
    assert model.config.type_vocab_size == 3
    check(model, networks[1])


def test_a_classifier_of_the_poolers_output(network, tmp_path):
    head = randomised(nn.ModuleDict({"classifier": nn.Linear(WIDTH, 5)}))
    state = below("bert.", network.state_dict()) | head.state_dict()
    check(converted(state, tmp_path), network)
    loaded = BertForSequenceClassification.from_pretrained(tmp_path / "repo").eval()

    def classified(ids, mask):
        return {"logits": head["classifier"](network(ids, mask)["pooler_output"])}

    check(loaded, classified)
    assert "--without-head" in assumed(tmp_path)["classifier"]["options"]
    (tmp_path / "plain").mkdir()
    model = converted(state, tmp_path / "plain", EncoderOptions(without_head=True))
    assert model.config.architectures == ["BertModel"] and "classifier" not in assumed(tmp_path / "plain")
    assert read_report(tmp_path / "plain" / "repo")["dropped"] == ["classifier.weight", "classifier.bias"]
    check(model, network)


def test_a_classifier_of_tokens_and_other_heads_are_left_out(network, tmp_path):
    bare = SmallBert(pooler=False)
    state = below("bert.", bare.state_dict()) | {
        "classifier.weight": torch.ones(4, WIDTH),
        "classifier.bias": torch.ones(4),
        "crf.transitions": torch.ones(4, 4),
    }
    source = plan_of(state, tmp_path)
    assert source.plan.architecture == "BertModel"
    assert source.dropped == ["classifier.weight", "classifier.bias", "crf.transitions"]
    assert source.plan.notes == ["left out classifier, crf: BertModel has no such head"]
    check(converted(state, tmp_path), bare)
    within = plan_of(network.state_dict() | {"encode_proj.weight": torch.ones(7, WIDTH)}, tmp_path)
    assert within.dropped == ["encode_proj.weight"]


@pytest.mark.parametrize(("width", "heads"), [(384, 12), (192, 3)])
def test_heads_are_assumed_as_published(width, heads, tmp_path):
    """MiniLM has 12 heads of 32 channels, others have 64 channels a head."""
    network = SmallBert(width=width, heads=heads)
    check(converted(network.state_dict(), tmp_path), network)
    line = f"{heads} attention heads of {width // heads} channels"
    assert assumed(tmp_path)["heads"]["what"] == line


def test_what_a_person_says(tmp_path):
    network = SmallBert(heads=4, act=F.relu, eps=1e-3)
    options = EncoderOptions(attention_heads=(4,), hidden_act="relu", layer_norm_eps=1e-3)
    check(converted(network.state_dict(), tmp_path, options), network)
    assert not assumed(tmp_path)


def test_what_the_file_says(tmp_path):
    network = SmallBert(heads=4, act=F.relu, eps=1e-3)
    config = {"hidden_size": WIDTH, "num_attention_heads": 4, "hidden_act": "relu", "layer_norm_eps": 1e-3}
    content = {"state_dict": network.state_dict(), "hyper_parameters": {"text": config}}
    content["vision"] = {"hidden_size": 7, "num_attention_heads": 7}
    check(converted(content, tmp_path), network)
    assert not assumed(tmp_path)
    line = refusal(content, tmp_path / "repo", EncoderOptions(attention_heads=(2,)))
    assert "--attention-heads 2: the file says 4; leave --attention-heads out" in line


@pytest.mark.parametrize(
    ("heads", "said"), [((3,), "the hidden size 128 is not a multiple"), ((2, 2), "has one tower; give one number")]
)
def test_heads_that_cannot_be(heads, said, network, tmp_path):
    assert said in refusal(network.state_dict(), tmp_path, EncoderOptions(attention_heads=heads))


@pytest.mark.parametrize("width", [100, 32])
def test_a_width_that_nothing_explains(width, tmp_path):
    line = refusal(SmallBert(width=width).state_dict(), tmp_path)
    assert f"its hidden size {width} is not a multiple of 64" in line and "--attention-heads" in line


def test_an_activation_that_is_unknown(network, tmp_path):
    assert "its activation 'sine' is none of" in refusal(network.state_dict(), tmp_path, EncoderOptions("sine"))


def test_missing_blocks_and_other_tensors(network, tmp_path):
    state = network.state_dict()
    without = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.layer.1.")}
    line = refusal(without, tmp_path)
    assert f"{len(state) - 16} of {len(state)} keys match" in line and "missing 'encoder.layer.1." in line
    line = refusal(state | {"encoder.layer.0.adapter.down.weight": torch.ones(2, WIDTH)}, tmp_path)
    assert "unexpected 'encoder.layer.0.adapter.down.weight'" in line and "--ignore" in line
    line = refusal(state | {"encoder.layer.2.output.dense.weight": torch.ones(WIDTH, 5)}, tmp_path)
    assert "has shape [128, 5]" in line and "expected [128, 96]" in line


LAYER = "encoder.layer.0."
RELATIVES = {
    f"{LAYER}attention.self.distance_embedding.weight": "relative positions",
    f"{LAYER}crossattention.self.query.weight": "cross-attention",
    "embeddings_project.weight": "an ELECTRA whose embeddings are projected",
    f"{LAYER}attention.self.query_global.weight": "a Longformer",
    f"{LAYER}attention.self.key_conv_attn_layer.depthwise.weight": "a ConvBERT",
    "embeddings.embedding_transformation.weight": "a MobileBERT",
    "embeddings.task_type_embeddings.weight": "an ERNIE with task types",
    "embeddings.x_position_embeddings.weight": "a LayoutLM",
    f"{LAYER}attention.ln.weight": "a MegatronBERT",
    f"{LAYER}attention.LayerNorm.weight": "RobertaPreLayerNorm",
    f"{LAYER}attention.self_attn_layer_norm.weight": "an XLM-RoBERTa-XL",
    f"{LAYER}attention.self.rel_pos_bias.weight": "relative positions",
    f"{LAYER}attention.self.conv.weight": "a Nyströmformer",
    "embeddings.visual_projection.weight": "a VisualBERT",
    "encoder.emb_layer_norm_after.weight": "an ESM",
    "pooler.weight": "a BigBird",
    "embeddings.patch_embeddings.projection.weight": "a ViT",
    "encoder.rel_embeddings.weight": "a DeBERTa",
    "encoder.relative_attention_bias.weight": "an MPNet",
    "transformer.layer.0.attention.q_lin.weight": "a DistilBERT",
    "encoder.albert_layer_groups.0.albert_layers.0.ffn.weight": "an ALBERT",
}


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_by_their_names(name, network, tmp_path):
    line = refusal(network.state_dict() | {name: torch.ones(2, WIDTH)}, tmp_path)
    assert RELATIVES[name] in line and "which BertModel and RobertaModel cannot hold" in line


def test_a_relative_that_only_its_name_tells(network, tmp_path):
    assert "a YOSO, with sampled attention" in refusal(below("yoso.", network.state_dict()), tmp_path)


def test_as_many_positions_as_big_bird_are_warned_about(tmp_path):
    """Its names are BERT's."""
    network = SmallBert(positions=4096)
    check(converted(below("bert.", network.state_dict()), tmp_path), network)
    assert "BigBird" in assumed(tmp_path)["attention"]["what"]


def test_an_adapter_is_explained(network, tmp_path):
    state = below("base_model.model.bert.", network.state_dict())
    name = "base_model.model.bert.encoder.layer.0.attention.self.query"
    state[f"{name}.base_layer.weight"] = state.pop(f"{name}.weight")
    state |= {f"{name}.lora_A.default.weight": torch.ones(2, WIDTH)}
    assert "a LoRA adapter, or a network with one" in refusal(state, tmp_path)


def test_settings_of_other_parts_say_nothing(network, tmp_path):
    """A training's own options, and the configuration of a network of another width."""
    content = {"state_dict": network.state_dict(), "args": {"activation_fn": "relu", "num_attention_heads": 4}}
    content["config"] = {"hidden_size": 64, "hidden_act": "relu", "num_attention_heads": 1}
    check(converted(content, tmp_path), network)
    assert set(assumed(tmp_path)) == {"heads"}


def test_without_positions(network, tmp_path):
    state = network.state_dict()
    del state["embeddings.position_embeddings.weight"]
    assert "has no position embeddings" in refusal(state, tmp_path)
    line = refusal(state | {"encoder.embed_positions.weight": torch.ones(24, WIDTH)}, tmp_path)
    assert "a RoFormer, with rotary positions" in line


def test_sizes_in_the_configuration(network, tmp_path):
    converted(network.state_dict(), tmp_path)
    config = json.loads((tmp_path / "repo" / "config.json").read_text())
    sizes = {"vocab_size": VOCAB, "num_hidden_layers": DEPTH, "max_position_embeddings": 24, "type_vocab_size": 2}
    assert config | sizes | {"hidden_size": WIDTH, "layer_norm_eps": 1e-12, "pad_token_id": 0} == config
    texts = plan_of(network.state_dict(), tmp_path).plan.texts
    assert (texts.vocab_size, texts.max_length, texts.tokenizer) == (VOCAB, 24, "BertTokenizer")


def test_half_of_a_multimodal_encoder_is_no_bert(network, tmp_path):
    projections = {f"{tower}_projection.weight": torch.ones(7, WIDTH) for tower in ("text", "visual")}
    path = tmp_path / "checkpoint.pt"
    torch.save(below("text_encoder.", network.state_dict()) | projections, path)
    assert choose(open_checkpoint(path), FAMILIES).network.family == "multimodal-encoder"
