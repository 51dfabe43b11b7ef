"""The command ``spd``: one file per command; ``spd.cli.main`` says what such a file holds."""
