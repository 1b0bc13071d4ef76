"""The store on Elasticsearch, on a real node."""
