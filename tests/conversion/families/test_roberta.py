"""RoBERTa of fairseq and of transformers: the positions begin behind padding's, and a BERT is never taken for one."""

import argparse

import pytest
import torch
import torch.nn.functional as F

from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import choose
from hf_encoders.conversion.encoders.source import recognise_encoder
from hf_encoders.conversion.families.encoders import ENCODERS
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.families.moves import apply, undo
from hf_encoders.conversion.families.names import FAMILIES
from hf_encoders.conversion.report import read_report
from tests.conversion.families.test_bert import assumed, check, refusal
from tests.helpers.small_texts import WIDTH, SmallBert, SmallFairseq, below, converted, differences

POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"


def apart(state):
    """Query, key and value as newer releases of fairseq name them."""
    result = {}
    for name, tensor in state.items():
        if ".in_proj_" in name:
            for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                result[name.replace("in_proj_", f"{letter}_proj.")] = third.clone()
        else:
            result[name] = tensor
    return result


def fairseq_file(network, prefix="decoder.sentence_encoder.", **args):
    parent = prefix.removesuffix("sentence_encoder.")
    head = {f"{parent}lm_head.dense.weight": torch.ones(WIDTH, WIDTH), f"{parent}lm_head.bias": torch.ones(5)}
    return {"args": argparse.Namespace(**args), "model": below(prefix, apart(network.state_dict())) | head}


@pytest.mark.parametrize("prefix", ["decoder.sentence_encoder.", "encoder.sentence_encoder."])
def test_fairseq(prefix, tmp_path):
    network = SmallFairseq()
    content = fairseq_file(network, prefix)
    content["model"]["classification_heads.mnli.dense.weight"] = torch.ones(WIDTH, WIDTH)
    model = converted(content, tmp_path)
    assert type(model).__name__ == "RobertaModel" and model.config.type_vocab_size == 1
    check(model, network, pad=1)
    report = read_report(tmp_path / "repo")
    assert report["untrained"] == ["pooler"] and set(assumed(tmp_path)) == {"heads"}
    assert sorted(key.split(".")[-2] for key in report["dropped"]) == ["dense", "dense", "lm_head"]
    assert model.config.layer_norm_eps == 1e-5


@pytest.mark.parametrize(
    ("act", "said"), [(F.relu, "relu"), (lambda x: F.gelu(x, approximate="tanh"), "gelu_accurate"), (F.gelu, "gelu")]
)
def test_the_args_of_fairseq_settle_all(act, said, tmp_path):
    network = SmallFairseq(act=act, heads=4)
    check(converted(fairseq_file(network, encoder_attention_heads=4, activation_fn=said), tmp_path), network, pad=1)
    assert not assumed(tmp_path)


def test_the_configuration_of_newer_releases(tmp_path):
    network = SmallFairseq(heads=4)
    content = fairseq_file(network)
    content |= {"args": None, "cfg": {"model": {"_name": "roberta", "encoder_attention_heads": 4}}}
    check(converted(content, tmp_path), network, pad=1)
    assert not assumed(tmp_path)


def test_older_and_other_names(tmp_path):
    """Query, key and value in one, and the LayerNorm of the embeddings under fairseq's later name."""
    network = SmallFairseq()
    state = {name.replace("emb_layer_norm", "layernorm_embedding"): t for name, t in network.state_dict().items()}
    content = below("encoder.sentence_encoder.", state)
    check(converted(content, tmp_path), network, pad=1)
    source = source_of(content, tmp_path)
    back = undo(source.plan.moves, apply(source.plan.moves, source.tensors))
    assert all(torch.equal(back[name], source.tensors[name]) for name in source.tensors)
    assert len(source.tensors) == len(content) == len(back)


FAIRSEQ_RELATIVES = {
    "layer_norm.weight": "pre-norm",
    "segment_embeddings.weight": "segment embeddings",
    "embed_positions._float_tensor": "sinusoidal positions",
    "layers.0.encoder_attn.k_proj.weight": "cross-attention",
    "layers.0.attn_ln.weight": "NormFormer",
}


@pytest.mark.parametrize("name", FAIRSEQ_RELATIVES)
def test_relatives_in_fairseq(name, tmp_path):
    content = fairseq_file(SmallFairseq())
    content["model"][f"decoder.sentence_encoder.{name}"] = torch.ones(2, WIDTH)
    line = refusal(content, tmp_path)
    assert FAIRSEQ_RELATIVES[name] in line and "which RobertaModel cannot hold" in line


def test_missing_and_other_tensors_in_fairseq(tmp_path):
    content = fairseq_file(SmallFairseq())
    content["model"]["decoder.sentence_encoder.layers.0.gate"] = torch.ones(3)
    assert "unexpected" in refusal(content, tmp_path)
    content = fairseq_file(SmallFairseq())
    del content["model"]["decoder.sentence_encoder.layers.1.fc1.bias"]
    assert "missing 'layers.1.fc1.bias'" in refusal(content, tmp_path)


