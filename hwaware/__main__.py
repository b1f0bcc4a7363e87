"""``python -m hwaware``."""

import sys

from hwaware.cli import main

sys.exit(main())
