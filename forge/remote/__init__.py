"""Remote caches: Bazel's HTTP cache protocol and the Remote Execution API."""
