"""One term in each file: the docstring is its page. See `lessons/term.py` for the form."""
