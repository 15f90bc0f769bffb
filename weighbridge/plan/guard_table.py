"""The table that `guard.py` fills and the compiled handler of `bus_error.py` reads."""

from __future__ import annotations

import mmap

CALL = -1  # as the signal's number: `at` is the address of the table
ROWS = 1 << 17  # files that can be mapped at once; the kernel's own limit (vm.max_map_count) is 65,530
# Words of the table: the number of faults, rows in use, addresses of the earlier sigaction and of the default one, how often a signal
# was passed on, and the mask of a page's address. Then a row for each file: first address, address behind the last, faults.
FAULTS, USED, EARLIER, DEFAULT, PASSED, MASK, HEAD, WIDTH = 0, 1, 2, 3, 4, 5, 8, 3
FIXED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED, which Python does not name
