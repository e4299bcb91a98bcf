"""A small inventory: what is there, and how many."""

__version__ = "0.3.0"
