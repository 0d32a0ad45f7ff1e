"""REST over the services, under ``/v1``: one file a resource, one table of operations each."""
