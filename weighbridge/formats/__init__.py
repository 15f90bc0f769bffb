"""Number formats: what a stored weight's bytes mean. One row for each spelling (`schemes`), one reader of claims, one decoder."""
