"""`inspect`: text."""
