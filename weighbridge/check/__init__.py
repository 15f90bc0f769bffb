"""Will a reader load this checkpoint, with this configuration, and compute the right thing? Rules over a `Case`.

`case.py` is what rules see, `rule.py` and `finding.py` what they are and give, `rules/` one file for each,
`run.py` runs them. Nothing here prints.
"""
