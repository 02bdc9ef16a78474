"""``python -m qbrm``."""

from qbrm.cli import main

if __name__ == "__main__":
    main()
