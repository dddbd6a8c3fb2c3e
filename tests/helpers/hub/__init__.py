"""A small Hub on this machine, for tests: what huggingface_hub, transformers and datasets ask for over HTTP.

Each repo is a bare git repository (real commits, branches, tags, pull requests); large files are LFS pointers in it and
blobs beside it, as on the real Hub. There are one user, one token, one organization, no quotas and no Xet storage.

    with serve(folder) as hub:
        subprocess.run(command, env=hub.environment(home))
        assert not hub.requests("PUT")
"""

from .hub import PATIENCE, Hub
from .server import serve

__all__ = ["PATIENCE", "Hub", "serve"]
