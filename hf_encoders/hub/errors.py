"""Advice about errors of the Hub, or of the connection to it."""

from collections.abc import Iterator

LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"


def hub_advice(error: BaseException) -> str:
    """Advice derived from the chain of causes, for transformers' own message may be about something else.

    Returns:
        The advice; an empty text if there is none.
    """
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if getattr(response, "status_code", None) == 401:
            return "" if "hf auth login" in str(error) else LOG_IN
        if response is None and type(cause).__module__.startswith("httpx"):
            return f"the connection broke ({cause}); try again, what has arrived is kept"
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, each once: a chain may lead back into itself."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
