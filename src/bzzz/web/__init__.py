"""What a running node shows on loopback: its state and its events, over HTTP."""
