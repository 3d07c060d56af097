"""The arms on which fault checks count, where an arm matters."""

EIGHT_ARMS = (
    "lora",
    "tangent",
    "direct",
    "boost",
    "direct-poincare",
    "direct-sphere",
    "direct-product",
    "dora",
)
