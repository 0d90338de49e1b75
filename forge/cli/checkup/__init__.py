"""What `forge doctor` looks at, by what it is about."""
