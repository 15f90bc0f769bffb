"""Opening a file of a folder that somebody else filled: links may not lead out of it.

The hub's cache is made of links (`models--org--name/snapshots/REV/file -> ../../blobs/HASH`), so a link may also lead into the folder `blobs` beside
`snapshots`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from weighbridge.errors import WeighbridgeError


def open_inside(root: Path, file: str) -> int:
    """A handle of the plain file `file` of `root`. Raises `link-leads-out`, `not-a-file`, and `OSError` where it cannot be opened."""
    path = root / file
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise WeighbridgeError("not-a-file", "is not a plain file", str(path), "put a file in its place, or remove it")
        real = Path(os.readlink(f"/proc/self/fd/{handle}"))  # where the opened file lies: nobody can exchange it behind this look
        if not any(real.is_relative_to(place) for place in _places(root)):
            raise WeighbridgeError("link-leads-out", f"is a link that leads out of its folder, to {str(real)!r}", str(path),
                                   "put a copy of the file in the place of the link, or remove it")
    except BaseException:
        os.close(handle)
        raise
    return handle


def _places(root: Path) -> list[Path]:
    real = Path(os.path.realpath(root))
    return [real, real.parent.parent / "blobs"] if real.parent.name == "snapshots" else [real]
