"""`verify`: text."""
