"""The command `ottla`: one command a module; each parses, calls and prints. stdout is data, stderr is talk."""
