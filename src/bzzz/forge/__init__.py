"""Forges: where issues and pull requests live.

``client`` is the ``Forge`` port over GitHub's REST interface; ``github`` (what to send, what came back),
``answer`` (what a status means), ``breaker``, ``admission`` and ``webhook`` are pure, and ``http`` is the
only module that touches the network. ``embedded`` is a forge of our own that speaks the same subset.
"""
