"""`python -m lf_lightning` is `lf`; DDP starts its other processes this way where `lf` was."""

from __future__ import annotations

import sys

from lf_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
