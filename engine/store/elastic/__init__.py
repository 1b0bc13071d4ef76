"""The store beyond one machine: Elasticsearch."""
