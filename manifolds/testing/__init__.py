"""The contract of a geometry, as a product: properties, strategies, a pytest factory and a checker."""
