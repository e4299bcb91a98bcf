"""Seeded worlds: many real cores over virtual time, with faults, and checkers that watch every write.

Only the cores are the product's own; network, ledger, forge and shells are models, small enough to be
believed, and cruel. The same seed gives the same world under any hash seed.
"""
