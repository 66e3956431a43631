"""Retraining: jobs, the versions they make, and which one is active. Knows nothing of HTTP."""
