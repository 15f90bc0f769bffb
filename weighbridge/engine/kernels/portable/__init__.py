"""Plain loops: every CPU, and the code to read first."""
