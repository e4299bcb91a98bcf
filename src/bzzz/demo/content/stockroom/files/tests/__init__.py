"""Unit tests of stockroom; `python3 -m unittest` runs them."""
