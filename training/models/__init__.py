"""The networks: a name and a width in, a backbone with its heads out; weights from outside too."""
