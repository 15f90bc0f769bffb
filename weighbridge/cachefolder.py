"""Where this user's caches lie: below WEIGHBRIDGE_CACHE, else XDG_CACHE_HOME/weighbridge or ~/.cache/weighbridge."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def cache_root() -> Path | None:
    """The folder of all caches, which need not be there; None where the user has no home."""
    named, standard = os.environ.get("WEIGHBRIDGE_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if named:
            return Path(named).expanduser().absolute()
        base = Path(standard) if os.path.isabs(standard) else Path("~/.cache").expanduser()  # the XDG rules pass over a relative path
        return base / "weighbridge" if base.is_absolute() else None
    except RuntimeError:  # `~` of nobody
        return None


def private_folder(name: str) -> Path | None:
    """A folder for code that this process will run: made with 0700, owned by this user, and writable by nobody else.

    None where there is no such place. A home that cannot be written is passed over for the folder for temporary files.
    """
    for place in (cache_root, _temporary):
        try:
            root = place()
            if root is None:
                continue
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = root / name
            folder.mkdir(exist_ok=True, mode=0o700)
            if _private(folder) and os.access(folder, os.W_OK | os.X_OK):
                return folder
        except OSError:
            continue
    return None


def _temporary() -> Path:
    return Path(tempfile.gettempdir()).absolute() / f"weighbridge-{os.geteuid()}"


def _private(folder: Path) -> bool:
    """Whether only this user (and root) can change what is in `folder`, or put another folder in its place."""
    own = folder.lstat()
    if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.geteuid() or own.st_mode & 0o022:
        return False
    for above in folder.resolve().parents:
        there = above.stat()
        if there.st_uid not in (0, os.geteuid()):
            return False
        others = 0o002 if there.st_gid == os.getegid() else 0o022  # a group of one's own is usual where umask is 002
        if there.st_mode & others and not there.st_mode & stat.S_ISVTX:
            return False
    return True
