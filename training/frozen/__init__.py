"""Networks that others trained, as teachers: a name such as `timm:...` in; a frozen network and how it sees out."""