def source_of(content, folder, layout=None):
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    chosen = choose(open_checkpoint(path), FAMILIES)
    return recognise_encoder(chosen, ENCODERS[chosen.network.family], EncoderOptions(layout=layout))


def roberta(**options):
    return SmallBert(**{"positions": 24, "types": 1, "pad": 1, "eps": 1e-5} | options)


def zero_row(network):
    with torch.no_grad():
        network.embeddings["position_embeddings"].weight[1] = 0
    return network


@pytest.mark.parametrize(
    ("network", "prefix", "metadata"),
    [
        (roberta(), "", {}),
        (roberta(), "module.roberta.", {}),
        (roberta(positions=66), "bert.", {}),
        (zero_row(roberta(types=2)), "bert.", {}),
        (zero_row(roberta(types=2)), "0.auto_model.", {}),
        (roberta(), "question_model.", {"encoder_params": {"encoder_model_type": "hf_roberta"}}),
        (roberta(pooler=False), "roberta.", {"config": {"model_type": "xlm-roberta"}}),
    ],
    ids=["one type", "its name", "its positions", "padding's row", "no prefix", "DPR", "XLM-RoBERTa"],
)
def test_names_of_transformers(network, prefix, metadata, tmp_path):
    model = converted({"state_dict": below(prefix, network.state_dict()), **metadata}, tmp_path)
    assert type(model).__name__ == "RobertaModel"
    check(model, network, pad=1)
    assert set(assumed(tmp_path)) == {"heads", "epsilon"}
    assert read_report(tmp_path / "repo")["source"]["layout"] == "roberta"


def test_an_epsilon_that_is_told_is_not_assumed(tmp_path):
    network = roberta(eps=1e-12)
    options = EncoderOptions(layer_norm_eps=1e-12, attention_heads=(2,))
    check(converted(network.state_dict(), tmp_path, options), network, pad=1)
    assert not assumed(tmp_path)


@pytest.mark.parametrize(
    ("network", "prefix", "said"),
    [
        (roberta(types=2), "roberta.", "2 token types (bert), the name 'roberta' (roberta)"),
        (roberta(), "bert.", "one token type (roberta), the name 'bert' (bert)"),
        (SmallBert(positions=66), "", "2 token types (bert), padding's two positions (roberta)"),
    ],
)
def test_where_nothing_tells_bert_from_roberta_a_person_is_asked(network, prefix, said, tmp_path):
    """A wrong choice would shift all positions in silence."""
    state = below(prefix, network.state_dict())
    line = refusal(state, tmp_path)
    assert said in line and line.endswith("give --layout bert or --layout roberta")
    for layout, kind in (("bert", "BertModel"), ("roberta", "RobertaModel")):
        folder = tmp_path / layout
        folder.mkdir()
        options = EncoderOptions(layer_norm_eps=1e-5 if network.pad else 1e-12)
        model = converted(state, folder, options, layout=layout)
        assert type(model).__name__ == kind
        is_right = (layout == "roberta") == (network.pad is not None)
        error = differences(model, network, pad=network.pad or 0)["last_hidden_state"]
        assert error < 1e-5 if is_right else error > 1e-2


def test_without_token_types_a_person_is_asked(tmp_path):
    """As BertGeneration has them; zeros change nothing."""
    network = SmallBert()
    with torch.no_grad():
        network.embeddings["token_type_embeddings"].weight.zero_()
    state = network.state_dict()
    del state[TYPES]
    assert "nothing in it tells; give --layout bert or" in refusal(state, tmp_path)
    check(converted(state, tmp_path, layout="bert"), network)


def test_too_few_positions_and_tokens(tmp_path):
    state = roberta().state_dict()
    state[POSITIONS] = state[POSITIONS][:2].clone()
    assert "has too few rows" in refusal(state, tmp_path, layout="roberta")


def test_the_longest_text_has_two_tokens_less_than_positions(tmp_path):
    texts = source_of(roberta().state_dict(), tmp_path).plan.texts
    assert (texts.max_length, texts.tokenizer) == (22, "RobertaTokenizer")
    inputs = source_of(fairseq_file(SmallFairseq(positions=5)), tmp_path).plan.inputs
    assert inputs["input_ids"].shape[1] == 3


def test_networks_of_other_families_are_not_claimed(tmp_path):
    """BART's encoder has fairseq's names without the sentence encoder's prefix."""
    content = below("encoder.", apart(SmallFairseq().state_dict()))
    path = tmp_path / "checkpoint.pt"
    torch.save(content, path)
    assert not choose(open_checkpoint(path), FAMILIES).network.family == "roberta"
