"""What a node must still know after a crash."""
