"""Shared by all tests: shapes and types of every call are checked, one thread, an engine."""

from jaxtyping import install_import_hook

PACKAGES = ["fusion_engine", *(f"fusion_engine_{p}" for p in ("image", "sequence", "tabular", "fusions", "generative", "digits"))]
install_import_hook(PACKAGES, "beartype.beartype")
