"""The demo: what it works on is in ``content``."""
