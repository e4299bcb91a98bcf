"""The decisions of a node, pure: no clock, no input or output, no randomness.

Everything that happens enters ``NodeCore.step(now_ms, input)``; everything that should happen leaves it
as effects. See docs/architecture.md.
"""
