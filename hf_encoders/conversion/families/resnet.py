"""ResNet: torchvision's and timm's names, transformers', and the numbers of `Sequential(*resnet.children())`.

He et al., Deep Residual Learning for Image Recognition, 2016. The stride of a bottleneck is on its 1x1 convolution
there (v1), and on its 3x3 convolution in torchvision and timm (v1.5); no tensor tells which.
"""

import re
from collections.abc import Iterator, Mapping

import torch.nn.functional as F
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from ..assumptions import Assumption
from ..encoders.stated import stated_numbers, stated_values
from .family import EncoderOptions, Family, FileTensors, Images, Plan, block_count
from .inputs import image_inputs
from .layers import Tensors, batch_norm, conv, linear
from .moves import Move, made, same
from .transformers_names import AMONG, RESNET_NAMING, STAGE_NORMS, states

_NORM = ("weight", "bias", "running_mean", "running_var")
_COUNTER = "num_batches_tracked"
_STAGES = range(1, 5)
_BLOCK = r"\.\d+\.(?:conv[123]|bn[123]|downsample\.[012])\..+"
_NAMES = (
    FamilyNames(
        "resnet",
        re.compile(rf"(?:conv1|bn1)\..+|layer[1-4]{_BLOCK}|fc\.(?:weight|bias)"),
        (re.compile(r"conv1\."), re.compile(r"bn1\.running_mean$"), re.compile(r"layer1\.0\.conv1\.weight$")),
    ),
    FamilyNames(
        "resnet",
        re.compile(rf"0\.weight|1\.(?:{'|'.join(_NORM)}|{_COUNTER})|[4-7]{_BLOCK}"),
        (re.compile(r"0\.weight$"), re.compile(r"1\.running_mean$"), re.compile(r"4\.0\.conv1\.weight$")),
    ),
    RESNET_NAMING.names,
)
_NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4", "9": "fc"}
# Heads of self-supervised training, which sit in place of fc or beside it.
_HEADS = re.compile(r"(?:fc\.\d+|projection_head|projector|prediction_head|predictor|prototypes|head|aux_head)\b.*")
# Heads for segmentation, whose backbones are often dilated: torchvision's, mmsegmentation's, DeepLab's and PSPNet's.
_SEGMENTATION = re.compile(
    r"(?:^|\.)(?:(?:aux_classifier|auxiliary_head|decode_head|sem_seg_head|aspp|ppm|psp)\.|classifier\.(?:\d+\.convs|4)\.)"
)
_MOMENTUM = re.compile(r"encoder_[qk]$")
_IMAGENET = Images(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resample="bilinear")
_CLASSIFIER = "classifier.1"  # in transformers
_EARLY = "downsample_in_bottleneck"  # transformers' name of a stride on the first 1x1 convolution
_CHECKED = 96  # pixels; all strides and paddings show, and it costs a fifth of 224


def _canonical(name: str) -> str:
    first, dot, rest = name.partition(".")
    return f"{_NUMBERED[first]}{dot}{rest}" if first in _NUMBERED else RESNET_NAMING.canonical(name)


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    _refuse_relatives(file)
    width, channels, *_ = file.shape("conv1.weight", 4)
    if options.stride_in is not None and "layer1.0.conv3.weight" not in file.shapes:
        raise file.refuse("its blocks are no bottlenecks, whose stride has one place; leave --stride-in out")
    stages = [stage for stage in _STAGES if block_count(file.shapes, f"layer{stage}.")]
    depths = [block_count(file.shapes, f"layer{stage}.") for stage in stages]
    bottleneck = "layer1.0.conv3.weight" in file.shapes
    last = "conv3" if bottleneck else "conv2"
    hidden_sizes = [file.shape(f"layer{stage}.0.{last}.weight", 4)[0] for stage in stages]
    _refuse_wide(file, stages, depths, bottleneck)
    dropped, head = _head(file, options)
    told_early = options.stride_in is None and RESNET_NAMING.is_of(file) and states(file, _EARLY)
    early = bottleneck and (told_early or options.stride_in == "1x1")
    prefix = "resnet." if head else ""
    moves = list(_moves(file, depths, bottleneck, width, hidden_sizes, prefix))
    settings: dict[str, object] = {
        "num_channels": channels,
        "embedding_size": width,
        "hidden_sizes": hidden_sizes,
        "depths": depths,
        "layer_type": "bottleneck" if bottleneck else "basic",
        "hidden_act": "relu",
        "downsample_in_bottleneck": early,
    }
    if head:
        settings["num_labels"] = file.shape(f"{head}.weight", 2)[0]
        moves += [same(f"{head}.weight", f"{_CLASSIFIER}.weight"), _classifier_bias(file, head)]
    assumed = []
    if bottleneck and options.stride_in is None:
        what = "stride on the 3x3 convolution of a bottleneck (v1.5, as torchvision and timm)"
        if early:
            what = f"stride on the first 1x1 convolution of a bottleneck (v1){AMONG}"
        assumed.append(Assumption("stride", what, ("--stride-in",)))
    if any(map(_SEGMENTATION.search, file.beside)):
        what = "stages that halve the image, and no dilation, although a head for segmentation is beside the network,"
        assumed.append(Assumption("dilation", what, ()))

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, inputs["pixel_values"], depths, bottleneck, early, head)

    return Plan(
        architecture="ResNetForImageClassification" if head else "ResNetModel",
        settings=settings,
        moves=moves,
        reference=reference,
        inputs=image_inputs(channels, _CHECKED),
        dropped=dropped,
        assumed=assumed,
        images=Images(_IMAGENET.mean, _IMAGENET.std, None, _IMAGENET.crop, _IMAGENET.resample, channels),
    )


