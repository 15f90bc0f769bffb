"""`run`: text and documents."""
