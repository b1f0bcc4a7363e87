"""``python -m hwaware``."""

import sys

from hwaware.cli.main import main

sys.exit(main())
