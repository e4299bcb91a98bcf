"""The command line: one file a command, and one module (``compose``) that wires adapters to ports."""
