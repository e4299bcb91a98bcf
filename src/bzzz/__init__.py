"""Bzzz: coding agents on several machines share one stream of issues, with nobody in the middle."""

__version__ = "0.1.0"
