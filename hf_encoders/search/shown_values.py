"""Values of a row in short form, for people: `<PIL 224x224>` for a picture, the beginning of a long text."""

import numpy as np
import PIL.Image
from torch import Tensor

_CHARACTERS, _ITEMS = 60, 5


def shown(value: object) -> str:
    """A value as `repr` shows it, cut short; of pictures, bytes and arrays what they are."""
    if isinstance(value, PIL.Image.Image):
        return f"<PIL {value.width}x{value.height}>"
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, (np.ndarray, Tensor)):
        return f"<{str(value.dtype).removeprefix('torch.')} {list(value.shape)}>"
    if isinstance(value, str):
        return repr(value if len(value) <= _CHARACTERS else f"{value[: _CHARACTERS - 1]}…")
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {shown(one)}' for key, one in value.items())}}}"
    if isinstance(value, (list, tuple)):
        more = ["…"] if len(value) > _ITEMS else []
        return f"[{', '.join([*map(shown, value[:_ITEMS]), *more])}]"
    text = repr(value)
    return text if len(text) <= _CHARACTERS else f"<{type(value).__name__}>"
