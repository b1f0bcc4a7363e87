"""Arguments of the commands that read no recipe."""

from __future__ import annotations

import argparse
from typing import NoReturn

from hwaware.errors import UserError


class WordParser(argparse.ArgumentParser):
    """Raises UserError, which begins with the command's name, where argparse ends the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.split()[1]}: {message}")
