"""``python -m hwaware``."""

import os
import sys

# Python puts the working directory first, where any file named as a module would stand for it.
if sys.path[:1] in ([""], [os.getcwd()]):
    del sys.path[0]

from hwaware.cli.main import main

sys.exit(main())
