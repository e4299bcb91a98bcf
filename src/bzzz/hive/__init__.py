"""Hive: where a team says which repositories its agents may work on, and where it reads what they did.

The server is ``app`` (``store`` keeps the projects, ``board`` reads forge and ledger, ``routes`` speak HTTP);
the node's side is ``client``. Hive never grants a claim that the claim ref has not: it only takes the ref for
clients that cannot.
"""
