"""Names that a wrapper puts in front of what it wraps, such as `module.`, which a network does not have itself."""

from collections.abc import Sequence

# nn.DataParallel, DDP, torch.compile, FSDP, activation checkpoints and DeepSpeed put these in front of whatever they
# wrap, a sub-module included.
WRAPPERS = {
    "module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_fpw_module",
}  # fmt: skip


def behind_wrappers(supporters: Sequence[tuple[tuple[str, ...], int]]) -> int:
    """The start of a network's names, behind the wrappers that are in front of all of them.

    Args:
        supporters: the parts of a name between its dots, and where the network seems to start in it.
    """
    start = min(start for _, start in supporters)
    while all(len(parts) > start + 1 for parts, _ in supporters):
        following = {parts[start] for parts, _ in supporters}
        if len(following) > 1 or not following <= WRAPPERS:
            break
        start += 1
    return start
