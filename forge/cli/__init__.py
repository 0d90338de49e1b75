"""The command line: arguments to calls, events to text."""
