"""Aggregated APIs: whole group versions that another server answers (APIService with a Service, kube-aggregator).

`Aggregation` finds the server of a request and passes the request on in the user's name; a loop keeps the `Available`
conditions and what discovery and OpenAPI tell of those servers. A cluster without such APIServices pays one look at the
store a request.
"""
