"""Hive's HTTP interface, one module a subject; ``app`` puts them together."""
