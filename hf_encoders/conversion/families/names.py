"""How the tensors of each family are named: enough to find them in a file, without building a network."""

import re

from ...checkpoints.finding.networks import FamilyNames, Network
from .encoders import ENCODERS

DEPTH, MULTIMODAL_NAMES = "depth", "multimodal-encoder"
DUAL_ENCODER = "VisionTextDualEncoderModel"

_ENCODER = (
    r"(?:encoder\.)?(?:(?:stem|depth_enhance|multiscale_fusion|fc|se_block\.fc)\.\d+\..+|se_block\.alpha"
    r"|layer[1-4]\.\d+\.(?:conv[123]|bn[123]|downsample\.\d+)\..+"
    r"|attention[123]\.(?:gamma|(?:spatial_conv|channel_attention)\.\d+\..+))"
)
_DECODER = (
    r"decoder\.(?:global_fc|spatial_fc|spatial_fusion|spatial_upsample|initial_conv|decoder_blocks|final_conv)\.\d+\..+"
)
_PROJECTIONS = r"(?:text|visual)_projection\..+"


def _family(name: str, pattern: str, *marks: str) -> FamilyNames:
    return FamilyNames(name, re.compile(pattern), tuple(map(re.compile, marks)))


OWN_FAMILIES = (
    _family(
        DEPTH,
        f"{_ENCODER}|{_DECODER}",
        r"(?:encoder\.)?(?:attention\d|se_block|depth_enhance|multiscale_fusion)\.",
    ),
    _family(
        MULTIMODAL_NAMES,
        rf"(?:text|visual)_encoder\..+|{_PROJECTIONS}|temperature",
        r"text_encoder\.",
        # Names of transformers: others with such towers, as ALBEF and BLIP, are no legacy files.
        r"visual_encoder\.(?:\w+\.)?(?:embeddings|encoder|layernorm|pooler)\.",
    ),
    # One that lacks its image tower is refused as such, and is no BERT.
    _family(
        MULTIMODAL_NAMES,
        rf"text_encoder\..+|{_PROJECTIONS}|temperature",
        r"text_encoder\.embeddings\.",
        r"text_projection\.",
        r"visual_projection\.",
    ),
)
FAMILIES = (
    *OWN_FAMILIES,
    *(names for family in ENCODERS.values() for names in family.names),
    # CLIPs have such names too, and come before it.
    _family(
        DUAL_ENCODER,
        rf"(?:text|vision)_model\..+|{_PROJECTIONS}|logit_scale",
        r"text_model\.",
        r"vision_model\.",
    ),
)


def layout_of(network: Network) -> str:
    """The layout of a network, such as "depth-autoencoder", by its names; empty if it is of no known family."""
    if network.family != DEPTH:
        return network.family
    return "depth-autoencoder" if any(m.name.startswith("decoder.") for m in network.members) else "depth-encoder"
