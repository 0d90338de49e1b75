"""HTTP: connections, downloads, and who may ask whom for what."""
