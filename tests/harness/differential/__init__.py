"""The tables of requests that both nodes are asked, one module an area; see `harness.twins`."""
