"""`check`: text, and forms for machines."""
