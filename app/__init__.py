"""The service: HTTP in, letters out. `app.main.create_app` puts it together."""
