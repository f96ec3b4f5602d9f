"""Configuration of the documentation; built by ``make docs``."""

from importlib.metadata import version as installed_version

project = "skprotolm"
author = "The skprotolm developers"
copyright = f"2026, {author}"
version = release = installed_version("skprotolm")

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"skprotolm {release}"

# A name in single backticks becomes a link if the object is documented.
default_role = "autolink"
# The docs are built without the network, so other projects' objects stay plain text.
nitpick_ignore_regex = [
    (r"py:.*", r"(joblib|numpy|pandas|sentence_transformers|sklearn|torch)\..+"),
]

# The numpydoc sections contain the types; annotations would repeat them.
autodoc_typehints = "none"
# The template lists the members, so numpydoc does not add tables.
numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "GL08",  # every public object has a docstring,
    "SS01",  # with a summary,
    "PR01",  # every parameter is documented,
    "PR02",  # and none that does not exist,
    "PR03",  # in the order of the signature,
    "PR04",  # with its type
    "PR07",  # and a description,
    "RT03",  # as is every returned value
}
numpydoc_validation_exclude = {
    # Users read the attributes of these classes and do not construct them.
    r"\.(Prototypes?|Nearest|(Label|Value|Word)?Explanations?|(Word|Sentence)Alignment|Simulatability)$",
    r"\.Nearest\.(count|index)$",  # inherited from tuple
    r"\.__\w+__$",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"plot_\w+\.py$",
    # Neither the demo nor the benchmarks are part of the gallery.
    "ignore_pattern": r"(^|[\\/])(?!plot_)[^\\/]+\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
}


def setup(app):
    """Document the members that this package defines, and no inherited ones."""
    app.connect("autodoc-skip-member", _skip_foreign_members)


def _skip_foreign_members(app, what, name, obj, skip, options):
    module = getattr(obj, "__module__", None) or project
    return skip or not module.startswith(project)
