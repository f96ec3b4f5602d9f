"""The network: encoder, pooling, prototypes and losses."""
