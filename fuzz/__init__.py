"""Coverage-guided fuzzing of what takes bytes from strangers; `make fuzz` runs it."""
