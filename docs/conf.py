"""The settings of Sphinx."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "Minions"
author = "The Minions authors"
project_copyright = author
release = version = version_of("minions-runtime")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Minions {version}"

default_role = "code"  # single backticks mean the same in docstrings as in these pages

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
