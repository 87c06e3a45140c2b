"""The command line: parses, calls, prints. Each command imports the slow modules that it needs itself."""
