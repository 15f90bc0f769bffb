"""One rule in each file: its code, its page (this is the docstring) and its function `find`. See `check/rule.py`."""
