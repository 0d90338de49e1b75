"""Images as others run and build them: Docker compose, Kubernetes, buildx bake. Values to text, no I/O."""
