"""Power of the machine, by the sensors that it has."""
