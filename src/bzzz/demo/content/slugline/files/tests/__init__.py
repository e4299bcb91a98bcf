"""Unit tests of slugline; `python3 -m unittest` runs them."""
