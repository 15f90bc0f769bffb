"""`draw`: text, Markdown, pictures and page."""
