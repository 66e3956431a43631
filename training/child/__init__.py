"""The process of a training job: what it is told, and what it tells."""
