"""`menny serve --workers N`: processes that answer from one socket, and the one that keeps them."""
