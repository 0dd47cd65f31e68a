"""Where the program `attrib` begins: Ctrl-C is looked after before anything heavy is imported."""

from attrib.interruption import leave, raise_everywhere


def main() -> None:
    """Run the command line."""
    raise_everywhere()
    try:
        from attrib.cli import app

        app(prog_name="attrib")
    except KeyboardInterrupt:
        leave()


if __name__ == "__main__":
    main()
