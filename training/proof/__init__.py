"""Every query that exists: which there are, how they are checked, by how many processes."""
