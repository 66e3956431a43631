"""Who may do what: the admin token, names and origins, limits, and what browsers are told."""
