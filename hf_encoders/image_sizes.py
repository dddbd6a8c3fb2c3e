"""Images of another size than a network was trained with: its positions are interpolated, where a person asks for it.

A ViT, DeiT, CLIP or SigLIP of transformers does it when it is told to. A DINOv2 or v3 does it always; a ConvNet takes
any size, and so does a Swin.
"""

import inspect
from collections.abc import Mapping
from typing import cast

from PIL import Image
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs

from .models.input_errors import InputError, one_line
from .models.pixel_towers import ImageTower

_FLAG = "interpolate_pos_encoding"
_SIDES = {"height", "width", "shortest_edge"}
# Pictures that lie and stand: an image processor makes the same square of both.
_PROBES = ((40, 30), (30, 50))
_ANYTHING = (256, 256)


class SizedImageTower(ImageTower):
    """The images of a model of transformers, of its own size or of another.

    Args:
        arguments, options: see `Tower`.
        interpolate: the side in pixels of the images that it was made for; None for the model's own.
    """

    def __init__(self, *arguments: object, interpolate: int | None = None, **options: object):
        super().__init__(*arguments, **options)  # type: ignore[arg-type]  # the arguments of every tower
        self.interpolate = interpolate
        call = self._call.forward if isinstance(self._call, nn.Module) else self._call
        self._can_interpolate = _FLAG in inspect.signature(call).parameters

    @property
    def function(self) -> tuple[object, ...]:
        """See `Tower`."""
        return *super().function, self.interpolate

    def outputs(self, batch: Mapping[str, Tensor]) -> Outputs:
        """The outputs of the model for `pixel_values` [B, C, H, W].

        Raises:
            InputError: if the positions of the model are of another size.
        """
        pixels = batch["pixel_values"]
        options = {_FLAG: True} if self.interpolate is not None and self._can_interpolate else {}
        try:
            return self._call(pixels, return_dict=True, **options)
        except (ValueError, RuntimeError) as error:
            if options or not (misfit := self._misfit(pixels, error)):
                raise
            raise misfit from error

    def _misfit(self, pixels: Tensor, error: Exception) -> InputError | None:
        """What to say of images that the network refuses, if their size may be why."""
        from accelerate.utils.memory import should_reduce_batch_size

        own, given = own_size(self.model.config), (int(pixels.shape[-2]), int(pixels.shape[-1]))
        if own is None or own == given or should_reduce_batch_size(error):
            return None
        reason = f"was given images of {_text(given)} pixels, and its positions are those of {_text(own)}"
        other = f"an --image-processor of {_text(own)} pixels"
        if not self._can_interpolate:
            return InputError(
                path=self._path,
                reason=f"{reason}, which it cannot interpolate ({one_line(error)})",
                hint=f"give {other}",
            )
        wanted = str(given[0]) if given[0] == given[1] else "SIZE"
        hint = f"--interpolate {wanted} (interpolate={wanted}) interpolates them, or give {other}"
        return InputError(path=self._path, reason=reason, hint=hint)

    @property
    def _path(self) -> str:
        return self.model.config.name_or_path or type(self.model).__name__

    def check_size(self) -> None:
        """Embed one image, so that a network that takes none of this size is known at once.

        Raises:
            InputError: if it cannot.
        """
        try:
            self.encode([Image.new("RGB", _ANYTHING)], show_progress_bar=False)
        except InputError:
            raise
        except (ValueError, RuntimeError) as error:
            reason = f"cannot embed images of {self.interpolate} pixels ({one_line(error)})"
            raise InputError(path=self._path, reason=reason, hint="leave --interpolate out") from error


def own_size(config: PreTrainedConfig) -> tuple[int, int] | None:
    """The height and width of the images that a network was made for, where its configuration tells."""
    side = getattr(_of_images(config), "image_size", None)
    if isinstance(side, int):
        return side, side
    return (int(side[0]), int(side[1])) if isinstance(side, (list, tuple)) and len(side) == 2 else None


def at_side(
    name: str, config: PreTrainedConfig, processor: BaseImageProcessor, side: int
) -> tuple[BaseImageProcessor, int | None]:
    """What prepares images for a network at another size.

    Args:
        name: of the model, for errors.
        config: its configuration.
        processor: it stays as it is.
        side: of the images, in pixels.

    Returns:
        An image processor of this size; and the side, or None where it is that of model and processor anyway.

    Raises:
        InputError: if the side is no whole number of the network's patches, or the processor cannot make such images.
    """
    _check_side(name, config, side)
    made = _sized(name, processor, side)
    is_own = own_size(config) == (side, side) and made.to_dict() == processor.to_dict()
    return made, None if is_own else side


def _check_side(name: str, config: PreTrainedConfig, side: object) -> None:
    if isinstance(side, bool) or not isinstance(side, int) or side < 1:
        raise InputError(path=name, reason=f"interpolate is a number of pixels, got {side!r}")
    patch = getattr(_of_images(config), "patch_size", None)
    if not isinstance(patch, int) or hasattr(_of_images(config), "depths"):  # ConvNets and Swin take any
        return
    if side % patch and own_size(config) != (side, side):
        below = side - side % patch
        sides = f"{below} or {below + patch}" if below else str(patch)
        reason = f"--interpolate {side} is no multiple of its patches of {patch} pixels"
        raise InputError(path=name, reason=reason, hint=f"take {sides}")


def _sized(name: str, processor: BaseImageProcessor, side: int) -> BaseImageProcessor:
    """An image processor that makes squares of a side, of the same part of a picture.

    One that crops resizes in proportion: 256 and 224 pixels become 439 and 384.
    """
    settings = cast("dict[str, object]", processor.to_dict())
    size, crop = _sides(settings.get("size")), _sides(settings.get("crop_size"))
    kind = type(processor).__name__
    if not size or not settings.get("do_resize", True):
        raise InputError(path=name, reason=f"its {kind} resizes to no side, so --interpolate {side} cannot change it")
    if settings.get("do_center_crop") and crop:
        if len(set(crop.values())) > 1:
            raise InputError(path=name, reason=f"its {kind} crops no squares, which --interpolate {side} makes")
        factor = side / next(iter(crop.values()))
        changed = {"size": {key: round(value * factor) for key, value in size.items()}}
        changed["crop_size"] = {"height": side, "width": side}
    else:
        changed = {"size": dict.fromkeys(size, side)}
    made = processor.from_dict(settings | changed)
    try:
        shapes = {tuple(made(Image.new("RGB", probe), return_tensors="pt")["pixel_values"].shape) for probe in _PROBES}
    except Exception as error:  # whatever a stranger's processor raises
        reason = f"its {kind} fails with --interpolate {side} ({one_line(error)})"
        raise InputError(path=name, reason=reason) from error
    if {shape[-2:] for shape in shapes} != {(side, side)} or {len(shape) for shape in shapes} != {4}:
        raise InputError(path=name, reason=f"its {kind} makes no squares of {side} pixels, as --interpolate asks for")
    return made


def _sides(size: object) -> dict[str, int]:
    """A size of an image processor, if it is one of sides."""
    found = {str(key): value for key, value in size.items() if value is not None} if isinstance(size, Mapping) else {}
    return cast("dict[str, int]", found) if found.keys() <= _SIDES else {}


def _of_images(config: PreTrainedConfig) -> PreTrainedConfig:
    return cast(PreTrainedConfig, getattr(config, "vision_config", config))


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
