"""`trace`: text."""
