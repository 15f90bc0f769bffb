"""What people and scripts read: text, Markdown and JSON. `sink` is the only place that prints."""