def _refuse_relatives(file: FileTensors) -> None:
    """Refuse the relatives of ResNet that ResNetModel cannot hold, by their names."""
    names = file.shapes

    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in names)

    if told := _told_relative(file):
        raise file.refuse(f"{told}, as its arguments say, which ResNetModel cannot hold")
    if has(r"attnpool\."):
        raise file.refuse("the ModifiedResNet of a CLIP, which pools by attention, and which ResNetModel cannot hold")
    if has(r"conv1\.\d+\."):
        raise file.refuse("a ResNet-D, with a stem of three convolutions, which ResNetModel cannot hold")
    if has(rf"{re.escape(STAGE_NORMS)}"):
        raise file.refuse("a network of transformers with a norm for each stage, which ResNetModel cannot hold")
    if RESNET_NAMING.is_of(file):
        _refuse_of_transformers(file)
    if has(r"layer\d\.\d+\.downsample\.2\."):
        raise file.refuse("a ResNet-D, which pools before it downsamples, and which ResNetModel cannot hold")
    if has(r"layer\d\.\d+\.(?:se|se_module)\."):
        raise file.refuse("an SE-ResNet (squeeze and excitation), which ResNetModel cannot hold")
    if has(r"layer\d\.\d+\.(?:convs|bns)\.\d"):
        raise file.refuse("a Res2Net, whose blocks have convolutions of several scales, which ResNetModel cannot hold")
    if has(r"layer\d\.\d+\.conv\d\.(?:attn|conv|fc|paths)"):
        raise file.refuse("a ResNet with attention in its convolutions (SK, ResNeSt), which ResNetModel cannot hold")
    if "bn1.weight" in names and not has(r".*\.running_mean$"):
        raise file.refuse("a ResNet with norms that keep no statistics (GroupNorm), which ResNetModel cannot hold")
    if not has(r"layer1\.0\."):
        raise file.refuse("lacks the blocks of a ResNet ('layer1.0.conv1.weight')")
    kernel = file.shape("conv1.weight", 4)[2:]
    if kernel != (7, 7):
        small = "a ResNet with the small stem of CIFAR" if kernel == (3, 3) else "a ResNet with another stem"
        raise file.refuse(f"{small} ({kernel[0]}x{kernel[1]}), which ResNetModel, with 7x7, cannot hold")


def _refuse_of_transformers(file: FileTensors) -> None:
    """Refuse what transformers names as its ResNet, and what is not built here."""
    if file.shape("conv1.weight", 4)[2:] == (3, 3):
        raise file.refuse("a RegNet under transformers' names (its stem is 3x3), which ResNetModel cannot hold")
    size = file.shapes.get("layer1.0.downsample.0.weight", ())[:2]
    if states(file, "downsample_in_first_stage") or (size and size[0] == size[1]):
        raise file.refuse(
            "a ResNet whose first stage halves the image (downsample_in_first_stage), whose strides no tensor tells;"
            " load it by transformers"
        )
    if others := [act for act in stated_values(file.metadata, "hidden_act") if isinstance(act, str) and act != "relu"]:
        raise file.refuse(
            f"its arguments state the activation {others[0]}, which ResNetModel has behind its blocks and not within;"
            " load it by transformers"
        )


def _told_relative(file: FileTensors) -> str:
    """A relative with the same tensors, by the arguments of the file's training; empty without one."""
    for name in stated_values(file.metadata, "arch", "model", "model_name"):
        if isinstance(name, str) and re.match(r"resnet(?:aa|blur)\d", name.lower()):
            return f"a ResNet that blurs before it takes every second pixel ({name})"
    halves = [
        value
        for value in stated_values(file.metadata, "replace_stride_with_dilation")
        if isinstance(value, (list, tuple))
    ]
    numbers = stated_numbers(file.metadata, "dilations")
    is_told = any(value is True for value in stated_values(file.metadata, "dilation"))
    if is_told or any(map(any, halves)) or any(max(found) > 1 for found in numbers):
        return "a dilated ResNet"
    return ""


