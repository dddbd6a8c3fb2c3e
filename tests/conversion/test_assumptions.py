"""What no tensor tells is a warning on top, and the comparison is "consistent" until an option settles it."""

import pytest
from transformers import AutoConfig, BertConfig

from hf_encoders.commands.main import command
from hf_encoders.conversion.report import read_report
from hf_encoders.conversion.tower_sources import read_tokenizer
from tests.helpers.legacy_files import convert, refusal, run_command
from tests.helpers.multimodal_files import write_multimodal


def verify(repo):
    status, out, err = run_command(command, "verify", repo)
    assert status == 0, err
    return out


def test_what_is_assumed_is_warned_about_on_top(tmp_path):
    """Both sides of the comparison assume the heads, so that nothing is verified before they are told."""
    checkpoint = write_multimodal(tmp_path / "best.pt")
    lines = convert(checkpoint, "--allow-no-tokenizer").splitlines()
    assert lines[0].startswith("warning: 2 attention heads of 64 channels in the text tower assumed")
    assert "--text-model or --attention-heads settles it" in lines[0]
    assert lines[1].startswith("warning: 2 attention heads of 64 channels in the image tower assumed")
    assert "mean 0.5 and standard deviation 0.5 of the images assumed" in lines[2]
    assert "verified" not in "\n".join(lines)
    assert "**Not settled:** 2 attention heads" in (tmp_path / "best-hf" / "README.md").read_text()


@pytest.mark.parametrize(("told", "expected"), [("4", (4, 4)), ("4,8", (4, 8))])
def test_the_heads_that_are_told(told, expected, tmp_path):
    checkpoint = write_multimodal(tmp_path / "best.pt")
    out = convert(checkpoint, "--allow-no-tokenizer", "--attention-heads", told)
    assert "verified: text_embeds differ" in out and "attention heads" not in out
    config = AutoConfig.from_pretrained(tmp_path / "best-hf")
    assert (config.text_config.num_attention_heads, config.vision_config.num_attention_heads) == expected
    assert [entry["quantity"] for entry in read_report(tmp_path / "best-hf")["assumed"]] == ["normalisation"]
    again = verify(tmp_path / "best-hf")
    assert "verified: text_embeds differ" in again and "attention heads" not in again


def test_a_repo_with_assumed_heads_is_only_consistent_when_it_is_verified_again(tmp_path):
    convert(write_multimodal(tmp_path / "best.pt"), "--allow-no-tokenizer")
    again = verify(tmp_path / "best-hf")
    assert again.startswith("warning: 2 attention heads") and "verified" not in again
    told = "; to settle it, convert the checkpoint again with --text-model or --attention-heads\n"  # verify has neither
    assert told in again and "settles it" not in again
    assert "consistent, with assumed heads: text_embeds differ" in again


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("3", "--attention-heads 3: the text tower's hidden size 128 is not a multiple"),
        ("2,5", "--attention-heads 5: the vision tower's hidden size 128 is not a multiple"),
        ("0", "neither a number of heads"),
        ("2,2,2", "neither a number of heads"),
        ("twelve", "neither a number of heads"),
    ],
)
def test_heads_that_cannot_be(told, message, tmp_path):
    checkpoint = write_multimodal(tmp_path / "best.pt")
    assert message in refusal(checkpoint, "--allow-no-tokenizer", "--attention-heads", told)
    assert not (tmp_path / "best-hf").exists()


def test_a_vocabulary_alone_tells_whether_it_is_cased(tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    for words, expected in ((["a", "chair", "Chair"], ["Chair"]), (["a", "chair"], ["chair"])):
        vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
        tokenizer = read_tokenizer("--tokenizer", str(vocabulary), BertConfig())
        assert tokenizer.tokenize("Chair") == expected
