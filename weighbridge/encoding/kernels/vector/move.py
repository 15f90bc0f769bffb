from ..portable.move import move  # noqa: F401
