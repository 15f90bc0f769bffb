"""Writes files of given sizes from one warm buffer, preallocated, 8 MiB at a time, without fsync.

    python plain_writes.py FOLDER SIZE...

It prints the seconds from the first open to the last close: what the disk takes when no work is done.
"""
import os
import sys
import time

PIECE = 8 << 20


def write(path: str, size: int, buffer: memoryview) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.posix_fallocate(file, 0, size)
    position = 0
    while position < size:
        position += os.pwrite(file, buffer[: size - position], position)
    os.close(file)


def main() -> None:
    folder, sizes = sys.argv[1], [int(size) for size in sys.argv[2:]]
    os.makedirs(folder)
    buffer = memoryview(bytearray(os.urandom(PIECE)))
    start = time.perf_counter()
    for number, size in enumerate(sizes):
        write(os.path.join(folder, str(number)), size, buffer)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
