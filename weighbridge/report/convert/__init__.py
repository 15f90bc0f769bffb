"""`convert`: text."""
