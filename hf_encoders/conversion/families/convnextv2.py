"""ConvNeXt V2: the paper's own names, timm's and transformers'; also the encoder of its masked training (FCMAE).

Woo et al., ConvNeXt V2: Co-designing and Scaling ConvNets with Masked Autoencoders, 2023. Its blocks have a global
response normalisation in place of the layer scale; the rest is ConvNeXt's.
"""

import re

from ...checkpoints.finding.networks import FamilyNames
from .convnext import CONVNEXT, Generation, canonical, plan_convnext
from .family import EncoderOptions, Family, FileTensors, Plan
from .transformers_names import CONVNEXTV2_NAMING

# Sparse convolutions, which FCMAE trains with, have kernels in place of weights, and norms and layers one level deeper.
_SPARSE = re.compile(r".+\.(?:kernel|ln\.\w+|linear\.\w+)")
_NAMES = (
    FamilyNames(
        "convnextv2",
        re.compile(
            rf"(?:downsample_layers\.\d+\.\d|norm|head)\.(?:weight|bias)|(?:downsample_layers|stages|norm){_SPARSE.pattern}"
            r"|stages\.\d+\.\d+\.(?:grn\.(?:gamma|beta)|(?:dwconv|norm|pwconv[12])\.(?:weight|bias))"
        ),
        (
            re.compile(r"downsample_layers\.0\.0\.weight$"),
            re.compile(r"stages\.0\.0\.dwconv\.(?:weight|kernel)$"),
            re.compile(r"stages\.0\.0\.grn\.gamma$"),
        ),
    ),
    FamilyNames(
        "convnextv2",
        re.compile(
            r"(?:stem\.\d|norm_pre|head\.(?:norm|fc|pre_logits\.fc)|stages\.\d+\.downsample\.\d)\.(?:weight|bias)"
            r"|stages\.\d+\.blocks\.\d+\.(?:conv_dw|norm|mlp\.(?:fc[12]|grn))\.(?:weight|bias)"
        ),
        (
            re.compile(r"stem\.0\.weight$"),
            re.compile(r"stages\.0\.blocks\.0\.conv_dw\.weight$"),
            re.compile(r"stages\.0\.blocks\.0\.mlp\.grn\.weight$"),
        ),
    ),
    CONVNEXTV2_NAMING.names,
)
_SECOND = Generation("ConvNeXt V2", "ConvNextV2", "convnextv2", CONVNEXTV2_NAMING, response_norm=True)


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    if sparse := next((key for name, key in file.keys.items() if _SPARSE.fullmatch(name)), None):
        raise file.refuse(
            f"its convolutions are MinkowskiEngine's ({sparse!r}), whose kernels ConvNextV2Model cannot hold; load the"
            " file by remap_checkpoint_keys of the ConvNeXt-V2 code, and save the state_dict() of the result"
        )
    return plan_convnext(file, options, _SECOND)


CONVNEXTV2 = Family("convnextv2", _NAMES, _plan, canonical, "ConvNeXt V2", CONVNEXT.options)
