"""Coding agents at work: one attempt is one worker process, one work tree, one process group.

``runner`` is the node's side of the ``AgentRunner`` port; ``worker`` is the process it starts. What the two
share is light on purpose (standard library only), since the worker's start is part of every task's latency.
This package file imports nothing, for the same reason.
"""
