"""`menny doctor`: Menny examines the machine, its settings and herself, and says what would help.

A check is a small function that returns a `Finding`. What it looks at is handed to it, so that a
test can show it every machine there is; `app.doctor.examine` hands it this one.
"""
