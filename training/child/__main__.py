"""`python -m training.child TASK`: do one task for the process that started this one."""

import sys

from pydantic import ValidationError

from training.child.protocol import TASK
from training.child.supervision import be_supervised
from training.errors import MennyError


def main() -> None:
    """Do the task; exit with 0, or with 1 and a line that begins with `error: `."""
    be_supervised()
    from training.child.work import do  # imports MLX: at the lowest priority already

    try:
        do(TASK.validate_json(sys.argv[1]))
    except ValidationError as error:
        sys.exit(f"error: the argument is no task: {error.errors(include_url=False)[0]['msg']}")
    except MennyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
