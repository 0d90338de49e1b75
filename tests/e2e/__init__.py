"""The command from outside: processes, folders, real images, a real engine."""
