"""Whole processes, measured side by side: see ../README.md."""
