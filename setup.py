"""What pyproject.toml can't say: recipes/, at the top of the repository, is in the wheel as hwaware/recipes."""

from setuptools import find_namespace_packages, setup

recipes = ["hwaware.recipes", *(f"hwaware.recipes.{folder}" for folder in find_namespace_packages("recipes"))]

setup(
    packages=[*find_namespace_packages(include=["hwaware", "hwaware.*"]), *recipes],
    package_dir={"hwaware.recipes": "recipes"},
)
