"""`explain`: text, pictures and page of rules, formats, terms and tensors."""
