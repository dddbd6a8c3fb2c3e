"""What lies in a state dict and is no part of the network, and weights that are stored in a form of their own."""

import re
from collections.abc import Sequence

from .networks import Member

# Last parts of names: profilers count operations, torch keeps a module's extra state and the length of an average.
_LAST = {"total_ops", "total_params", "n_averaged", "_extra_state"}
# First parts of names: losses and metrics, which training scripts keep as modules beside the network.
_FIRST = re.compile(
    r"(\w+_)?(criterions?|criteria|loss(es)?|loss_?f(n|unc\w*)|metrics?|psnr|m?s_?ssim|ssim|lpips|accuracy|acc|auroc|f1"
    r"|precision|recall|perceptual(_?\w+)?|vgg(\d+)?(_?loss)?)(_\w+)?",
    re.IGNORECASE,
)
# Parts of a path to a loss's network. "best_val_loss" is a key for the weights with the smallest one.
_LOSS = re.compile(
    r"(?!best|min|low|last)(\w+_)?(criterions?|criteria|loss(es)?|loss_?f(n|unc\w*)|lpips|perceptual)(_\w+)?",
    re.IGNORECASE,
)
# Names of single numbers at the top: the progress of a training, not its result.
_PROGRESS = re.compile(r"(current_|global_|best_)?(epochs?|steps?|iters?|iterations?|loss|lr|num_updates|decay)(_num)?")

# Part of a name → the form, and what to do about it.
_FORMS: list[tuple[re.Pattern[str], str]] = [
    (
        re.compile(r"(^|\.)weight_g$"),
        "its weights are split by weight_norm into weight_g and weight_v ({}); multiply them:"
        " weight = weight_g * weight_v / weight_v.norm(dim=..., keepdim=True) over all dimensions but the first, and"
        " save the result",
    ),
    (
        re.compile(r"(^|\.)weight_orig$"),
        "its weights are stored as weight_orig ({}), by spectral_norm or pruning; in code that has the network, call"
        " remove_spectral_norm or prune.remove, and save the state_dict() again",
    ),
    (
        re.compile(r"(^|\.)parametrizations\."),
        "its weights are stored through parametrizations ({}); in code that has the network, call"
        " torch.nn.utils.parametrize.remove_parametrizations on each of them, and save the state_dict() again",
    ),
    (
        re.compile(r"(^|\.)(lora_[AB]|lora_(up|down|embedding_[AB])|lora_magnitude_vector|hada_w\d_[ab])(\.|$)"),
        "a LoRA adapter, or a network with one ({}): its weights are changes of another network's; merge it first"
        " (peft: model.merge_and_unload()) and save the state_dict() of the result",
    ),
    (
        re.compile(
            r"(^|\.)(_?packed_params(\.\w+)?|zero_points?|quant_state(\.\w+)*|absmax|quant_map|SCB|qweight|qzeros"
            r"|weight_scale(_inv)?|weight_format)$"
        ),
        "its weights are quantised ({}); choose the checkpoint from before the quantisation",
    ),
    (
        re.compile(r"(^|\.)_?flat_param(_\d+)?$"),
        "its weights are FSDP's flat parameters ({}), which hold no names; save a full state dict"
        " (StateDictType.FULL_STATE_DICT), or convert the folder of torch.distributed.checkpoint",
    ),
]


def is_left_over(name: str) -> bool:
    """Whether a name, below the network's prefix, is of something that no network needs."""
    first, _, rest = name.partition(".")
    return name.rpartition(".")[2] in _LAST or bool(
        _FIRST.fullmatch(first) or (not rest and _PROGRESS.fullmatch(first))
    )


def is_of_a_loss(path: str) -> bool:
    """Whether a dotted path leads into a loss, whose network the training did not make."""
    return any(_LOSS.fullmatch(part) for part in path.split("."))


def is_empty(members: Sequence[Member]) -> bool:
    """Whether most tensors hold no value, as DeepSpeed's third stage leaves all but the buffers."""
    return 2 * sum(0 in member.weight.shape for member in members) > len(members)


def explain_parts(names: Sequence[str]) -> str:
    """What weights are, if their names say that they are stored in another form, and what to do; else empty."""
    for pattern, text in _FORMS:
        if found := [name for name in names if pattern.search(name)]:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            return text.format(f"{found[0]!r}{more}")
    return ""
