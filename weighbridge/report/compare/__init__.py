"""`compare`: text and picture."""
