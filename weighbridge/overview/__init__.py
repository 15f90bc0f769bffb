"""Everything that is known of a checkpoint, as one document: what the report shows."""
