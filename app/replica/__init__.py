"""A replica: it answers with the version that another service, its primary, answers with."""
