"""Every row of the table in docs/convert.md, from the file to the card and back."""

import re

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel

from hf_encoders.checkpoints.finding.choice import WeightsWanted
from hf_encoders.commands.convert import _FAMILIES as LAYOUTS
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.export import export
from hf_encoders.conversion.families.encoders import ENCODERS
from hf_encoders.conversion.families.family import EncoderOptions
from hf_encoders.conversion.verify_repo import verify_repo
from tests.conftest import ROOT
from tests.helpers.clip_network import Clip, QuickGELU, samples, scalars
from tests.helpers.convnext_network import ConvNext, timm_names
from tests.helpers.encoder_files import ResNet, randomised
from tests.helpers.foreign_encoders import randomise
from tests.helpers.read_checkpoint import tensors_by_path
from tests.helpers.small_texts import SmallBert, SmallFairseq
from tests.helpers.swin_network import Swin
from tests.helpers.vit_networks import vit

THREE, TWO = EncoderOptions(attention_heads=(3,)), EncoderOptions(attention_heads=(2,))
BOTH = EncoderOptions(attention_heads=(2, 3))
HEAD = {"0.weight": torch.ones(4, 4), "2.weight": torch.ones(4, 4)}


def below(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def other(tensors):
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def resnet(**sizes):
    return randomised(ResNet(**sizes)).state_dict()


def dinov2(**changes):
    return vit(layer_scale=True, mask_token=True, mlp=4 * 48, **changes).state_dict()


def convnext(generation):
    return randomise(ConvNext(**generation)).state_dict()


def torchscript(path):
    """A traced CLIP, as OpenAI publishes its files."""
    torch.jit.save(torch.jit.trace(Clip(QuickGELU), samples()), path)


def files():
    """Row of the table → files, with the options that they need: the weights to take, and what nobody else knows."""
    vit_state, mae, labelled = vit().state_dict(), vit().state_dict(), vit(classes=3).state_dict()
    numbered = nn.Sequential(*randomised(ResNet()).children()).state_dict()
    bert, clip = SmallBert().state_dict(), Clip().state_dict()
    return {
        "a ResNet with torchvision's or timm's names and a classifier": [
            ({"model": resnet(classes=4), "model_ema": below("module.", resnet(classes=4))}, None, None),
            (resnet(classes=4, bottleneck=True), None, EncoderOptions(stride_in="3x3")),
        ],
        "MoCo (its query encoder), SwAV, BYOL, SimCLR, mmpretrain: a ResNet": [
            ({"state_dict": below("module.encoder_q.", resnet()) | below("module.encoder_q.fc.", HEAD)
              | below("module.encoder_k.", other(resnet()))}, None, None),
            (below("module.", resnet()) | below("module.projection_head.", HEAD), None, None),
            (below("online_network.", resnet()) | below("target_network.", other(resnet())), None, None),
            ({"state_dict": below("backbone.", numbered)}, None, None),
            ({"state_dict": below("backbone.", resnet(channels=1)) | below("neck.", HEAD)}, None, None),
        ],
        "a ViT or DeiT of timm": [
            ({"state_dict": labelled, "state_dict_ema": other(labelled)}, None, THREE)
        ],
        "a distilled DeiT": [({"model": vit(classes=3, distilled=True).state_dict()}, None, THREE)],
        "DINO (its teacher), MAE (its encoder), MoCo v3": [
            ({"student": below("module.backbone.", other(vit_state)) | below("module.head.", HEAD),
              "teacher": below("backbone.", vit_state) | below("head.", HEAD)}, None, THREE),
            ({"model": mae | {"mask_token": torch.ones(1, 1, 48), "decoder_pred.bias": torch.ones(3)}}, None, THREE),
            ({"state_dict": below("module.momentum_encoder.", other(mae)) | below("module.base_encoder.", mae)
              | below("module.predictor.", HEAD)}, None, THREE),
        ],
        "DINOv2, with Meta's or timm's names": [
            (dinov2(), None, THREE),
            (vit(layer_scale=True, mlp=4 * 48, positions="patches").state_dict(), None, THREE),
        ],
        "DINOv2 with registers": [
            ({"model": below("teacher.backbone.", dinov2(registers=("register_tokens", 4)))}, None, THREE)
        ],
        "a ConvNeXt of timm or Meta": [(convnext({}), None, None), (timm_names(convnext({})), None, None)],
        "a ConvNeXt V2 of timm or Meta": [
            (convnext({"second": True}), None, None), (timm_names(convnext({"second": True})), None, None)
        ],
        "a Swin Transformer of timm or Microsoft": [
            ({"model": randomise(Swin(timm=timm)).state_dict()}, None, None) for timm in (False, True)
        ],
        "OpenAI's CLIP, as state dict or TorchScript; open_clip's `epoch_12.pt`": [
            ({name: tensor.half() for name, tensor in clip.items()} | scalars(), None, BOTH),
            ({"epoch": 12, "state_dict": below("module.", clip)}, None, BOTH),
            (torchscript, None, BOTH),
        ],
        "the image tower of a CLIP alone": [
            ({"state_dict": below("module.", clip)}, "state_dict.module.visual", THREE),
            ({name: tensor for name, tensor in clip.items() if name.startswith("visual.")}, None, THREE),
        ],
        "a BERT below any prefix: SimCSE in Lightning, one encoder of DPR": [
            ({"state_dict": below("model.encoder.bert.", bert) | below("model.mlp.", HEAD),
              "pytorch-lightning_version": "2.1"}, None, TWO),
            ({"model_dict": below("question_model.", bert) | below("ctx_model.", other(bert))}, "question_model", TWO),
        ],
        "fairseq's RoBERTa": [
            ({"model": below("decoder.sentence_encoder.", SmallFairseq().state_dict()), "args": None}, None, TWO)
        ],
    }  # fmt: skip


TABLE = (ROOT / "docs/convert.md").read_text(encoding="utf-8").partition("| your file |")[2].partition("\n\n")[0]
# The legacy networks have tests of their own.
ROWS = {
    file: kind
    for file, kind in re.findall(r"^\| (.+?) \| `(\w+)` \| `[\w-]+` \|$", TABLE, re.MULTILINE)
    if "legacy" not in file
}
FILES = files()


def test_every_row_has_files_and_every_family_a_layout():
    assert set(ROWS) == set(FILES)
    assert set(LAYOUTS) == set(ENCODERS)


@pytest.mark.parametrize(
    ("row", "number"), [(row, number) for row, content in FILES.items() for number in range(len(content))]
)
def test_rows(row, number, tmp_path):
    content, weights, options = FILES[row][number]
    path, repo = tmp_path / "file.pth", tmp_path / "repo"
    content(path) if callable(content) else torch.save(content, path)
    convert(path, repo, weights=WeightsWanted(weights), encoder=options)
    assert AutoConfig.from_pretrained(repo).architectures == [ROWS[row]]
    for kind in (AutoModel, getattr(transformers, ROWS[row])):
        _, loading = kind.from_pretrained(repo, output_loading_info=True)
        assert not loading["missing_keys"] and not loading["mismatched_keys"]
    for against in (None, path):
        verify_repo(str(repo), against)
    export(str(repo), tmp_path / "back.pth")
    before, after = tensors_by_path(path), tensors_by_path(tmp_path / "back.pth")
    if not before:  # TorchScript
        before = {(name,): tensor for name, tensor in torch.jit.load(path).state_dict().items()}
    assert after and all(torch.equal(before[key], tensor) for key, tensor in after.items())
    assert all(before[key].dtype == tensor.dtype for key, tensor in after.items())
    for code in re.findall(r"```python\n(.*?)```", (repo / "README.md").read_text(encoding="utf-8"), re.DOTALL):
        if "SentenceTransformer" not in code:
            exec(code.replace('"repo"', repr(str(repo))), {})
