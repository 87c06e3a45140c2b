"""Judge masks or seeds against masks that a person drew."""
