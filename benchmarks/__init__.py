"""Measurements of Bzzz beside what else does the same; ``python -m benchmarks`` runs them."""
