"""`python -m weighbridge`: the same as the command `weighbridge`."""

import sys

from weighbridge.cli import main

sys.exit(main())