def _refuse_wide(file: FileTensors, stages: list[int], depths: list[int], bottleneck: bool) -> None:
    for stage, depth in zip(stages, depths, strict=True):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            out, into, *_ = file.shape(f"{name}.conv2.weight", 4)
            if file.shape(f"{name}.conv1.weight", 4)[0] != into:
                raise file.refuse("a ResNeXt (grouped convolutions), which ResNetModel cannot hold")
            if bottleneck and file.shape(f"{name}.conv3.weight", 4)[0] != 4 * out:
                raise file.refuse("a wide ResNet (its bottlenecks are wider), which ResNetModel cannot hold")


def _head(file: FileTensors, options: EncoderOptions) -> tuple[list[str], str]:
    """The names that are left out, and the name of the classifier that is kept; empty without one."""
    dropped = [name for name in file.shapes if _HEADS.fullmatch(name)]
    head = _CLASSIFIER if RESNET_NAMING.is_of(file) else "fc"
    if f"{head}.weight" not in file.shapes:
        return dropped, ""
    is_projection = bool(_MOMENTUM.search(file.place))  # MoCo v1 keeps its projection under the name of fc
    if options.without_head or is_projection:
        return [*dropped, *(name for name in (f"{head}.weight", f"{head}.bias") if name in file.shapes)], ""
    return dropped, head


def _classifier_bias(file: FileTensors, head: str) -> Move:
    target = f"{_CLASSIFIER}.bias"
    if f"{head}.bias" in file.shapes:
        return same(f"{head}.bias", target)
    return made(target, "zeros", (file.shape(f"{head}.weight", 2)[0],))


def _moves(
    file: FileTensors, depths: list[int], bottleneck: bool, width: int, hidden_sizes: list[int], prefix: str
) -> Iterator[Move]:
    def layer(conv_name: str, norm: str, target: str) -> Iterator[Move]:
        yield same(f"{conv_name}.weight", f"{prefix}{target}.convolution.weight")
        for kind in _NORM:
            yield same(f"{norm}.{kind}", f"{prefix}{target}.normalization.{kind}")
        counter = f"{prefix}{target}.normalization.{_COUNTER}"
        # Files of PyTorch before 0.4.1 have no counters.
        has_counter = f"{norm}.{_COUNTER}" in file.shapes
        yield same(f"{norm}.{_COUNTER}", counter) if has_counter else made(counter, "counter", ())

    yield from layer("conv1", "bn1", "embedder.embedder")
    before = width
    for stage, (depth, size) in enumerate(zip(depths, hidden_sizes, strict=True)):
        for block in range(depth):
            source, target = f"layer{stage + 1}.{block}", f"encoder.stages.{stage}.layers.{block}"
            for number in range(3 if bottleneck else 2):
                yield from layer(f"{source}.conv{number + 1}", f"{source}.bn{number + 1}", f"{target}.layer.{number}")
            if block == 0 and (before != size or stage > 0):
                yield from layer(f"{source}.downsample.0", f"{source}.downsample.1", f"{target}.shortcut")
        before = size


def _forward(
    tensors: Mapping[str, Tensor], x: Tensor, depths: list[int], bottleneck: bool, early: bool, head: str
) -> dict[str, Tensor]:
    x = F.relu(batch_norm(tensors, "bn1", conv(tensors, "conv1", x, stride=2, padding=3)))
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, depth in enumerate(depths):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(tensors, f"layer{stage + 1}.{block}", x, stride, bottleneck, early)
    outputs = {"last_hidden_state": x, "pooler_output": x.mean((2, 3))}
    if head:
        outputs["logits"] = linear(tensors, head, outputs["pooler_output"])
    return outputs


def _block(tensors: Tensors, name: str, x: Tensor, stride: int, bottleneck: bool, early: bool) -> Tensor:
    """One residual block: `early` has the stride on the first of three convolutions."""
    strides = ((stride, 1, 1) if early else (1, stride, 1)) if bottleneck else (stride, 1)
    y = x
    for number, its_stride in enumerate(strides, start=1):
        padding = 0 if bottleneck and number != 2 else 1
        y = conv(tensors, f"{name}.conv{number}", y, its_stride, padding)
        y = batch_norm(tensors, f"{name}.bn{number}", y)
        y = F.relu(y) if number < len(strides) else y
    if f"{name}.downsample.0.weight" in tensors:
        x = batch_norm(tensors, f"{name}.downsample.1", conv(tensors, f"{name}.downsample.0", x, stride))
    return F.relu(x + y)


RESNET = Family("resnet", _NAMES, _plan, _canonical, "ResNet", ("stride_in", "without_head"), head="fc")
