"""`report`: the page, section by section, and its scripts."""
