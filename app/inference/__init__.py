"""From queries to answers, on the one thread that owns MLX. Knows nothing of HTTP."""
