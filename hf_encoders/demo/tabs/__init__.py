"""The tabs of the page, a file for each: what stands on it, and what answers."""
