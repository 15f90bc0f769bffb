"""One file per reader: how it matches, fuses, cuts and is configured."""
