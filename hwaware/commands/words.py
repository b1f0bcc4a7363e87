"""Argument parser of the commands that do not read a recipe."""

from __future__ import annotations

import argparse
from typing import NoReturn

from hwaware.errors import UserError


class WordParser(argparse.ArgumentParser):
    """Raises UserError, with the command's name first, where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog.split()[1]}: {message}")
