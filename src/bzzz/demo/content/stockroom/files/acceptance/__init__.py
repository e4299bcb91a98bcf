"""What each open issue asks for, as a test that fails until it is resolved."""
