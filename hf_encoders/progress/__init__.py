"""What is shown while something takes long: the bars of this package, and the quiet of other libraries."""

from .quiet import hide_library_bars, no_progress_bars, quiet_libraries, quiet_tracing

__all__ = ["hide_library_bars", "no_progress_bars", "quiet_libraries", "quiet_tracing"]
