"""A mkdocs hook that generates pages: results of studies, the API of `__all__`, notebooks."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

#: Packages with a page of their own, in the order of the navigation.
PACKAGES = ("hardware", "nn", "training", "compensation", "data", "tasks", "models", "metrics", "callbacks")

#: What others give that export nothing as a whole.
SINGLE = {
    "results": (
        "csv.read_rows",
        "csv.write_rows",
        "row.Row",
        "setting.Setting",
        "summary.Summary",
        "summary.summarise",
    ),
    "report": ("tables.markdown_table", "tables.markdown", "tables.grids"),
    "evaluation": ("run.Run",),
    "export": ("bundle.Bundle",),
}

_LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?(?=\))")
_COMMENT = re.compile(r"^<!-- .*? -->\n", flags=re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages, the figures and tables that they name, and their place in the navigation."""
    made = {**results_pages(), **api_pages()}
    linked: set[str] = set()
    for uri, text in made.items():
        if uri.startswith("results/"):
            text = rewritten(text, source_of(uri), uri, linked)
        files.append(File.generated(config, uri, content=text))
    for path in sorted(linked):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    for notebook in sorted((ROOT / "docs").glob("tutorials/*.ipynb")):
        for uri, content in notebook_page(notebook).items():
            files.append(File.generated(config, f"tutorials/{uri}", content=content))
    for entry in config.nav:
        for name in ("Results", "API"):
            if name in entry:
                entry[name] = [uri for uri in made if uri.startswith(f"{name.lower()}/")]
    return files


def on_page_content(content: str, **_: Any) -> str:
    """No line of a table ends within ``91.49 ± 0.13``."""
    return re.sub(r"(?<=\d) ± (?=\d)", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", content)


def results_pages() -> dict[str, str]:
    """Page by its place in the site; the overview first."""
    pages = [ROOT / "results" / "README.md", ROOT / "results" / "seen.md", *sorted(ROOT.glob("results/*/README.md"))]
    return {page_of(page.relative_to(ROOT).as_posix()): page.read_text(encoding="utf-8") for page in pages}


def page_of(path: str) -> str:
    """The page of the site that a page of results becomes."""
    if path == "results/README.md":
        return "results/index.md"
    return f"{posixpath.dirname(path)}.md" if path.endswith("/README.md") else path


def source_of(page: str) -> str:
    """The inverse of :func:`page_of`."""
    if page == "results/index.md":
        return "results/README.md"
    return page if page == "results/seen.md" else page.replace(".md", "/README.md")


def rewritten(text: str, source: str, page: str, linked: set[str]) -> str:
    """A page's text, its links those of the site; files of the repository that it names are added to ``linked``."""

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        if (ROOT / target).is_dir():
            target += "/README.md"
        if not (ROOT / target).is_file():
            raise PluginError(f"{source} links to {found[1]}, which is not there")
        if target == "README.md":
            return posixpath.relpath("index.md", posixpath.dirname(page))
        if target.startswith("results/") and target.endswith(".md"):
            return posixpath.relpath(page_of(target), posixpath.dirname(page)) + (found[2] or "")
        linked.add(target)
        return posixpath.relpath(f"files/{target}", posixpath.dirname(page))

    return _COMMENT.sub("", _LINK.sub(link, text))


def notebook_page(notebook: Path) -> dict[str, str | bytes]:
    """A notebook's page, its outputs as they are in it, and its figures; by their names."""
    from nbconvert import MarkdownExporter  # seconds
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    exporter = MarkdownExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)
    name, figures = notebook.stem, {"output_files_dir": f"{notebook.stem}_files", "unique_key": notebook.stem}
    text, resources = exporter.from_filename(str(notebook), resources=figures)
    title, rest = text.lstrip().split("\n", 1)
    link = f'[Download this notebook]({name}.ipynb){{ download="{name}.ipynb" }}'
    pages: dict[str, str | bytes] = {f"{name}.md": f"{title}\n\n{link}\n{rest}"}
    return pages | resources["outputs"]


def api_pages() -> dict[str, str]:
    """A page for the top level and each package: what ``__all__`` names, each name on one page only."""
    top = dict(public("hwaware"))
    homes = {name: _home(module, name) for name, module in top.items()}
    pages = {"api/index.md": _API.format(names="\n\n".join(f"::: hwaware.{name}" for name in top))}
    for package in PACKAGES:
        path, own, elsewhere = f"hwaware.{package}", [], []
        for name, module in public(path):
            if homes.get(name) == _home(module, name):
                elsewhere.append(f"[`{name}`][hwaware.{name}]")
            else:
                own.append(f"::: {path}.{name}")
        also = f"Of the top level: {', '.join(elsewhere)}.\n\n" if elsewhere else ""
        about = f"::: {path}\n    options: {{members: false, show_root_heading: false, show_root_toc_entry: false}}"
        pages[f"api/{package}.md"] = f"# {path}\n\n{about}\n\n{also}" + "\n\n".join(own) + "\n"
    for package, names in SINGLE.items():
        listed = "\n\n".join(f"::: hwaware.{package}.{name}" for name in names)
        pages[f"api/{package}.md"] = f"# hwaware.{package}\n\n{listed}\n"
    return pages


_API = """# hwaware

What `import hwaware` gives. Each of the packages has a page of its own.

{names}
"""


def public(package: str) -> Iterator[tuple[str, str]]:
    """``(name, module it is imported from)`` of what a package exports, without importing it."""
    tree = ast.parse(_file(package).read_text(encoding="utf-8"))
    modules = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("hwaware")
        for alias in node.names
    }
    for name in sorted((name for name in modules if name[0] != "_"), key=str.lower):
        yield name, modules[name]


def _home(module: str, name: str) -> str:
    """The module that defines a name which another may only pass on."""
    file = _file(module)
    passed_on = dict(public(module)) if file.name == "__init__.py" else {}
    return _home(passed_on[name], name) if name in passed_on else module


def _file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
